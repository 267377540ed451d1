//! The command line of berthd: few flags, everything else in the file.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration
//! (`EX_CONFIG`: a service manager need not try again).

use std::error::Error as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;

use crate::config::{self, Sources};
use crate::error::Error;
use crate::{about, daemon, logging};

/// Serves the Container Runtime Interface. Without a command: runs the daemon.
#[derive(Debug, Parser)]
#[command(name = "berthd", version = about::VERSION)]
struct Cli {
    /// Configuration file [default: /etc/berth/config.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Directory of drop-ins [default: config.d beside the file, if it exists]
    #[arg(long, global = true, value_name = "DIR")]
    config_dir: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show and check the configuration
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Tell what this binary is
    Version {
        /// How to tell it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print a file that explains every key and sets its default
    Default,
    /// Read the configuration and report every mistake in it
    Check,
    /// Print the configuration that is in force
    Show {
        /// Say which file and line set each value
        #[arg(long)]
        origin: bool,
    },
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Error> {
    let sources = Sources { file: cli.config, drop_ins: cli.config_dir };
    match cli.command {
        None => {
            // A kernel that cannot is too old, and is refused for that below.
            let _ = berth_runtime::keep_inheritance_to_ourselves();
            let loaded = sources.load()?;
            logging::init(&loaded.config.log)?;
            daemon::run(loaded)
        }
        Some(Command::Config { verb: ConfigVerb::Default }) => print(&config::default_file()),
        Some(Command::Config { verb: ConfigVerb::Check }) => check(&sources),
        Some(Command::Config { verb: ConfigVerb::Show { origin } }) => {
            print(&config::show(&sources.load()?, origin))
        }
        Some(Command::Version { output }) => print(&version(output)),
    }
}

fn check(sources: &Sources) -> Result<(), Error> {
    let loaded = sources.load()?;
    for warning in &loaded.warnings {
        eprintln!("berthd: {warning}");
    }
    for remark in loaded.unusable() {
        eprintln!("berthd: {remark}");
    }
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    print(&match files.as_slice() {
        [] => "no configuration file: defaults are in force\n".to_owned(),
        files => format!("{}: valid, {} ignored\n", files.join(", "), loaded.warnings.len()),
    })
}

fn version(output: Output) -> String {
    let (version, revision, rustc) = (about::VERSION, about::REVISION, about::RUSTC);
    match output {
        Output::Text => format!("berthd {version} (revision {revision}, rustc {rustc})\n"),
        Output::Json => {
            let version = json!({ "version": version, "revision": revision, "rustc": rustc });
            format!("{version:#}\n")
        }
    }
}

/// Prints to standard output. A reader that has left, as in `| head`, wants no
/// more and is no failure.
fn print(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::SetUp { what: "standard output", source: error.into() })
        }
        _ => Ok(()),
    }
}

/// Says on standard error what went wrong, each mistake in a configuration on
/// a line of its own.
fn complain(error: &Error) {
    if let Error::InvalidConfig(findings) = error {
        findings.0.iter().for_each(|finding| eprintln!("berthd: {finding}"));
        return;
    }
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    eprintln!("berthd: {message}");
}
