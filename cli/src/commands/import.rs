//! `berth import` and `berth load`: images from files.

mod archive;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tokio::sync::mpsc;

use self::archive::Source;
use crate::api::admin::import_request::Part;
use crate::api::admin::{ImportRequest, ImportResponse, ImportStart, ImportedImage};
use crate::exit::Failure;
use crate::node::{Admin, Node};
use crate::output::print;

/// Parts that may be read ahead of the socket.
const AHEAD: usize = 4;

const EXAMPLES: &str = "\
Examples:
  berth image import ./layout
  docker save app:1 | berth image import -
  berth image import --name localhost/app:1 app.tar";

/// Import an image: a directory with an OCI layout, or an archive of one or of `docker save`
///
/// Prints a line for each image that was in it: its id, then its names.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Import {
    /// Name of an image that brings none of its own
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// A directory, a tar archive, or - for an archive on standard input
    #[arg(value_name = "DIR|FILE|-")]
    source: String,
}

/// Load images from an archive, as `berth save`, `docker save` or `skopeo copy` write them
///
/// The same as `import`, but reads standard input unless it is told otherwise. Prints a line for
/// each name that an image has now, or its id if it has none.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The archive, compressed or not; a directory with an OCI layout does as well
    #[arg(short, long, value_name = "FILE")]
    input: Option<String>,

    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

/// Imports, and prints what was imported.
pub(crate) async fn execute(node: &Node, options: Import) -> anyhow::Result<ExitCode> {
    let images = bring(node, &options.source, options.name.unwrap_or_default()).await?;
    for image in images {
        print(format!("{} {}\n", image.image_id, image.references.join(" ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads, and prints what was loaded.
pub(crate) async fn load(node: &Node, options: Load) -> anyhow::Result<ExitCode> {
    if options.input.is_none() && io::stdin().is_terminal() {
        return Err(Failure::usage("load needs an archive: --input FILE, or < FILE").into());
    }
    let source = options.input.as_deref().unwrap_or("-");
    for image in bring(node, source, String::new()).await? {
        if options.quiet {
            continue;
        }
        if image.references.is_empty() {
            print(format!("Loaded image ID: {}\n", image.image_id))?;
        }
        for name in image.references {
            print(format!("Loaded image: {name}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn bring(node: &Node, source: &str, name: String) -> anyhow::Result<Vec<ImportedImage>> {
    let archive = Source::open(source)?;
    let admin = node.admin().await?;
    let imported = import(&admin, archive, name).await;
    Ok(imported.with_context(|| format!("import {source}"))?.images)
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
