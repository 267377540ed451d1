//! `berth image`: everything that can be done to images, under one word.
//!
//! Most of it is a command of its own as well, by the name that users of other engines know.

mod inspect;
mod prune;
mod scrub;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{history, images, import, pull, push, rmi, save, tag};
use crate::node::Node;

/// Everything about images
#[derive(Debug, Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(visible_alias = "list")]
    Ls(images::Images),
    Pull(pull::Pull),
    Push(push::Push),
    Inspect(inspect::Inspect),
    History(history::History),
    Tag(tag::Tag),
    #[command(visible_alias = "remove")]
    Rm(rmi::Rmi),
    Prune(prune::Prune),
    Scrub(scrub::Scrub),
    Verify(verify::Verify),
    #[command(visible_alias = "export")]
    Save(save::Save),
    Import(import::Import),
    Load(import::Load),
}

/// Does what was typed.
pub(crate) async fn execute(node: &Node, options: Image) -> anyhow::Result<ExitCode> {
    match options.command {
        Command::Ls(options) => images::execute(node, options).await,
        Command::Pull(options) => pull::execute(node, options).await,
        Command::Push(options) => push::execute(node, options).await,
        Command::Inspect(options) => inspect::execute(node, options).await,
        Command::History(options) => history::execute(node, options).await,
        Command::Tag(options) => tag::execute(node, options).await,
        Command::Rm(options) => rmi::execute(node, options).await,
        Command::Prune(options) => prune::execute(node, options).await,
        Command::Scrub(options) => scrub::execute(node, options).await,
        Command::Save(options) => save::execute(node, options).await,
        Command::Verify(options) => verify::execute(node, options).await,
        Command::Import(options) => import::execute(node, options).await,
        Command::Load(options) => import::load(node, options).await,
    }
}
