//! `berth image prune`: removes images that nobody needs.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use clap::Args;

use crate::commands::rmi;
use crate::exit::Failure;
use crate::node::Node;
use crate::output::{Stream, note, print};
use crate::units::size;

/// Remove images that no container uses
///
/// Without --all only images that have no tag. Pinned images stay.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Also images that have a tag
    #[arg(short, long)]
    all: bool,

    /// Do not ask whether this is meant
    #[arg(short, long)]
    force: bool,
}

/// Removes them, and prints what was removed.
pub(super) async fn execute(node: &Node, options: Prune) -> anyhow::Result<ExitCode> {
    let admin = node.admin().await?;
    if !options.force && !is_meant(options.all)? {
        return Ok(ExitCode::FAILURE);
    }
    let removals = admin.prune(options.all).await?;
    for removal in &removals {
        print(rmi::lines(removal))?;
    }
    let freed = removals.iter().map(|removal| removal.freed).sum();
    print(format!("Total reclaimed space: {}\n", size::show(freed)))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks a person; without one, only --force can mean it.
fn is_meant(all: bool) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(
            Failure::usage("prune asks before it removes: use --force to answer yes").into()
        );
    }
    let what = if all { "all images without a container" } else { "all images without a tag" };
    Stream::Stderr.write(format!("This will remove {what}. Continue? [y/N] ").as_bytes())?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let is_meant = matches!(answer.trim(), "y" | "Y" | "yes");
    if !is_meant {
        note("nothing was removed");
    }
    Ok(is_meant)
}
