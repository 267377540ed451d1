//! `berth image import`: images from files.

mod archive;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use tokio::sync::mpsc;

use self::archive::Source;
use crate::api::admin::import_request::Part;
use crate::api::admin::{ImportRequest, ImportResponse, ImportStart};
use crate::node::{Admin, Node};
use crate::output::print;

/// Parts that may be read ahead of the socket.
const AHEAD: usize = 4;

const EXAMPLES: &str = "\
Examples:
  berth image import ./layout
  docker save app:1 | berth image import -
  berth image import --name localhost/app:1 app.tar";

/// Bring images from files
#[derive(Debug, Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(Import),
}

/// Import an image: a directory with an OCI layout, or an archive of one or of `docker save`
///
/// Prints a line for each image that was in it: its id, then its names.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
struct Import {
    /// Name of an image that brings none of its own
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// A directory, a tar archive, or - for an archive on standard input
    #[arg(value_name = "DIR|FILE|-")]
    source: String,
}

/// Imports, and prints what was imported.
pub(crate) async fn execute(node: &Node, options: Image) -> anyhow::Result<ExitCode> {
    let Command::Import(options) = options.command;
    let source = Source::open(&options.source)?;
    let admin = node.admin().await?;
    let name = options.name.unwrap_or_default();
    let imported = import(&admin, source, name).await;
    for image in imported.with_context(|| format!("import {}", options.source))?.images {
        print(format!("{} {}\n", image.image_id, image.references.join(" ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn import(admin: &Admin, source: Source, name: String) -> anyhow::Result<ImportResponse> {
    let (parts, receiver) = mpsc::channel(AHEAD);
    let start = ImportStart { reference: name, size: source.size() };
    parts.send(ImportRequest { part: Some(Part::Start(start)) }).await?;
    let not_whole = parts.clone();
    let reading = tokio::task::spawn_blocking(move || source.send(parts));
    let mut answer = std::pin::pin!(admin.import(receiver));
    tokio::select! {
        refused = &mut answer => return Ok(refused?),
        read = reading => if let Err(error) = read.context("read the archive")? {
            // The end of the parts is the end of the archive, and this is not it: never let go
            // of the channel, so that berthd sees the connection break instead.
            std::mem::forget(not_whole);
            return Err(error);
        }
    }
    drop(not_whole);
    Ok(answer.await?)
}
