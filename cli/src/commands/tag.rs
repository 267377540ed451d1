//! `berth tag`: one more name for an image.

use std::process::ExitCode;

use clap::Args;

use super::for_each;
use crate::node::Node;

/// Give an image more names
///
/// A name that another image has is taken from it, and that image stays.
#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// The image: a name, an id, or the beginning of one
    image: String,

    /// The new names; without a tag, it is latest
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Gives each name.
pub(crate) async fn execute(node: &Node, options: Tag) -> anyhow::Result<ExitCode> {
    let admin = node.admin().await?;
    let tag = async |name: &str| Ok(admin.tag(&options.image, name).await.map(drop)?);
    for_each(&options.names, tag).await
}
