//! `berth exec`: a command in a container that runs.

use std::process::ExitCode;

use clap::Args;

use super::run::options::Interactive;
use crate::exit::{self, Failure};
use crate::names::Names;
use crate::node::Node;
use crate::output::Stream;

const EXAMPLES: &str = "\
Examples:
  berth exec web cat /etc/resolv.conf
  berth exec default/web/app sh -c 'echo $HOSTNAME'
  berth exec --timeout 5s web ./check";

/// Run a command in a container that runs, and print its output when it has ended
///
/// The exit code is the command's. At most 16 MiB of each stream are kept. With --timeout the
/// command is killed when its time is over.
#[derive(Debug, Args)]
#[command(override_usage = "berth exec [OPTIONS] CONTAINER COMMAND [ARGUMENT]...")]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Exec {
    #[command(flatten)]
    interactive: Interactive,

    /// The container (id, beginning of its id, or name), then the command. Options after the
    /// container are the command's
    #[arg(required = true, num_args = 2.., trailing_var_arg = true,
          value_names = ["CONTAINER", "COMMAND"])]
    words: Vec<String>,
}

/// Runs the command; the exit code is its own.
pub(crate) async fn execute(node: &Node, options: Exec) -> anyhow::Result<ExitCode> {
    options.interactive.refuse()?;
    let cri = node.cri().await?;
    let names = Names::read(&cri).await?;
    let container = names.container(&options.words[0])?;
    let answer = cri.exec_sync(&container.id, options.words[1..].to_vec()).await;
    let answer = answer.map_err(Failure::start)?;
    Stream::Stdout.write(&answer.stdout)?;
    Stream::Stderr.write(&answer.stderr)?;
    Ok(exit::of_process(answer.exit_code))
}
