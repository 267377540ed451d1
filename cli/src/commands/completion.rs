//! `berth completion`: a script for a shell.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::output::Stream;

/// Print a script that completes berth's commands and options in a shell
///
/// For bash: `source <(berth completion bash)`, or put it into
/// /usr/share/bash-completion/completions/berth.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn execute(options: Completion) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "berth", &mut script);
    Stream::Stdout.write(&script)?;
    Ok(ExitCode::SUCCESS)
}
