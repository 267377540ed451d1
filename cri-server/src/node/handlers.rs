//! Runtime handlers: by which runtime the containers of a pod are run.
//!
//! What a runtime can do is asked once, when berthd starts.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_runtime::foreign::{Features, Runtime, probe};
use berth_runtime::host;
use berth_runtime::launcher::Launcher;
use berth_sandbox::SandboxSpec;
use tokio::task::JoinSet;
use tonic::Status;

use crate::config::{Config, OWN_RUNTIME};

/// How long a runtime may take to tell what it can do.
const TELL: Duration = Duration::from_secs(3);

/// A runtime, and what it can do.
#[derive(Clone, Debug)]
pub struct Handler {
    /// Its name.
    pub name: String,
    /// The foreign runtime; absent for our own.
    pub runtime: Option<Runtime>,
    /// What it can do, and berthd can ask of it.
    pub features: Features,
    /// Why its pods can have no user namespaces, if they cannot.
    pub without_users: Option<String>,
}

/// All handlers of this node.
#[derive(Clone, Debug)]
pub struct Handlers {
    known: BTreeMap<String, Handler>,
    default: String,
}

impl Handlers {
    /// Asks all configured runtimes what they can do.
    pub(super) async fn open(config: &Config, launcher: &Launcher) -> Self {
        let mut asked = JoinSet::new();
        for (name, table) in &config.runtimes {
            let root = table.root.clone();
            let root = root.unwrap_or_else(|| config.dirs.state.join("runtimes").join(name));
            let path = table.path.clone().unwrap_or_default();
            let runtime = Runtime::new(name, path, table.args.clone(), root);
            asked.spawn(ask(runtime));
        }
        let own = own(config, launcher).await;
        let mut known = BTreeMap::from([(OWN_RUNTIME.to_owned(), own)]);
        for handler in asked.join_all().await {
            known.insert(handler.name.clone(), handler);
        }
        Self { known, default: config.runtime.default_handler.clone() }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Handler> {
        self.known.values()
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    /// The handler of a pod that asks for `name`, which may be empty; absent if there is none.
    pub fn find(&self, name: &str) -> Option<&Handler> {
        self.known.get(if name.is_empty() { self.default.as_str() } else { name })
    }

    /// The handler that a pod was made with.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if it is not configured any more.
    pub fn of_pod(&self, name: &str) -> Result<&Handler, Status> {
        // Pods of an earlier berthd say nothing: there was one handler.
        let name = if name.is_empty() { OWN_RUNTIME } else { name };
        self.known.get(name).ok_or_else(|| {
            let why = format!("the pod's runtime handler {name:?} is not configured any more");
            Status::failed_precondition(why)
        })
    }
}

impl Handler {
    /// Refuses a pod that is to have a user namespace, and cannot.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION`, with the reason.
    pub fn check_users(&self, sandbox: &SandboxSpec) -> Result<(), Status> {
        let (Some(why), Some(_)) = (&self.without_users, sandbox.users) else { return Ok(()) };
        let name = &self.name;
        let why = format!("runtime handler {name:?} has no user namespaces for pods: {why}");
        Err(Status::failed_precondition(why))
    }

    /// Refuses a pod whose containers could not be run.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if the runtime's program cannot be executed.
    pub fn check(&self) -> Result<(), Status> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        runtime.check().map_err(|error| {
            let (name, path) = (&self.name, runtime.path.display());
            let why = format!("runtime handler {name:?}: {path} cannot be executed: {error}");
            Status::failed_precondition(why)
        })
    }
}

async fn own(config: &Config, launcher: &Launcher) -> Handler {
    let (layers, attach) = (config.dirs.root.join("images"), config.dirs.state.join("attach"));
    let without_users = launcher.try_mapping(&layers, &attach).await.err();
    if let Some(why) = &without_users {
        tracing::warn!("pods cannot have user namespaces here: {why}, ignoring");
    }
    let features = Features {
        recursive_read_only: host::recursive_read_only(),
        user_namespaces: without_users.is_none(),
        ..Features::default()
    };
    Handler { name: OWN_RUNTIME.to_owned(), runtime: None, features, without_users }
}

async fn ask(runtime: Runtime) -> Handler {
    if let Err(error) = runtime.prepare() {
        tracing::warn!(handler = runtime.name, %error, "a runtime has nowhere to be, ignoring");
    }
    let mut features = probe(&runtime.path, &runtime.args, TELL).await;
    // Their root is mounted for them, with owners as the layers have them.
    features.user_namespaces = false;
    let without_users = Some("it is not berth's own".to_owned());
    features.recursive_read_only &= host::recursive_read_only();
    if let Some(untold) = &features.untold {
        let handler = &runtime.name;
        tracing::warn!(handler, "a runtime does not tell what it can do: {untold}, ignoring");
    }
    let runtime = runtime.with(&features);
    Handler { name: runtime.name.clone(), runtime: Some(runtime), features, without_users }
}
