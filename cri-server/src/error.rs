//! Why berthd could not start, could not go on, or could not read its
//! configuration; and the exit code for each.
//!
//! What a client of the sockets is told is not here: see [`crate::status`].

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Findings;

/// What stops the process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration file that must be there cannot be read.
    #[error("read configuration {path}")]
    ReadConfig {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Configuration files have mistakes in them.
    #[error("{0}")]
    InvalidConfig(Findings),

    /// A directory cannot be made, or not be made ours.
    #[error("prepare directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Somebody else could replace what berthd keeps in the directory.
    #[error("directory {path} has mode {mode:04o}: others than its owner may write to it")]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// Another berthd works on the same directory.
    #[error("another berthd{} already runs on {directory}", with_pid(.pid))]
    AlreadyRunning {
        /// The directory.
        directory: PathBuf,
        /// Its process id, if it shows.
        pid: Option<i32>,
    },

    /// The socket's path is longer than a socket address.
    #[error("socket path {path} is too long: at most {limit} bytes fit")]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Bytes that fit.
        limit: usize,
    },

    /// Another process answers on the socket.
    #[error("socket {path} is in use{}", with_pid(.pid))]
    SocketInUse {
        /// The socket.
        path: PathBuf,
        /// The process that listens, if it shows.
        pid: Option<i32>,
    },

    /// Something that is no socket stands where the socket belongs.
    #[error("{path} is not a socket; berthd does not replace it")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },

    /// A listener cannot be set up.
    #[error("listen on {address}")]
    Listen {
        /// Path or network address.
        address: String,
        /// What the system said.
        source: io::Error,
    },

    /// A server ended by itself.
    #[error("serve {address}")]
    Serve {
        /// Path or network address.
        address: String,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Told twice to stop.
    #[error("told to stop twice: {running} operations are left to the next start")]
    Interrupted {
        /// Operations in flight.
        running: usize,
    },

    /// The runtime, its signals or its log cannot be set up.
    #[error("set up {what}")]
    SetUp {
        /// What was set up.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    pub(crate) fn read_config(path: &Path, source: io::Error) -> Self {
        Self::ReadConfig { path: path.to_owned(), source }
    }

    pub(crate) fn directory(path: &Path, source: io::Error) -> Self {
        Self::Directory { path: path.to_owned(), source }
    }

    pub(crate) fn listen(path: &Path, source: io::Error) -> Self {
        Self::Listen { address: path.display().to_string(), source }
    }

    pub(crate) fn set_up<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        move |source| Self::SetUp { what, source: Box::new(source) }
    }

    /// 78 (`EX_CONFIG` of sysexits.h) for what only an edit of the
    /// configuration can mend, so that a service manager does not try again;
    /// 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ReadConfig { .. } | Self::InvalidConfig(_) | Self::SocketPath { .. } => 78,
            _ => 1,
        }
    }
}

fn with_pid(pid: &Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}
