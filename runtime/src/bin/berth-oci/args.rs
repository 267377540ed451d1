//! The command line.

mod criu;
mod late;
mod limits;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use criu::{Checkpoint, Criu, Restore};
use late::Late;
pub(crate) use limits::Update;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// Runs containers as the OCI runtime specification says
#[derive(Debug, Parser)]
#[command(name = "berth-oci", version = VERSION, disable_help_subcommand = true)]
#[command(disable_version_flag = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    /// Print version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Engines read the version of the specification from it.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

/// Options of all commands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Directory of the containers' records [default: /run/berth-oci]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// File that errors are appended to, beside standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,

    /// Format of that file
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// Have systemd make the cgroups; linux.cgroupsPath is then SLICE:PREFIX:NAME
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,

    /// Tell what is done, too
    #[arg(long)]
    pub(crate) debug: bool,

    /// Accepted for other engines' sake: what the caller may do decides
    #[arg(long, value_name = "BOOL", num_args = 0..=1, hide = true)]
    pub(crate) rootless: Option<String>,

    /// The program criu [default: the one in PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) criu: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a container, whose process waits to be started
    Create(Late<Create>),
    /// Start a created container
    Start {
        #[command(flatten)]
        container: Container,
    },
    /// Create and start a container, wait for it, and delete it
    Run(Late<Run>),
    /// Print the state of a container
    State {
        #[command(flatten)]
        container: Container,
    },
    /// Send a signal to a container's first process
    Kill(Late<Kill>),
    /// Delete a container
    Delete(Late<Delete>),
    /// Run one more process in a container
    Exec(Late<Exec>),
    /// Freeze all processes of a container
    Pause {
        #[command(flatten)]
        container: Container,
    },
    /// Let the processes of a frozen container go on
    Resume {
        #[command(flatten)]
        container: Container,
    },
    /// Change the limits of a container
    Update(Late<Update>),
    /// Print what a container uses, and when it runs out of memory
    Events(Late<Events>),
    /// Save a container's processes to files
    Checkpoint(Late<Checkpoint>),
    /// Make a container of saved processes
    Restore(Late<Restore>),
    /// List containers
    List(Late<List>),
    /// List the processes of a container
    Ps(Late<Ps>),
    /// Write a configuration to start from
    Spec(Late<Spec>),
    /// Print what this runtime can do
    Features,
}

#[derive(Debug, Args)]
pub(crate) struct Container {
    /// Id of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// What passes between a new process and who asks for it.
#[derive(Debug, Args)]
pub(crate) struct Handover {
    /// Socket that the master of the process's terminal is sent to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,

    /// File that the process's PID is written to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,

    /// Socket that a pidfd of the process is sent to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,

    /// How many descriptors from 3 on are the process's
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) container: Container,

    /// Directory with config.json and the root file system
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,

    #[command(flatten)]
    pub(crate) handover: Handover,

    /// Change the root without pivot_root, as a ramdisk needs it
    #[arg(long)]
    pub(crate) no_pivot: bool,

    /// Do not make a session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,

    /// Do not wait for the container
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Do not delete the container when it has ended
    #[arg(long)]
    pub(crate) keep: bool,

    /// Accepted for other engines' sake: this process never adopts others
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    #[command(flatten)]
    pub(crate) container: Container,

    /// Name or number of the signal
    #[arg(value_name = "SIGNAL", default_value = "TERM", allow_hyphen_values = true)]
    pub(crate) signal: String,

    /// Send it to all processes of the container
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) container: Container,

    /// Kill it if it runs, and be content if it does not exist
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) container: Container,

    /// Command and its arguments
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "process"
    )]
    pub(crate) command: Vec<String>,

    /// File with the process, as the specification has it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,

    /// Do not wait for the process
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,

    /// One more variable of the environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,

    /// User and group, as numbers
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,

    /// One more group
    #[arg(short = 'g', long, value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,

    /// One more capability
    #[arg(short, long, value_name = "CAP")]
    pub(crate) cap: Vec<String>,

    /// Let it gain no privileges
    #[arg(long)]
    pub(crate) no_new_privs: bool,

    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,

    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,

    #[command(flatten)]
    pub(crate) handover: Handover,

    /// Be content with a paused container
    #[arg(long)]
    pub(crate) ignore_paused: bool,

    /// Cgroup of the process, by its path below the container's
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Format of the list
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: ListFormat,

    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Format of the list
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: ListFormat,

    #[command(flatten)]
    pub(crate) container: Container,

    /// Options of ps(1)
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Spec {
    /// Directory that config.json is written to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,

    /// For a user without privileges
    #[arg(long)]
    pub(crate) rootless: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) container: Container,

    /// Print once what it uses, and be done
    #[arg(long)]
    pub(crate) stats: bool,

    /// Time between two lines, as in 500ms, 5s or 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) interval: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}")),
    };
    let seconds = number.parse::<f64>().map_err(|error| error.to_string())? * scale;
    let parsed = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if parsed.is_zero() { Err("it must be more than 0".to_owned()) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in [("100ms", 100), ("5s", 5000), ("1.5m", 90_000), ("2", 2000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "0s", "-1s", "1x", "ms"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
