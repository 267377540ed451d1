//! Finding the sandboxes of an earlier berthd again.

use std::collections::HashMap;
use std::sync::Arc;

use berth_runtime::client::{ShimClient, Watch};
use berth_runtime::containers::Pod;
use berth_runtime::protocol::PAUSE;
use tokio::sync::watch;

use crate::error::{Error, InStep as _, Step};
use crate::spec::SandboxSpec;

use super::{Sandbox, Sandboxes, State};

impl Sandboxes {
    /// Loads all sandboxes, and tears down those that were not made to the end.
    ///
    /// A sandbox is ready if it was, and its pause process runs; what has lost it keeps its
    /// record, and its network until it is stopped.
    ///
    /// Answers what the recovery of their containers needs, by id.
    ///
    /// # Errors
    /// If the records cannot be read at all.
    pub async fn recover(&self) -> Result<HashMap<String, Pod>, Error> {
        let (specs, _) = self.0.specs.load().in_step(Step::Record, "")?;
        let (states, _) = self.0.states.load().in_step(Step::Record, "")?;
        let mut states: HashMap<_, _> =
            states.into_iter().map(|found| (found.id, found.record)).collect();
        let mut pods = HashMap::new();
        for found in specs {
            let spec = found.record;
            match states.remove(&found.id) {
                Some(state) => {
                    let pod = self.adopt(spec, state, found.this_boot).await?;
                    pods.insert(found.id, pod);
                }
                None => self.discard(spec).await,
            }
        }
        for id in states.into_keys() {
            self.0.states.remove(&id).in_step(Step::Record, &id)?;
        }
        Ok(pods)
    }

    async fn adopt(&self, spec: SandboxSpec, state: State, this_boot: bool) -> Result<Pod, Error> {
        let directory = self.directory(&spec.id);
        let shim = self.0.launcher.adopt(&directory).in_step(Step::Shim, &spec.id)?;
        let ending = if this_boot { watch_pause(&shim).await } else { None };
        let id = spec.id.clone();
        let pod = Pod { shim: shim.clone(), directory: directory.clone() };
        let state = watch::Sender::new(state);
        let sandbox = Arc::new(Sandbox { spec, directory, shim, state });
        self.insert(Arc::clone(&sandbox));
        let state = sandbox.state();
        match ending {
            Some(ending) => self.watch(sandbox, ending),
            None => {
                if state.ready || state.pause.is_some() {
                    let state = State { ready: false, pause: None, ..state };
                    self.set_state(&sandbox, state).in_step(Step::Record, &id)?;
                }
                // A pause process whose shim has died has nobody to end it.
                let killed = self.0.hierarchy.kill(&sandbox.spec.cgroup);
                killed.in_step(Step::Cgroup, &id)?;
            }
        }
        Ok(pod)
    }

    async fn discard(&self, spec: SandboxSpec) {
        tracing::info!(sandbox = spec.id, "tear down an unfinished sandbox");
        // What is left has been told.
        let _ = self.undo(spec).await;
    }
}

/// Watches the pause process, if it runs.
async fn watch_pause(shim: &ShimClient) -> Option<Watch> {
    let ending = shim.watch(PAUSE);
    let greeting = shim.greet().await.ok()?;
    greeting.running.iter().any(|started| started.key == PAUSE).then_some(ending)
}
