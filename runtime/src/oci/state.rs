//! `state` and `list`: what a container is doing now.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::error::{Error, Storing as _};

use super::Runtime;
use super::record::{Record, Status};

/// The state of a container, as the OCI runtime specification has it (`runtime.md`, "State"),
/// and as other runtimes add to it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// Version of the specification that its configuration is of.
    pub oci_version: String,
    /// Its id.
    pub id: String,
    /// PID of its first process; 0 if it has ended.
    pub pid: i32,
    /// Where it is in its life.
    pub status: &'static str,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its root file system.
    pub rootfs: PathBuf,
    /// When it was created.
    pub created: String,
    /// What its configuration says of it.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// Who has created it.
    pub owner: String,
}

impl Runtime {
    /// Tells the state of a container.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn state(&self, id: &str) -> Result<Described, Error> {
        self.describe(&self.load(id)?)
    }

    /// Tells the state of a container whose record is at hand.
    ///
    /// # Errors
    /// If the kernel does not tell of its process.
    pub fn describe(&self, record: &Record) -> Result<Described, Error> {
        let status = self.status(record)?;
        let alive = !matches!(status, Status::Stopped | Status::Creating);
        let pid = record.process.filter(|_| alive).map_or(0, |life| life.pid);
        Ok(Described {
            oci_version: record.spec.version().clone(),
            id: record.id.clone(),
            pid,
            status: status.name(),
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            annotations: record.spec.annotations().clone().unwrap_or_default(),
            owner: record.owner.clone(),
        })
    }

    /// Where a container is in its life: the kernel knows.
    pub(super) fn status(&self, record: &Record) -> Result<Status, Error> {
        let Some(life) = record.process else {
            return Ok(Status::Creating);
        };
        if life.open().storing("look at the process of", &record.id)?.is_none() {
            return Ok(Status::Stopped);
        }
        if self.hierarchy()?.is_frozen(&record.cgroup) {
            return Ok(Status::Paused);
        }
        Ok(if self.has_gate(&record.id) { Status::Created } else { Status::Running })
    }
}
