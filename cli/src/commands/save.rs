//! `berth save`: images as an archive.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::api::admin::{ExportRequest, ExportResponse, export_request};
use crate::exit::Failure;
use crate::node::{Answers, Node};
use crate::output::Stream;

const EXAMPLES: &str = "\
Examples:
  berth save app:1 > app.tar
  berth save --output app.tar app:1 app:latest
  berth save app:1 | ssh node2 berth load
  berth save --format docker-archive app:1 | docker load";

/// Which archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An OCI image layout
    OciArchive,
    /// What docker save writes
    DockerArchive,
}

/// Write images to an archive, for `berth load`, podman, skopeo, containerd or docker
///
/// Layers are written as they were inside their compression, so that the image keeps its id. An
/// image that is given by a name has that name in the archive.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Save {
    /// Where to; standard output if it is not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// As what
    #[arg(long, value_enum, default_value = "oci-archive", value_name = "FORMAT")]
    format: Format,

    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Writes the archive. A file that was begun and not completed is not left behind.
pub(crate) async fn execute(node: &Node, options: Save) -> anyhow::Result<ExitCode> {
    if options.output.is_none() && Stream::Stdout.is_terminal() {
        let message = "an archive is nothing for a terminal: use --output FILE, or > FILE";
        return Err(Failure::usage(message).into());
    }
    let format = match options.format {
        Format::OciArchive => export_request::Format::Oci,
        Format::DockerArchive => export_request::Format::Docker,
    };
    let request = ExportRequest { images: options.images, format: format.into() };
    let archive = node.admin().await?.export(request).await?;
    match &options.output {
        None => copy(archive, |bytes| Stream::Stdout.write(bytes)).await?,
        Some(path) => save(archive, path).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes beside the file and renames, so that it is whole or what it was before. What is no
/// regular file is written to as it is.
async fn save(archive: Answers<ExportResponse>, path: &Path) -> anyhow::Result<()> {
    let is_special = fs::metadata(path).is_ok_and(|data| !data.is_file());
    let begun = if is_special { path.to_owned() } else { beside(path) };
    let context = || format!("write {}", path.display());
    let mut file = File::create(&begun).with_context(context)?;
    let written = copy(archive, |bytes| file.write_all(bytes).with_context(context)).await;
    if is_special {
        return written;
    }
    let done = match written {
        Ok(()) => file.sync_all().and_then(|()| fs::rename(&begun, path)).with_context(context),
        Err(error) => Err(error),
    };
    if done.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&begun);
    }
    done
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

async fn copy(
    mut archive: Answers<ExportResponse>,
    mut write: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut size, mut came) = (0, 0);
    while let Some(answer) = archive.next().await? {
        size = size.max(answer.size);
        came += answer.chunk.len() as u64;
        write(&answer.chunk)?;
    }
    if came != size {
        bail!("the archive was cut off: {came} of {size} bytes came");
    }
    Ok(())
}
