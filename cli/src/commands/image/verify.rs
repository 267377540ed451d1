//! `berth image verify`: whether images are still what they were.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::commands::for_each;
use crate::node::Node;
use crate::output::print;
use crate::units::size;

/// Read all files of images, and compare each layer with its digest
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Prints a line for each image that is whole, and complains about the others.
pub(super) async fn execute(node: &Node, options: Verify) -> anyhow::Result<ExitCode> {
    let admin = node.admin().await?;
    let verify = async |text: &str| {
        let bytes = admin.verify(text).await.with_context(|| format!("verify {text}"))?;
        print(format!("{text}: verified, {}\n", size::show(bytes)))
    };
    for_each(&options.images, verify).await
}
