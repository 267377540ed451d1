//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs containers as the OCI runtime specification says
#[derive(Debug, Parser)]
#[command(name = "berth-oci", version = VERSION, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Engines read the version of the specification from it.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

/// Options of all commands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Directory of the containers' records
    #[arg(long, value_name = "DIR", default_value = "/run/berth-oci")]
    pub(crate) root: PathBuf,

    /// File that errors are appended to, beside standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,

    /// Format of that file
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// Have systemd make the cgroups; linux.cgroupsPath is then SLICE:PREFIX:NAME
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,

    /// Accepted for other engines' sake: there is nothing more to tell
    #[arg(long)]
    pub(crate) debug: bool,

    /// Accepted for other engines' sake: what the caller may do decides
    #[arg(long, value_name = "BOOL", num_args = 0..=1, hide = true)]
    pub(crate) rootless: Option<String>,

    /// Accepted for other engines' sake: criu is looked for in PATH
    #[arg(long, value_name = "PATH", hide = true)]
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
    Create(Create),
    /// Start a created container
    Start {
        #[command(flatten)]
        container: Container,
    },
    /// Create and start a container, wait for it, and delete it
    Run(Run),
    /// Print the state of a container
    State {
        #[command(flatten)]
        container: Container,
    },
    /// Send a signal to a container's first process
    Kill(Kill),
    /// Delete a container
    Delete(Delete),
    /// Run one more process in a container
    Exec(Exec),
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
    /// List containers
    List(List),
    /// List the processes of a container
    Ps(Ps),
    /// Write a configuration to start from
    Spec(Spec),
    /// Print what this runtime can do
    Features,
}

#[derive(Debug, Args)]
pub(crate) struct Container {
    /// Id of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) container: Container,

    /// Directory with config.json and the root file system
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,

    /// Socket that the master of the container's terminal is sent to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,

    /// File that the PID of the container's first process is written to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,

    /// Change the root without pivot_root, as a ramdisk needs it
    #[arg(long)]
    pub(crate) no_pivot: bool,

    /// Do not make a session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,

    /// How many descriptors from 3 on are the container's
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
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

    /// Socket that the master of its terminal is sent to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,

    /// File that its PID is written to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,

    /// How many descriptors from 3 on are the process's
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,

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
