//! What can go wrong, sorted by what a caller can do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation of this crate failed. Only [`Error::Plugin`] and
/// [`Error::Del`] tell that a plugin may have run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no network to attach to. Wait, or mend the configuration.
    #[error("no network to attach to: {message}")]
    NotReady {
        /// Whether configurations are missing or malformed.
        reason: NotReadyReason,
        /// Which directories were searched, and what is wrong with each file.
        message: String,
    },
    /// The caller's own mistake; no plugin ran.
    #[error("{what} {value:?} {why}")]
    Argument {
        /// The argument, for example `container id`.
        what: &'static str,
        /// Its value, cut to a readable length.
        value: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// This attachment is on record already and must be deleted before it can
    /// be added again.
    #[error("container {container_id} is already attached to network {network} as {ifname}")]
    AlreadyAttached {
        /// The container.
        container_id: String,
        /// The network.
        network: String,
        /// The interface in the container.
        ifname: String,
    },
    /// One plugin was missing, failed, hung or answered nonsense.
    #[error("{call}: {fault}")]
    Plugin {
        /// What was asked of whom.
        call: Box<Call>,
        /// What happened.
        fault: Fault,
    },
    /// A DEL that could not be completed and is still owed. Every plugin of
    /// the chain was tried; these are all that failed.
    #[error("{}", join(failures))]
    Del {
        /// At least one, in the order in which plugins ran. Each is [`Error::Plugin`].
        failures: Vec<Error>,
    },
    /// The record of an attachment could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Cache {
        /// What was attempted, for example `write the attachment record`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a request about network interfaces.
    #[error("{action}: {source}")]
    Netlink {
        /// What was attempted.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Why there is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReadyReason {
    /// No configuration file stands in any of the directories.
    NoNetworkConfig,
    /// There are files, and not one of them is valid.
    MalformedNetworkConfig,
}

impl fmt::Display for NotReadyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNetworkConfig => "NoNetworkConfig",
            Self::MalformedNetworkConfig => "MalformedNetworkConfig",
        })
    }
}

/// An operation of the CNI specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Add a container to a network.
    Add,
    /// Undo an ADD.
    Del,
}

impl Verb {
    /// The value of `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }
}

/// One call of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub verb: Verb,
    /// The plugin's type.
    pub plugin: String,
    /// The network's name.
    pub network: String,
    /// The container.
    pub container_id: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, plugin, network, container_id } = self;
        let verb = verb.as_str();
        write!(f, "{verb} of container {container_id} by plugin {plugin} of network {network}")
    }
}

/// How a call of a plugin failed. Text that came from a plugin is cut to a
/// length that fits into an RPC status.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No executable of that name stands in the plugin directories.
    #[error("no such plugin in {searched}")]
    Missing {
        /// The directories, separated by colons.
        searched: String,
    },
    /// The plugin could not be started or listened to.
    #[error("{action} {}: {source}", binary.display())]
    Run {
        /// What was attempted.
        action: &'static str,
        /// The executable.
        binary: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The plugin outlived its deadline and was killed with its process group.
    #[error("still running after {0:?}, killed")]
    TimedOut(Duration),
    /// We are shutting down; the plugin was killed with its process group.
    #[error("cancelled")]
    Cancelled,
    /// The plugin says no, in the words of the specification (section 5, "Error").
    #[error("{msg}{} (code {code}){}", after("; ", details), after("; stderr: ", stderr))]
    Refused {
        /// The error code: below 100 the specification's, else the plugin's.
        code: u64,
        /// The short message.
        msg: String,
        /// The longer message; may be empty.
        details: String,
        /// The end of what it wrote to standard error; may be empty.
        stderr: String,
    },
    /// The plugin failed without a word of the specification.
    #[error("{status}{}{}", after("; stdout: ", stdout), after("; stderr: ", stderr))]
    Died {
        /// Exit code or signal.
        status: ExitStatus,
        /// The beginning of what it wrote to standard output; may be empty.
        stdout: String,
        /// The end of what it wrote to standard error; may be empty.
        stderr: String,
    },
    /// The plugin wrote more than it may and was killed with its process group.
    #[error("wrote more than {limit} bytes, killed")]
    TooMuchOutput {
        /// The limit in bytes.
        limit: usize,
    },
    /// The plugin reported success and answered what is no result.
    #[error("answered no CNI result: {why}{}", after("; stdout: ", stdout))]
    BadResult {
        /// What is wrong with it.
        why: String,
        /// The beginning of the answer.
        stdout: String,
    },
}

fn after(introduction: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{introduction}{text}") }
}

fn join(failures: &[Error]) -> String {
    failures.iter().map(Error::to_string).collect::<Vec<_>>().join("; ")
}

/// The beginning of a text from outside, on one line, fit for an error.
pub(crate) fn excerpt(text: &[u8], longest: usize) -> String {
    let cut = &text[..text.len().min(longest)];
    let mut line = one_line(cut);
    if cut.len() < text.len() {
        line.push_str("...");
    }
    line
}

/// A text from outside on one line: control characters are spelled out.
pub(crate) fn one_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut line = String::with_capacity(text.len());
    for c in text.trim().chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_names_verb_container_plugin_network_and_cause() {
        let call = Box::new(Call {
            verb: Verb::Add,
            plugin: "bridge".into(),
            network: "pods".into(),
            container_id: "c1".into(),
        });
        let fault = Fault::Refused {
            code: 11,
            msg: "no addresses".into(),
            details: "range is full".into(),
            stderr: String::new(),
        };
        assert_eq!(
            Error::Plugin { call, fault }.to_string(),
            "ADD of container c1 by plugin bridge of network pods: no addresses; range is full (code 11)"
        );
    }

    #[test]
    fn an_excerpt_is_short_and_on_one_line() {
        assert_eq!(excerpt(b"one\ntwo\x1b[0m", 64), r"one\ntwo\u{1b}[0m");
        assert_eq!(excerpt(&[b'x'; 100], 4), "xxxx...");
        assert_eq!(excerpt(&[0xff, b'a'], 4), "\u{fffd}a");
    }
}
