//! What can go wrong, in words that a caller can act upon.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::cgroup::Undone;
use crate::hooks::Kind;
use crate::protocol::{Failure, Step};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has this id.
    #[error("container {0} not found: it does not exist")]
    NotFound(String),
    /// The id is taken.
    #[error("container {0} exists already")]
    Exists(String),
    /// The container is in a state in which this cannot be done.
    #[error("container {id} is {state}: cannot {verb}")]
    WrongState {
        /// Which container.
        id: String,
        /// Its state, as one word.
        state: &'static str,
        /// What was asked for.
        verb: &'static str,
    },
    /// The specification asks for something that it must not, or that this version cannot do.
    #[error("invalid specification: {0}")]
    Spec(String),
    /// A limit needs a controller that the cgroup hierarchy does not have.
    #[error("{limit} needs the cgroup controller {controller:?}, which this host does not have")]
    MissingController {
        /// The controller.
        controller: String,
        /// What was to be limited.
        limit: String,
    },
    /// The kernel refused a limit.
    #[error(transparent)]
    Limit(Box<RefusedLimit>),
    /// A cgroup could not be made, entered or removed.
    #[error("{attempt} cgroup {cgroup}")]
    Cgroup {
        /// What was attempted.
        attempt: &'static str,
        /// The cgroup's path below the hierarchy's root.
        cgroup: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// systemd did not do what it was asked for.
    #[error("{attempt} unit {unit}: systemd: {cause}")]
    Systemd {
        /// What was attempted.
        attempt: &'static str,
        /// The unit.
        unit: String,
        /// What systemd or the bus answers.
        cause: String,
    },
    /// A process could not be made.
    #[error("{}", describe(.0))]
    Start(Failure),
    /// A foreign runtime could not do something.
    #[error("{runtime}: {verb}: {said}")]
    Foreign {
        /// Name of its handler.
        runtime: String,
        /// The command of it that failed.
        verb: &'static str,
        /// What it said of it.
        said: String,
    },
    /// criu could not save or restore a container, or is not there.
    #[error("criu: {verb}: {cause}")]
    Criu {
        /// Its command.
        verb: &'static str,
        /// What it said of it.
        cause: String,
    },
    /// The shim is gone or does not answer.
    #[error("{attempt}: the shim of {shim} {}", .cause)]
    Shim {
        /// What was asked of it.
        attempt: &'static str,
        /// The shim's directory name, which is the sandbox's id.
        shim: String,
        /// What it did instead.
        cause: String,
    },
    /// Something took too long.
    #[error("{attempt}: not done within {}", humantime(.after))]
    Deadline {
        /// What was attempted.
        attempt: String,
        /// How long was waited.
        after: Duration,
    },
    /// A hook failed.
    #[error("error running {kind} hook #{index}: {cause}")]
    Hook {
        /// When it was run.
        kind: Kind,
        /// Its place in the list.
        index: usize,
        /// Its program, how it ended and what it said.
        cause: String,
    },
    /// A network interface of the host could not be moved into a container.
    #[error("linux.netDevices.{device}: {attempt}: {source}")]
    NetDevice {
        /// Its name on the host.
        device: String,
        /// What was attempted.
        attempt: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The log file cannot be opened.
    #[error("open log {}", .path.display())]
    Log {
        /// Where it was to be.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A record, or a directory of ours, cannot be read or written.
    #[error("{attempt} {}", .path.display())]
    Storage {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A limit that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{field}: set {file} of cgroup {cgroup} to {value:?}{}", set_back(.undone))]
pub struct RefusedLimit {
    /// The cgroup's path below the hierarchy's root.
    pub cgroup: String,
    /// The interface file.
    pub file: String,
    /// What was written.
    pub value: String,
    /// The field of the specification that asks for it.
    pub field: String,
    /// The kernel's answer.
    pub source: io::Error,
    /// Files that had been changed by then, last first, and are as before again.
    pub undone: Vec<Undone>,
}

/// What kind of thing keeps a program from starting, for those who answer for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFault {
    /// There is no such command in the container.
    CommandNotFound,
    /// The command may not be executed.
    CommandNotExecutable,
    /// The working directory cannot be entered.
    WorkingDirectory,
    /// Something else that the specification asks for.
    Specification,
    /// Something of ours or of the host's.
    Internal,
}

impl Error {
    /// Which fault kept a program from starting, if that is what this error is about.
    pub fn start_fault(&self) -> Option<StartFault> {
        let failure = match self {
            Self::Start(failure) => failure,
            Self::Foreign { verb: "create" | "exec", said, .. } => {
                return Some(foreign_fault(said));
            }
            _ => return None,
        };
        Some(match (failure.step(), failure.errno) {
            (Step::Command, libc::ENOENT | libc::ENOTDIR | libc::ELIBACC) => {
                StartFault::CommandNotFound
            }
            (Step::Command, _) => StartFault::CommandNotExecutable,
            (Step::WorkingDirectory, _) => StartFault::WorkingDirectory,
            (
                Step::Mount
                | Step::Device
                | Step::Identity
                | Step::Kernel
                | Step::Seccomp
                | Step::Label
                | Step::Hook,
                _,
            ) => StartFault::Specification,
            _ => StartFault::Internal,
        })
    }
}

/// Foreign runtimes say in words what kind of failure it was; these are of runc, crun and youki.
fn foreign_fault(said: &str) -> StartFault {
    let said = said.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| said.contains(words));
    match says(&["executable", "exec: \""]) {
        true if says(&["not found", "no such file"]) => StartFault::CommandNotFound,
        true if says(&["permission denied"]) => StartFault::CommandNotExecutable,
        _ => StartFault::Internal,
    }
}

/// The step and the object, and what the field's users know the common cases by.
fn describe(failure: &Failure) -> String {
    let Failure { attempt, errno, .. } = failure;
    match (failure.step(), *errno) {
        (_, 0) => attempt.clone(),
        (Step::Command, libc::ENOENT | libc::ENOTDIR) => {
            format!("{attempt}: executable file not found in the container")
        }
        (Step::Command, libc::ELIBACC) => format!("{attempt}: no such file or directory"),
        (Step::Command, libc::ENOEXEC) => format!("{attempt}: exec format error"),
        (_, errno) => format!("{attempt}: {}", plain(&io::Error::from_raw_os_error(errno))),
    }
}

/// An operating system error without its number, in the lower case of our messages.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}

fn set_back(undone: &[Undone]) -> String {
    let list: Vec<_> = undone.iter().map(ToString::to_string).collect();
    if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) }
}

fn humantime(duration: &Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Says on what a file system call failed.
pub(crate) trait Storing<T> {
    /// Wraps the error with the attempt and the path.
    fn storing(self, attempt: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Storing<T> for Result<T, E> {
    fn storing(self, attempt: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|error| Error::Storage { attempt, path: path.into(), source: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_runtimes_words_tell_what_kept_a_command_from_running() {
        for (said, fault) in [
            (
                "unable to start container process: exec: \"x\": executable file not found in $PATH",
                StartFault::CommandNotFound,
            ),
            ("exec: \"/x\": stat /x: no such file or directory", StartFault::CommandNotFound),
            ("executable file `x` not found in $PATH: No such file", StartFault::CommandNotFound),
            ("exec: \"/etc\": permission denied", StartFault::CommandNotExecutable),
            ("chdir to cwd (\"/x\") failed: no such file or directory", StartFault::Internal),
            ("exit code 1", StartFault::Internal),
        ] {
            let error =
                |verb| Error::Foreign { runtime: "runc".to_owned(), verb, said: said.to_owned() };
            assert_eq!(error("create").start_fault(), Some(fault), "{said}");
            assert_eq!(error("delete").start_fault(), None);
        }
    }
}
