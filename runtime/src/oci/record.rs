//! What is known of a container, on disk.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupPath;
use crate::cgroup::systemd::Unit;
use crate::error::{Error, Storing as _};
use crate::seccomp::{self, Filters};

use super::Runtime;
use super::life::Life;

/// Name of the record in a container's directory.
const FILE: &str = "state.json";

/// Name of the socket at which a created container waits.
pub(super) const GATE: &str = "start.sock";

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// Absolute path of its root file system.
    pub rootfs: PathBuf,
    /// When it was created, as RFC 3339 has it.
    pub created: String,
    /// Name of the user who has created it, or the number of one without a name.
    pub owner: String,
    /// Its cgroup.
    pub cgroup: CgroupPath,
    /// Its scope, where systemd makes cgroups.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// Whether it has a session keyring of its own.
    #[serde(default)]
    pub keyring: bool,
    /// Its first process, once there is one.
    pub process: Option<Life>,
    /// What it was made from, with what has been updated since.
    pub spec: Spec,
}

impl Record {
    /// What a filter of its processes is for; `first` is the PID of the first one.
    pub(super) fn seccomp<'a>(
        &'a self,
        filters: &'a Filters,
        first: Option<i32>,
    ) -> seccomp::Context<'a> {
        seccomp::Context { filters, by_default: false, id: &self.id, bundle: &self.bundle, first }
    }
}

/// Where a container is in its life (OCI runtime specification, `runtime.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits to be started.
    Created,
    /// Its program runs.
    Running,
    /// It is frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl Status {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// Holds a container against other calls, until it is dropped.
#[derive(Debug)]
pub(super) struct Hold(File);

impl Hold {
    /// Waits for those that hold the container now.
    fn take(&self) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| flock(&self.0, FlockOperation::LockExclusive))?)
    }

    /// Lets others have the container for a while.
    pub(super) fn pause(&self) -> io::Result<()> {
        Ok(flock(&self.0, FlockOperation::Unlock)?)
    }

    /// Holds the container again, and answers whether it is still there.
    pub(super) fn resume(&self) -> io::Result<bool> {
        self.take()?;
        // A directory that has been removed has no name.
        Ok(rustix::fs::fstat(&self.0)?.st_nlink > 0)
    }
}

impl Runtime {
    /// The directory of a container.
    pub(super) fn directory(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Makes the directory of a new container and holds it.
    pub(super) fn reserve(&self, id: &str) -> Result<Hold, Error> {
        check_id(id)?;
        let mut private = DirBuilder::new();
        // Root of a user namespace has no business here either: what a created container waits
        // at is a descriptor.
        private.mode(0o700);
        let above = private.recursive(true).create(&self.root);
        above.storing("make directory", &self.root)?;
        let directory = self.directory(id);
        match private.recursive(false).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(id.to_owned()));
            }
            made => made.storing("make directory", &directory)?,
        }
        self.hold(id)
    }

    /// Holds a container, after those that hold it now.
    pub(super) fn hold(&self, id: &str) -> Result<Hold, Error> {
        check_id(id)?;
        let directory = self.directory(id);
        let file = match File::open(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound(id.to_owned()));
            }
            opened => opened.storing("open", &directory)?,
        };
        let hold = Hold(file);
        hold.take().storing("hold", &directory)?;
        Ok(hold)
    }

    /// Reads the record of a container.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub fn load(&self, id: &str) -> Result<Record, Error> {
        check_id(id)?;
        let path = self.directory(id).join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound(id.to_owned()));
            }
            read => read.storing("read", &path)?,
        };
        serde_json::from_slice(&bytes).map_err(io::Error::from).storing("understand", &path)
    }

    /// All containers that have a record, in order of their ids.
    ///
    /// # Errors
    /// If the root directory cannot be read.
    pub fn list(&self) -> Result<Vec<Record>, Error> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.storing("read", &self.root)?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        // One that goes meanwhile, or is not complete yet, is none.
        let mut found: Vec<_> = names.filter_map(|id| self.load(&id).ok()).collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Writes the record of a container in place of an earlier one.
    pub(super) fn save(&self, record: &Record) -> Result<(), Error> {
        let directory = self.directory(&record.id);
        let (path, temporary) = (directory.join(FILE), directory.join(".state.tmp"));
        let bytes = serde_json::to_vec(record).map_err(io::Error::from);
        let bytes = bytes.storing("encode", &path)?;
        let write = || -> io::Result<()> {
            let mut options = File::options();
            options.create(true).truncate(true).write(true).mode(0o600);
            options.open(&temporary)?.write_all(&bytes)?;
            fs::rename(&temporary, &path)
        };
        write().storing("write", &path)
    }

    /// Removes the directory of a container; one that is gone is fine.
    pub(super) fn forget(&self, id: &str) -> Result<(), Error> {
        let directory = self.directory(id);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).storing("remove", directory)
            }
            _ => Ok(()),
        }
    }

    /// Whether a container waits to be started.
    pub(super) fn has_gate(&self, id: &str) -> bool {
        self.directory(id).join(GATE).exists()
    }
}

/// An id is a file name of letters, digits and `_+-.`.
fn check_id(id: &str) -> Result<(), Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 255 || id.starts_with("..") || id == "." || !id.chars().all(good)
    {
        return Err(Error::Spec(format!("invalid container id {id:?}")));
    }
    Ok(())
}

/// An absolute path without symbolic links, as records name things.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).storing("find", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_file_names() {
        for good in ["a", "0", "test_busybox", "a.b-c+d", "_"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        let long = "x".repeat(256);
        for bad in ["", ".", "..", "../x", "a/b", "a b", "a\0", "ä", &long] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_second_container_of_the_same_id_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Runtime::new(directory.path().join("root"));
        drop(runtime.reserve("a").unwrap());
        assert!(matches!(runtime.reserve("a"), Err(Error::Exists(_))));
        assert!(matches!(runtime.load("a"), Err(Error::NotFound(_))));
        assert!(matches!(runtime.hold("b"), Err(Error::NotFound(_))));
        runtime.forget("a").unwrap();
        runtime.forget("a").unwrap();
        drop(runtime.reserve("a").unwrap());
    }
}
