//! `berth logs`: what a container has written.

use std::process::ExitCode;

use clap::Args;

use crate::api::admin::LogsRequest;
use crate::log_lines::Printer;
use crate::names::Names;
use crate::node::Node;
use crate::time;

const EXAMPLES: &str = "\
Examples:
  berth logs --tail 20 -f web
  berth logs -t --since 10m default/web/app
  berth logs web 2>/dev/null";

/// Print what a container has written, to standard output and standard error as it did
///
/// Not a byte is added or changed: what ends without a newline is printed without one.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Logs {
    /// Go on until the container is gone
    #[arg(short, long)]
    follow: bool,

    /// Print only so many of the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,

    /// Print only what is not older: 10m, 1h30m, or a time as in 2026-11-21T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = |text: &str| time::parse_since(text, time::now()))]
    since: Option<i64>,

    /// Put the time before each line
    #[arg(short, long)]
    timestamps: bool,

    /// The container: its id, the beginning of it, or its name
    container: String,
}

/// Prints the lines.
pub(crate) async fn execute(node: &Node, options: Logs) -> anyhow::Result<ExitCode> {
    let cri = node.cri().await?;
    let names = Names::read(&cri).await?;
    let request = LogsRequest {
        container_id: names.container(&options.container)?.id.clone(),
        follow: options.follow,
        tail: options.tail,
        since: options.since.unwrap_or(0),
    };
    let mut answers = node.admin().await?.logs(request).await?;
    let mut printer = Printer::new(options.timestamps);
    while let Some(answer) = answers.next().await? {
        printer.print(&answer.lines)?;
    }
    Ok(ExitCode::SUCCESS)
}
