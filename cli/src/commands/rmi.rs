//! `berth rmi`: removes images.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::for_each;
use crate::names::find_image;
use crate::node::{Cri, Node};
use crate::output::print;

/// Remove images, each with all its names
///
/// Prints a line for each image: its id, then the names that it had.
#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Removes each image, and prints what was removed.
pub(crate) async fn execute(node: &Node, options: Rmi) -> anyhow::Result<ExitCode> {
    let cri = node.cri().await?;
    for_each(&options.images, async |text| remove(&cri, text).await).await
}

async fn remove(cri: &Cri, text: &str) -> anyhow::Result<()> {
    let image = find_image(cri, text).await?;
    let image = image.with_context(|| format!("no image {text:?} is on this node"))?;
    cri.remove_image(&image.id).await?;
    print(format!("{} {}\n", image.id, image.repo_tags.join(" ")))
}
