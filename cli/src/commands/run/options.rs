//! What `berth run` can be told.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::OsStringValueParser;
use clap::builder::TypedValueParser as _;
use clap::{Args, ValueEnum};

use super::bind::Bind;
use super::publish::Publish;
use super::user::User;
use super::variable::Variable;
use crate::commands::pull::Creds;
use crate::units::{cpus, size};

/// Longest name of a pod: it becomes a label of a host name.
const NAME_MAX: usize = 63;

const EXAMPLES: &str = "\
Examples:
  berth run --rm busybox echo hello
  berth run -d --name web -p 8080:80 -v ./site:/site:ro busybox httpd -f -p 80 -h /site
  berth run --rm --memory 64m --cpus 0.5 -e TOKEN busybox sh -c 'echo ${#TOKEN}'";

/// Run a command in a new container, in a new pod
///
/// What it writes is printed here until it has ended; the exit code is its own. Ctrl-C asks it to
/// end and kills it ten seconds later; Ctrl-C again kills it at once. Without --rm the pod stays,
/// stopped, so that `berth logs` and `berth inspect` can look at it; `berth rm` removes it.
///
/// Logs are written below /var/log/pods. A kubelet removes pods that it does not know: on its
/// node the pod does not live long.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "berth run [OPTIONS] IMAGE [COMMAND]...")]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Run {
    /// The image, then the command in it; without a command the image's own. Options after the
    /// image are the command's
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND]")]
    pub(crate) words: Vec<String>,

    /// Leave it running, and print the id of its pod
    #[arg(short, long, conflicts_with = "rm")]
    pub(crate) detach: bool,

    /// Remove the pod with its container and their logs when it has ended
    #[arg(long)]
    pub(crate) rm: bool,

    /// Name of the pod and of its container [default: the image's name and some letters]
    #[arg(long, value_parser = parse_name)]
    pub(crate) name: Option<String>,

    /// When to pull the image
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) pull: PullPolicy,

    #[command(flatten)]
    pub(crate) creds: Creds,

    /// Make a port of the pod reachable on the node; may be repeated
    #[arg(short, long, value_name = "[IP:]HOST:CONTAINER[/PROTOCOL]")]
    pub(crate) publish: Vec<Publish>,

    /// The pod's network: its own, or the node's
    #[arg(long, value_enum, default_value_t, value_name = "NETWORK")]
    pub(crate) network: Network,

    /// Host name in the pod [default: the pod's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,

    /// Set an environment variable; without a value it is taken from here; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]",
          value_parser = OsStringValueParser::new().map(<Variable as From<OsString>>::from))]
    pub(crate) env: Vec<Variable>,

    /// Set the variables of a file, one NAME[=VALUE] in each line; -e wins; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,

    /// Mount a file or directory of the node; may be repeated
    #[arg(short, long, value_name = "SOURCE:DESTINATION[:ro]")]
    pub(crate) volume: Vec<Bind>,

    /// Most memory, as in 64m or 1.5g; there is no swap beyond it
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) memory: Option<u64>,

    /// Most processor time, in processors, as in 0.5
    #[arg(long, value_name = "NUMBER", value_parser = cpus::parse)]
    pub(crate) cpus: Option<i64>,

    /// Working directory [default: the image's]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// Who runs the command: a name in the image or a number, and a group's number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<User>,

    /// Program that the image's entrypoint is replaced by; empty for none. The image's arguments
    /// go with its entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,

    /// Give the container all capabilities and devices of the node
    #[arg(long)]
    pub(crate) privileged: bool,

    /// Let nothing write to the container's root file system
    #[arg(long)]
    pub(crate) read_only: bool,

    /// Add a capability, as in NET_ADMIN, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,

    /// Drop a capability, as in NET_RAW, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,

    #[command(flatten)]
    pub(crate) interactive: Interactive,
}

/// Flags of sessions that a person types into.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Interactive {
    /// Keep standard input open (needs the streaming server, which this version does not have)
    #[arg(short, long)]
    interactive: bool,

    /// Allocate a terminal (needs the streaming server, which this version does not have)
    #[arg(short, long)]
    tty: bool,
}

impl Interactive {
    /// Refuses what cannot be done yet.
    pub(crate) fn refuse(self) -> anyhow::Result<()> {
        if self.interactive || self.tty {
            anyhow::bail!(
                "-i and -t need berthd's streaming server, which this version does not have yet; \
                 without them the command runs without input and terminal"
            );
        }
        Ok(())
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// If it is not on the node
    #[default]
    Missing,
    /// Each time, so that a tag that has moved is followed
    Always,
    /// Not at all
    Never,
}

/// Which network a pod has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// One of its own
    #[default]
    Pod,
    /// The node's
    Host,
}

/// Names become part of paths, so they have few characters.
fn parse_name(text: &str) -> Result<String, String> {
    let usual = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let good = text.len() <= NAME_MAX
        && text.chars().all(usual)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no name: at most {NAME_MAX} letters, digits, `_`, `.` and `-`, beginning with \
         a letter or digit"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_few_characters() {
        assert_eq!(parse_name("web-1_a.B").as_deref(), Ok("web-1_a.B"));
        for text in ["", "-a", ".", "..", "a/b", "ü", "a b", &"x".repeat(64)] {
            assert!(parse_name(text).is_err(), "{text:?}");
        }
    }
}
