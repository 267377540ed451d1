//! The containers of this daemon: their records, their states, and the verbs on them.
//!
//! Reads ([`Containers::get`], [`Containers::list`], [`Container::state`]) answer from memory
//! and never wait. Verbs assume that at most one of create, start and remove runs per
//! container, which is the caller's queue to see to; [`Containers::stop`] may be called any
//! number of times at once. None of them may be dropped half way: they run as owned tasks.

mod create;
mod exec;
mod log;
mod recover;
mod remove;
mod start;
mod state;
mod stop;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::cgroup::{CgroupPath, Hierarchy, Stats};
use crate::client::ShimClient;
use crate::error::Error;
use crate::record::{Store, Syncer};
use crate::seccomp::{self, Filters};
use crate::spec::{self, Member, Rootfs};

pub use exec::{ExecOutput, ExecSpec};
pub use recover::Pod;
pub use state::{Cause, Exited, State};

/// What all containers have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the records.
    pub records: PathBuf,
    /// An existing directory that roots are attached at.
    pub attach: PathBuf,
    /// How long a process may take from its clone to its `execve`.
    pub start_within: Duration,
    /// How long an exec's output is read on after its process has ended.
    pub drain_within: Duration,
    /// Bytes after which a log line is cut into parts.
    pub log_line_max: u32,
    /// Whether a host that cannot lower `oom_score_adj` is put up with.
    pub oom_score_adj_best_effort: bool,
}

/// A container to create, and what is recorded of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// The sandbox that it belongs to.
    pub sandbox: String,
    /// What runs, and in what.
    pub oci: Spec,
    /// The environment, byte for byte, in place of the specification's.
    #[serde(with = "bytes_list")]
    pub env: Vec<Vec<u8>>,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Its cgroup.
    pub cgroup: CgroupPath,
    /// Processes of the pod that the specification refers to by PID.
    pub members: Vec<Member>,
    /// Where its output is logged, if anywhere.
    pub log: Option<LogPlace>,
    /// Whether its standard input stays open.
    pub stdin: bool,
    /// Whether it gets the default seccomp profile if `oci` has none. The profile is the same for
    /// all, and so kept out of their specifications; see [`ContainerSpec::complete`].
    #[serde(default)]
    pub default_seccomp: bool,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    /// Whatever the caller wants to find again.
    #[serde(with = "bytes")]
    pub origin: Vec<u8>,
    /// When it was created, in nanoseconds since the epoch.
    pub created_at: i64,
}

impl ContainerSpec {
    /// The specification for a runtime that is not this one: with the default seccomp profile in
    /// it, if the container gets that.
    pub fn complete(&self) -> Spec {
        let mut spec = self.oci.clone();
        if let Some(linux) = spec.linux_mut().as_mut()
            && self.default_seccomp
            && linux.seccomp().is_none()
        {
            let profile = seccomp::default_profile(spec::bounding_set(&self.oci));
            linux.set_seccomp(Some(profile));
        }
        spec
    }

    /// What a filter of its processes is for; `first` is the PID of the first one.
    fn seccomp<'a>(&'a self, filters: &'a Filters, first: Option<i32>) -> seccomp::Context<'a> {
        seccomp::Context {
            filters,
            by_default: self.default_seccomp,
            id: &self.id,
            bundle: Path::new(""),
            first,
        }
    }
}

/// A log file, below a directory that it must not leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// Absolute path of the directory.
    pub directory: PathBuf,
    /// Path of the file in it.
    pub path: PathBuf,
}

/// A container that exists.
#[derive(Debug)]
pub struct Container {
    /// What it was created from.
    pub spec: ContainerSpec,
    shim: ShimClient,
    state: watch::Sender<State>,
    /// The earliest time at which somebody who asked it to stop loses patience.
    stop_by: watch::Sender<Option<Instant>>,
    /// How many of its processes the kernel had killed for memory when it was killed by us.
    oom_kills_before: AtomicU64,
}

impl Container {
    fn new(spec: ContainerSpec, shim: ShimClient, state: State) -> Arc<Self> {
        Arc::new(Self {
            spec,
            shim,
            state: watch::Sender::new(state),
            stop_by: watch::Sender::new(None),
            oom_kills_before: AtomicU64::new(0),
        })
    }

    /// Its state now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Resolves when it has ended, at once if it has already.
    pub async fn ended(&self) -> Exited {
        let mut states = self.state.subscribe();
        loop {
            if let State::Exited(exited) = &*states.borrow_and_update() {
                return exited.clone();
            }
            // The sender lives as long as `self`.
            let _ = states.changed().await;
        }
    }
}

/// All containers; clones share them.
#[derive(Clone, Debug)]
pub struct Containers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    hierarchy: Hierarchy,
    specs: Store<ContainerSpec>,
    states: Store<State>,
    containers: RwLock<HashMap<String, Arc<Container>>>,
    execs: Mutex<u64>,
    filters: Filters,
    tasks: TaskTracker,
}

impl Containers {
    /// Opens the records; [`Containers::recover`] then finds the containers.
    ///
    /// # Errors
    /// If a directory cannot be made.
    pub fn open(
        settings: Settings,
        hierarchy: Hierarchy,
        syncer: &Syncer,
        tasks: TaskTracker,
    ) -> Result<Self, Error> {
        crate::record::make_private_directory(&settings.attach)?;
        Ok(Self(Arc::new(Inner {
            specs: Store::open(settings.records.join("specs"), syncer)?,
            states: Store::open(settings.records.join("states"), syncer)?,
            settings,
            hierarchy,
            containers: RwLock::default(),
            execs: Mutex::default(),
            filters: Filters::default(),
            tasks,
        })))
    }

    /// The container with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn get(&self, id: &str) -> Result<Arc<Container>, Error> {
        self.find(id).ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    /// The container with this id, if there is one.
    pub fn find(&self, id: &str) -> Option<Arc<Container>> {
        self.0.containers.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All containers, in no order.
    pub fn list(&self) -> Vec<Arc<Container>> {
        let containers = self.0.containers.read().unwrap_or_else(PoisonError::into_inner);
        containers.values().cloned().collect()
    }

    /// The containers of a sandbox, in no order.
    pub fn of_sandbox(&self, sandbox: &str) -> Vec<Arc<Container>> {
        let mut list = self.list();
        list.retain(|container| container.spec.sandbox == sandbox);
        list
    }

    /// What a container has used; absent if it does not run.
    pub fn stats(&self, container: &Container) -> Option<Stats> {
        self.0.hierarchy.stats(&container.spec.cgroup)
    }

    /// Paths of the cgroups that belong to containers.
    pub fn cgroups(&self) -> Vec<CgroupPath> {
        self.list().iter().map(|container| container.spec.cgroup.clone()).collect()
    }

    fn insert(&self, container: Arc<Container>) {
        let mut containers = self.0.containers.write().unwrap_or_else(PoisonError::into_inner);
        containers.insert(container.spec.id.clone(), container);
    }

    fn forget(&self, id: &str) {
        self.0.containers.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Moves a container to another state, on record first.
    fn set_state(&self, container: &Container, next: State) -> Result<(), Error> {
        let checked = container.state().to(&container.spec.id, next)?;
        self.0.states.write(&container.spec.id, &checked)?;
        container.state.send_replace(checked);
        Ok(())
    }
}

/// Bytes as base64, so that a record stays text.
mod bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A list of byte strings as a list of base64.
mod bytes_list {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(list: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|bytes| STANDARD.encode(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        let list = Vec::<String>::deserialize(from)?;
        list.iter().map(|text| STANDARD.decode(text).map_err(D::Error::custom)).collect()
    }
}
