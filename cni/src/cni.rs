//! The handle through which everything is asked, and its settings.

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::panic;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inotify::Inotify;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{self, Stray};
use crate::cache::Cache;
use crate::error::{Call, Error, Fault, Result};
use crate::exec::{Executor, Invocation};
use crate::load::NetworkStatus;
use crate::network::{Network, Plugin};
use crate::owed::{self, Owed};
use crate::request::Request;
use crate::watch::Networks;

/// Where things are, and what plugins may use of the node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directories of network configurations, in order of preference.
    pub conf_dirs: Vec<PathBuf>,
    /// Directories of plugins, in order of preference.
    pub bin_dirs: Vec<PathBuf>,
    /// Where attachments are recorded, in `results` below it.
    pub cache_dir: PathBuf,
    /// How long one call of one plugin may take.
    pub plugin_timeout: Duration,
    /// How many containers may be attached or detached at once. At most one
    /// plugin runs for each.
    pub max_concurrent: usize,
    /// How many bytes a plugin may write to standard output.
    pub max_output: usize,
    /// `PATH` of the plugins, for the programs that they run.
    pub path: OsString,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            conf_dirs: vec!["/etc/cni/net.d".into()],
            bin_dirs: ["/opt/cni/bin", "/usr/libexec/cni", "/usr/lib/cni"].map(Into::into).into(),
            cache_dir: "/var/lib/cni".into(),
            plugin_timeout: Duration::from_secs(60),
            max_concurrent: 16,
            max_output: 1 << 20,
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        }
    }
}

/// Attaches containers to networks. A handle that is cheap to clone; all
/// clones share the watcher and the limit on running plugins.
#[derive(Debug, Clone)]
pub struct Cni {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    executor: Executor,
    /// `CNI_PATH`.
    plugin_path: OsString,
    path: OsString,
    cache: Cache,
    networks: Networks,
    turns: Semaphore,
    tracker: TaskTracker,
}

impl Cni {
    /// Looks at the configuration directories and starts to watch them, on a
    /// task of the tracker. Cancelling stops the watch and kills any plugin
    /// that runs. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Argument`] if a directory is not absolute or holds a colon.
    pub fn new(
        settings: Settings,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let plugin_path = plugin_path(&settings)?;
        let networks = Networks::watch(settings.conf_dirs, Inotify::init, &tracker, cancel.clone());
        let executor = Executor {
            bin_dirs: settings.bin_dirs,
            timeout: settings.plugin_timeout,
            max_output: settings.max_output,
            cancel,
        };
        let inner = Inner {
            executor,
            plugin_path,
            path: settings.path,
            cache: Cache::new(&settings.cache_dir),
            networks,
            turns: Semaphore::new(settings.max_concurrent.max(1)),
            tracker,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether there is a network, by the latest look at the files. From
    /// memory; a change on disk shows within two seconds.
    pub fn status(&self) -> NetworkStatus {
        self.inner.networks.latest().status()
    }

    /// The default network. If there is none, the files are looked at again
    /// and a network may take this long to appear.
    ///
    /// # Errors
    /// [`Error::NotReady`] if none did, with the reason.
    pub async fn network(&self, wait: Duration) -> Result<Arc<Network>> {
        self.inner.networks.with_network(wait).await.require()
    }

    /// The attachments on record: those that stand, and those whose ADD or DEL
    /// was interrupted. Each is owed a DEL when its container is gone. They
    /// include what other runtimes recorded in the same place.
    ///
    /// # Errors
    /// [`Error::Cache`] if the records cannot be read.
    pub async fn owed(&self) -> Result<Vec<Owed>> {
        self.records(owed::list).await
    }

    /// What stands on the node for containers that are not among the living:
    /// records, addresses reserved by `host-local`, and interfaces on the
    /// bridges of our networks. Looks at the networks that are configured now
    /// and at those on record, from the caller's network namespace.
    ///
    /// # Errors
    /// [`Error::Cache`] or [`Error::Netlink`] if something cannot be looked at.
    pub async fn audit(&self, live: HashSet<String>) -> Result<Vec<Stray>> {
        let inventory = self.inner.networks.latest();
        self.records(move |cache| audit::strays(cache, &inventory.networks, &live)).await
    }

    /// The default network as it is now, without a wait.
    pub(crate) fn network_now(&self) -> Result<Arc<Network>> {
        self.inner.networks.latest().require()
    }

    /// Waits for a turn to run plugins; turns are given in the order of asking.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // An error would mean that the semaphore is closed, which nobody does.
        self.inner.turns.acquire().await.ok()
    }

    /// The executable of a plugin.
    pub(crate) fn find(&self, plugin: &Plugin) -> Result<PathBuf, Fault> {
        self.inner.executor.find(&plugin.kind)
    }

    /// Calls one plugin and returns its standard output.
    pub(crate) async fn call(
        &self,
        request: &Request<'_>,
        plugin: &Plugin,
        binary: PathBuf,
        previous: Option<&Map<String, Value>>,
    ) -> Result<Vec<u8>, Fault> {
        let inner = &*self.inner;
        let environment = request.environment(&inner.plugin_path, &inner.path);
        let stdin = request.stdin(plugin, previous);
        inner.executor.run(&Invocation { binary, environment, stdin }).await
    }

    /// Works on the records, on a thread where waiting for a disk holds up nobody.
    pub(crate) async fn records<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cache) -> T + Send + 'static,
    ) -> T {
        let inner = self.inner.clone();
        match self.inner.tracker.spawn_blocking(move || work(&inner.cache)).await {
            Ok(done) => done,
            Err(e) => panic::resume_unwind(e.into_panic()),
        }
    }
}

/// Names a call of a plugin in an error.
pub(crate) fn blame(request: &Request<'_>, plugin: &Plugin) -> impl FnOnce(Fault) -> Error {
    let call = Box::new(Call {
        verb: request.verb,
        plugin: plugin.kind.clone(),
        network: request.network.name.clone(),
        container_id: request.container_id.to_owned(),
    });
    move |fault| Error::Plugin { call, fault }
}

/// The value of `CNI_PATH`, once the directories are found fit for use.
fn plugin_path(settings: &Settings) -> Result<OsString> {
    let dirs = settings.conf_dirs.iter().chain(&settings.bin_dirs).chain([&settings.cache_dir]);
    if let Some(dir) = dirs.into_iter().find(|dir| !dir.is_absolute()) {
        let value = dir.display().to_string();
        return Err(Error::Argument { what: "directory", value, why: "must be an absolute path" });
    }
    env::join_paths(&settings.bin_dirs).map_err(|_| {
        let value = format!("{:?}", settings.bin_dirs);
        Error::Argument { what: "plugin directories", value, why: "may not hold a colon" }
    })
}
