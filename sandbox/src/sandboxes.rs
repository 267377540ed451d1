//! The sandboxes of this daemon: their records, their states, and the verbs on them.
//!
//! Reads answer from memory and never wait. Verbs assume that one of them runs per sandbox at a
//! time, which is the caller's queue to see to, and must not be dropped half way.

mod recover;
mod run;
mod scope;
mod teardown;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use berth_cni::{Cni, NetworkStatus};
use berth_runtime::Error as RuntimeError;
use berth_runtime::cgroup::systemd::Systemd;
use berth_runtime::cgroup::{CgroupPath, Hierarchy};
use berth_runtime::client::ShimClient;
use berth_runtime::launcher::Launcher;
use berth_runtime::protocol::PAUSE;
use berth_runtime::record::{Store, Syncer, make_private_directory};
use berth_runtime::spec::Member;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, InStep as _, Step};
use crate::files::Files;
use crate::pause::SHM;
use crate::spec::SandboxSpec;

pub use run::RunReport;

/// What all sandboxes have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the records, which outlive a boot.
    pub records: PathBuf,
    /// Directory of what does not: shims, files, namespaces.
    pub run: PathBuf,
    /// An existing directory that roots are attached at.
    pub attach: PathBuf,
    /// How long the pause process may take from its clone to its `execve`.
    pub start_within: Duration,
    /// How long to wait for a network that is not configured yet.
    pub network_within: Duration,
    /// Who makes the scopes that sandboxes are in, where cgroups are systemd's.
    pub systemd: Option<Systemd>,
    /// How the network is found and plugins are run.
    pub network: berth_cni::Settings,
}

/// Where a sandbox is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Whether containers can be started in it.
    pub ready: bool,
    /// PID of its pause process, while that runs.
    pub pause: Option<i32>,
    /// Its addresses, in the order that the network gave them.
    pub ips: Vec<IpAddr>,
    /// What its network plugins answered, as JSON.
    pub network: Option<String>,
    /// Whether it holds nothing any more: no process, no address.
    pub released: bool,
    /// Whether it is what is left of one that was never made to the end, and that nobody has
    /// been told of.
    pub remains: bool,
}

/// A sandbox that exists.
#[derive(Debug)]
pub struct Sandbox {
    /// What it was made from.
    pub spec: SandboxSpec,
    directory: PathBuf,
    shim: ShimClient,
    state: watch::Sender<State>,
}

/// What a container needs to know of its sandbox.
#[derive(Clone, Debug)]
pub struct Home {
    /// Its shim.
    pub shim: ShimClient,
    /// Its pause process.
    pub pause: Member,
    /// The pinned network namespace; absent on the host's network.
    pub netns: Option<PathBuf>,
    /// A path by which [`berth_runtime::spec`] finds the pod's shared memory; absent if it is
    /// the host's.
    pub shm: Option<PathBuf>,
    /// The files of the pod.
    pub files: Files,
}

impl Sandbox {
    /// Its state now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// What a container needs to know.
    ///
    /// # Errors
    /// [`Error::NotReady`].
    pub fn home(&self) -> Result<Home, Error> {
        let state = self.state.borrow();
        let pid = state.pause.filter(|_| state.ready);
        let pid = pid.ok_or_else(|| Error::NotReady(self.spec.id.clone()))?;
        Ok(Home {
            shim: self.shim.clone(),
            pause: Member { key: PAUSE.to_owned(), pid },
            netns: (self.spec.network == crate::NetworkMode::Pod).then(|| self.netns()),
            shm: self.spec.own_ipc.then(|| format!("/proc/{pid}/root{SHM}").into()),
            files: Files::of(&self.directory),
        })
    }

    /// Resolves when its pause process has ended, at once if it has already.
    async fn pause_ended(&self) {
        let mut states = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = states.wait_for(|state| state.pause.is_none()).await;
    }

    fn netns(&self) -> PathBuf {
        self.directory.join("netns")
    }
}

/// All sandboxes; clones share them.
#[derive(Clone, Debug)]
pub struct Sandboxes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    hierarchy: Hierarchy,
    launcher: Launcher,
    cni: Cni,
    specs: Store<SandboxSpec>,
    states: Store<State>,
    sandboxes: RwLock<HashMap<String, Arc<Sandbox>>>,
    tasks: TaskTracker,
}

impl Sandboxes {
    /// Opens the records and begins to watch network configurations; [`Sandboxes::recover`] then
    /// finds the sandboxes. `stop` ends the watch.
    ///
    /// # Errors
    /// If a directory cannot be made, or the settings of the network make no sense.
    pub fn open(
        settings: Settings,
        hierarchy: Hierarchy,
        launcher: Launcher,
        syncer: &Syncer,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        make_private_directory(&settings.run).in_step(Step::Record, "")?;
        let open = |name| settings.records.join(name);
        let cni = Cni::new(settings.network.clone(), tasks.clone(), stop);
        Ok(Self(Arc::new(Inner {
            cni: cni.in_step(Step::NetworkAdd, "")?,
            specs: Store::open(open("specs"), syncer).in_step(Step::Record, "")?,
            states: Store::open(open("states"), syncer).in_step(Step::Record, "")?,
            settings,
            hierarchy,
            launcher,
            sandboxes: RwLock::default(),
            tasks,
        })))
    }

    /// The sandbox with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn get(&self, id: &str) -> Result<Arc<Sandbox>, Error> {
        self.find(id).ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    /// The sandbox with this id, if there is one.
    pub fn find(&self, id: &str) -> Option<Arc<Sandbox>> {
        self.0.sandboxes.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All sandboxes, in no order.
    pub fn list(&self) -> Vec<Arc<Sandbox>> {
        let sandboxes = self.0.sandboxes.read().unwrap_or_else(PoisonError::into_inner);
        sandboxes.values().cloned().collect()
    }

    /// Whether there is a network for pods, from memory.
    pub fn network(&self) -> NetworkStatus {
        self.0.cni.status()
    }

    /// Paths of the cgroups that belong to sandboxes.
    pub fn cgroups(&self) -> Vec<CgroupPath> {
        self.list().iter().map(|sandbox| sandbox.spec.cgroup.clone()).collect()
    }

    fn insert(&self, sandbox: Arc<Sandbox>) {
        let mut sandboxes = self.0.sandboxes.write().unwrap_or_else(PoisonError::into_inner);
        sandboxes.insert(sandbox.spec.id.clone(), sandbox);
    }

    fn forget(&self, id: &str) {
        self.0.sandboxes.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    pub(crate) async fn network_strays(
        &self,
        known: HashSet<String>,
    ) -> Result<Vec<berth_cni::Stray>, berth_cni::Error> {
        self.0.cni.audit(known).await
    }

    pub(crate) fn run_directory(&self) -> &std::path::Path {
        &self.0.settings.run
    }

    fn directory(&self, id: &str) -> PathBuf {
        self.0.settings.run.join(id)
    }

    /// Changes a sandbox's state, on record first.
    fn set_state(&self, sandbox: &Sandbox, state: State) -> Result<(), RuntimeError> {
        self.0.states.write(&sandbox.spec.id, &state)?;
        sandbox.state.send_replace(state);
        Ok(())
    }
}
