//! What can go wrong, by the step that it went wrong in.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No sandbox has this id.
    #[error("sandbox {0} not found")]
    NotFound(String),
    /// The id is taken.
    #[error("sandbox {0} exists already")]
    Exists(String),
    /// The sandbox has no processes any more that a container could join.
    #[error("sandbox {0} is not ready")]
    NotReady(String),
    /// Its network.
    #[error("{} of {}", .step.phrase(), whose(.id))]
    Network {
        /// Which sandbox; empty for all of them.
        id: String,
        /// What was attempted.
        step: Step,
        /// Why it failed.
        source: berth_cni::Error,
    },
    /// Its processes, cgroup or records.
    #[error("{} of {}", .step.phrase(), whose(.id))]
    Runtime {
        /// Which sandbox; empty for all of them.
        id: String,
        /// What was attempted.
        step: Step,
        /// Why it failed.
        source: berth_runtime::Error,
    },
    /// A file or a namespace.
    #[error("{attempt} {}", .path.display())]
    Storage {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// A step in the life of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writing or reading its record.
    Record,
    /// Its cgroup.
    Cgroup,
    /// Its shim.
    Shim,
    /// Attaching it to a network.
    NetworkAdd,
    /// Detaching it from its network.
    NetworkDel,
    /// Its pause process.
    Pause,
}

impl Step {
    fn phrase(self) -> &'static str {
        match self {
            Self::Record => "keep the record",
            Self::Cgroup => "manage the cgroup",
            Self::Shim => "run the shim",
            Self::NetworkAdd => "set up the network",
            Self::NetworkDel => "tear down the network",
            Self::Pause => "run the pause process",
        }
    }
}

fn whose(id: &str) -> String {
    if id.is_empty() { "all sandboxes".to_owned() } else { format!("sandbox {id}") }
}

/// Says for which sandbox and in which step something failed.
pub(crate) trait InStep<T> {
    /// Wraps the error.
    fn in_step(self, step: Step, id: &str) -> Result<T, Error>;
}

impl<T> InStep<T> for Result<T, berth_runtime::Error> {
    fn in_step(self, step: Step, id: &str) -> Result<T, Error> {
        self.map_err(|source| Error::Runtime { id: id.to_owned(), step, source })
    }
}

impl<T> InStep<T> for Result<T, berth_cni::Error> {
    fn in_step(self, step: Step, id: &str) -> Result<T, Error> {
        self.map_err(|source| Error::Network { id: id.to_owned(), step, source })
    }
}

/// Says on what a file system call failed.
pub(crate) trait Storing<T> {
    /// Wraps the error.
    fn storing(self, attempt: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T, E: Into<std::io::Error>> Storing<T> for Result<T, E> {
    fn storing(self, attempt: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|error| Error::Storage { attempt, path: path.into(), source: error.into() })
    }
}
