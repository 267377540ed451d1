//! The command line: global options, and which command is meant.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    audit, completion, exec, history, image, images, import, info, inspect, login, logs, ops, pods,
    ps, pull, pulls, push, rm, rmi, run, save, stats, stop, tag, version,
};
use crate::node::{Address, Node};
use crate::units::duration;

const AFTER_HELP: &str = "\
Pods and containers are named by their id, the beginning of it, or their name. A pod's name is \
NAME or NAMESPACE/NAME; a container's is NAME or POD/NAME, and where a container is wanted, a pod \
stands for the only one in it. A name that could be several things is never guessed.

Exit codes: 0 done, 1 failed, 2 wrong usage. `run` and `exec` end with the command's own code; \
`run` with 125 if it fails itself, and both with 126 if the command cannot be executed and with \
127 if there is no such command.

Where a command has -o json, it prints one JSON value whose fields are described in its --help. \
Times are RFC 3339 in UTC, sizes are bytes, and what is not known is null.";

/// Pods, containers and images of a node that runs berth
#[derive(Debug, Parser)]
#[command(name = "berth", version = env!("CARGO_PKG_VERSION"), after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    command: Command,
}

/// Options of all commands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Socket of the CRI
    #[arg(
        long,
        global = true,
        value_name = "SOCKET",
        env = "BERTH_ADDRESS",
        default_value = "unix:///run/berth/berth.sock"
    )]
    address: Address,

    /// Socket of what only berthd answers
    #[arg(
        long,
        global = true,
        value_name = "SOCKET",
        env = "BERTH_ADMIN_ADDRESS",
        default_value = "unix:///run/berth/admin.sock"
    )]
    admin_address: Address,

    /// Longest wait for one answer, as in 30s or 2m; logs, pulls and imports are not limited
    /// [default: 10s for questions, none for actions]
    #[arg(long, global = true, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::options::Run>),
    Exec(exec::Exec),
    Logs(logs::Logs),
    Ps(ps::Ps),
    Pods(pods::Pods),
    Stats(stats::Stats),
    Inspect(inspect::Inspect),
    Stop(stop::Stop),
    Rm(rm::Rm),
    Pull(pull::Pull),
    Pulls(pulls::Pulls),
    Push(push::Push),
    Login(login::Login),
    Logout(login::Logout),
    Images(images::Images),
    Rmi(rmi::Rmi),
    Tag(tag::Tag),
    History(history::History),
    Save(save::Save),
    Import(import::Import),
    Load(import::Load),
    Image(image::Image),
    Info(info::Info),
    Ops(ops::Ops),
    Audit(audit::Audit),
    Version(version::Version),
    Completion(completion::Completion),
}

impl Cli {
    /// Does what was typed.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Global { address, admin_address, timeout } = self.global;
        let node = Node { cri: address, admin: admin_address, timeout };
        match self.command {
            Command::Run(options) => run::execute(&node, &options).await,
            Command::Exec(options) => exec::execute(&node, options).await,
            Command::Logs(options) => logs::execute(&node, options).await,
            Command::Ps(options) => ps::execute(&node, options).await,
            Command::Pods(options) => pods::execute(&node, options).await,
            Command::Stats(options) => stats::execute(&node, options).await,
            Command::Inspect(options) => inspect::execute(&node, options).await,
            Command::Stop(options) => stop::execute(&node, options).await,
            Command::Rm(options) => rm::execute(&node, options).await,
            Command::Pull(options) => pull::execute(&node, options).await,
            Command::Pulls(options) => pulls::execute(&node, options).await,
            Command::Login(options) => login::login(&node, options).await,
            Command::Logout(options) => login::logout(&node, options).await,
            Command::Push(options) => push::execute(&node, options).await,
            Command::Images(options) => images::execute(&node, options).await,
            Command::Rmi(options) => rmi::execute(&node, options).await,
            Command::Tag(options) => tag::execute(&node, options).await,
            Command::History(options) => history::execute(&node, options).await,
            Command::Save(options) => save::execute(&node, options).await,
            Command::Import(options) => import::execute(&node, options).await,
            Command::Load(options) => import::load(&node, options).await,
            Command::Image(options) => image::execute(&node, options).await,
            Command::Info(options) => info::execute(&node, options).await,
            Command::Ops(options) => ops::execute(&node, options).await,
            Command::Audit(options) => audit::execute(&node, options).await,
            Command::Version(options) => version::execute(&node, options).await,
            Command::Completion(options) => completion::execute(options),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_after_the_image_are_the_commands() {
        let words = ["berth", "run", "--rm", "busybox", "ls", "--rm", "-l"];
        let Command::Run(run) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not a run")
        };
        assert_eq!(run.words, ["busybox", "ls", "--rm", "-l"]);
        assert!(run.rm);
        assert!(Cli::try_parse_from(["berth", "run", "--typo", "busybox"]).is_err());
        assert!(Cli::try_parse_from(["berth", "run"]).is_err());
    }
}
