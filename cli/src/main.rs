//! `berth`: what a person types.
//!
//! Talks to the two sockets of berthd, the CRI's and the admin's, and knows nothing else of it.
//!
//! ```text
//!  args ─► commands/X ─► names (which object is meant) ─► node (the two sockets)
//!                 └────► table, output, log_lines, live (what a person sees)
//! ```

mod api;
mod args;
mod commands;
mod exit;
mod live;
mod log_lines;
mod names;
mod node;
mod output;
mod pod_logs;
mod rate;
mod table;
mod time;
mod units;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::args::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime.context("set up the async runtime") {
        Ok(runtime) => runtime,
        Err(error) => return exit::failed(&error),
    };
    let done = runtime.block_on(cli.run());
    // A thread that still reads standard input must not keep us.
    runtime.shutdown_background();
    done.unwrap_or_else(|error| exit::failed(&error))
}
