//! Other people's OCI runtimes (runc, crun, youki and the like), driven by their command line.
//!
//! The pod stays ours: its pause process, its namespaces, its cgroups and their limits, the logs
//! and the exits. A foreign runtime makes the process of a container, and of an exec, and nothing
//! else. It is called in an *errand*: a clone of the shim with a mount namespace of its own, so
//! that the root file system that the runtime needs as a directory stands in nobody else's.
//!
//! ```text
//! berthd              shim                errand (its clone)        runtime
//!   │ bundle/config.json
//!   │ Start{foreign} ──►│ clone ──────────► mounts root, pins the pod's namespaces
//!   │                   │                    │ exec create ─────────► init of the container
//!   │                   │                    │◄── pid-file ─────────┘ (now the errand's child)
//!   │                   │◄──────── Adopted ──┤
//!   │                   │                    │ exec start ──────────►
//!   │                   │◄────── Executing ──┘ exit: init becomes the shim's child
//!   │◄──────── Started ─┤
//! ```
//!
//! The errand is a subreaper, so that what the runtime leaves behind is its own child until it
//! ends, and the shim's from then on: no exit is missed, however short a process lives, and a
//! pid-file that names something else is found out.
//!
//! A runtime whose containers are machines of their own (gVisor's runsc) can be called in the
//! same way, but then each container is a machine: it shares the pod's network namespace, and
//! no IPC, PID or shared memory with its pod.

pub(crate) mod bundle;
pub(crate) mod command;
pub(crate) mod errand;
mod features;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::record::make_private_directory;

pub use features::{Features, probe};

/// Version of the OCI runtime specification that every runtime of the field takes.
const OLDEST_VERSION: &str = "1.0.2";

/// A runtime, as a container that it runs remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Name of the handler.
    pub name: String,
    /// Its program.
    pub path: PathBuf,
    /// Its global options.
    pub args: Vec<String>,
    /// Where it keeps the state of its containers (`--root`).
    pub root: PathBuf,
    /// Highest version of the specification that it takes.
    pub oci_version: String,
    /// Whether it can start an exec in a cgroup below the container's.
    pub exec_cgroup: bool,
}

impl Runtime {
    /// A runtime of which no more is known than where it is.
    pub fn new(name: &str, path: PathBuf, args: Vec<String>, root: PathBuf) -> Self {
        let oci_version = OLDEST_VERSION.to_owned();
        Self { name: name.to_owned(), path, args, root, oci_version, exec_cgroup: false }
    }

    /// The same, with what was found out about it.
    #[must_use]
    pub fn with(self, features: &Features) -> Self {
        let oci_version = features.oci_version_max.clone().unwrap_or(self.oci_version);
        Self { oci_version, exec_cgroup: features.exec_cgroup, ..self }
    }

    /// Makes the directory of its states.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn prepare(&self) -> Result<(), Error> {
        make_private_directory(&self.root)
    }

    /// Whether its program is there and can be executed.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> std::io::Result<()> {
        usable(&self.path)
    }
}

/// Whether `path` is a file that can be executed.
///
/// # Errors
/// Why not.
pub fn usable(path: &std::path::Path) -> std::io::Result<()> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    Ok(rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?)
}
