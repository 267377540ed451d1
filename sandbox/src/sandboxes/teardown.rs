//! The one teardown of a sandbox, for rollback, stop, remove and recovery alike.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use berth_runtime::client::ShimClient;
use fail::fail_point;
use tokio::sync::watch;

use crate::error::{Error, InStep as _, Step, Storing as _};
use crate::netns;
use crate::spec::{NetworkMode, SandboxSpec};

use super::run::attachment;
use super::{Sandbox, Sandboxes, State};

/// How long a killed pause process may take to end before its cgroup is asked.
const DEATH: Duration = Duration::from_secs(1);

/// How long a shim without processes may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

impl Sandboxes {
    /// Stops a sandbox: its pause process is killed and its network released. One that is
    /// stopped already, or that is not there, is fine. Its containers are stopped before.
    ///
    /// # Errors
    /// If its network cannot be released, or its process does not die; it can be stopped again.
    pub async fn stop(&self, id: &str) -> Result<(), Error> {
        let Some(sandbox) = self.find(id) else { return Ok(()) };
        let state = sandbox.state();
        if state.released {
            return Ok(());
        }
        let unready = State { ready: false, ..state };
        self.set_state(&sandbox, unready.clone()).in_step(Step::Record, id)?;
        fail_point!("sandbox.stop.unready");
        let ended = sandbox.pause_ended();
        self.release(&sandbox.spec, ended).await?;
        fail_point!("sandbox.stop.released");
        let released = State { pause: None, ips: Vec::new(), released: true, ..unready };
        self.set_state(&sandbox, released).in_step(Step::Record, id)
    }

    /// Removes a sandbox, stopping it if it runs: also one whose creation was cut off. One that
    /// is gone is fine. Its containers are removed before. The id is one that was given out, not
    /// any text of a client's.
    ///
    /// # Errors
    /// If something of it cannot be removed; it stays on record then, and can be removed again.
    pub async fn remove(&self, id: &str) -> Result<(), Error> {
        let Some(sandbox) = self.find(id) else {
            return match self.0.specs.get(id) {
                Some(unfinished) => self.undo(unfinished).await,
                None => Ok(()),
            };
        };
        self.stop(id).await?;
        self.clear_away(&sandbox.spec, &sandbox.shim).await?;
        self.forget(id);
        Ok(())
    }

    /// Undoes whatever there is of a sandbox that was not made to the end. What cannot be undone
    /// stays as a sandbox that is not ready: whoever removes it tears down the rest.
    ///
    /// # Errors
    /// The first thing that could not be undone.
    pub(super) async fn undo(&self, spec: SandboxSpec) -> Result<(), Error> {
        let undone = self.tear_down(&spec).await;
        if let Err(error) = &undone {
            tracing::warn!(sandbox = spec.id, %error, "it is not all gone: it stays, not ready");
            self.keep_remains(spec);
        }
        undone
    }

    /// Keeps a sandbox that could be neither made nor undone, so that it can be removed.
    fn keep_remains(&self, spec: SandboxSpec) {
        let directory = self.directory(&spec.id);
        let Ok(shim) = self.0.launcher.adopt(&directory) else { return };
        let state = watch::Sender::new(State { remains: true, ..State::default() });
        self.insert(Arc::new(Sandbox { spec, directory, shim, state }));
    }

    /// Tears down what was not made to the end: also twice. Goes on past failures and answers
    /// the first; the records go last, and only if all else went.
    async fn tear_down(&self, spec: &SandboxSpec) -> Result<(), Error> {
        let directory = self.directory(&spec.id);
        let released = self.release(spec, async {}).await;
        let shim = self.0.launcher.adopt(&directory).in_step(Step::Shim, &spec.id)?;
        released?;
        self.clear_away(spec, &shim).await
    }

    /// Removes what is left of a sandbox that holds nothing any more.
    async fn clear_away(&self, spec: &SandboxSpec, shim: &ShimClient) -> Result<(), Error> {
        dismiss(spec, shim).await?;
        fail_point!("sandbox.remove.dismissed");
        let directory = self.directory(&spec.id);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).storing("remove", directory);
            }
            _ => {}
        }
        fail_point!("sandbox.remove.directory");
        self.0.states.remove(&spec.id).in_step(Step::Record, &spec.id)?;
        fail_point!("sandbox.remove.state");
        self.0.specs.remove(&spec.id).in_step(Step::Record, &spec.id)
    }

    /// Kills the pause process and releases the network, both at once: plugins find the
    /// namespace by its pin. `ended` is how the end of the process shows soonest; the cgroup's
    /// own notice comes up to ten milliseconds late.
    async fn release(
        &self,
        spec: &SandboxSpec,
        ended: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let killed = async {
            self.0.hierarchy.kill(&spec.cgroup).in_step(Step::Cgroup, &spec.id)?;
            let _ = tokio::time::timeout(DEATH, ended).await;
            self.0.hierarchy.remove(&spec.cgroup).await.in_step(Step::Cgroup, &spec.id)?;
            self.release_scope(spec).await
        };
        let (killed, detached) = tokio::join!(killed, self.detach(spec));
        killed.and(detached)
    }

    /// The namespace stays until the plugins are done with it: only then can all of them undo
    /// what they did.
    async fn detach(&self, spec: &SandboxSpec) -> Result<(), Error> {
        if spec.network == NetworkMode::Host {
            return Ok(());
        }
        let path = self.directory(&spec.id).join("netns");
        let attachment = attachment(spec).and_then(|attachment| attachment.netns(&path));
        let attachment = attachment.in_step(Step::NetworkDel, &spec.id)?;
        self.0.cni.del(&attachment).await.in_step(Step::NetworkDel, &spec.id)?;
        fail_point!("sandbox.stop.detached");
        netns::remove(&path)
    }
}

/// Waits until the shim has ended, which it does when nothing runs in it any more.
async fn dismiss(spec: &SandboxSpec, shim: &ShimClient) -> Result<(), Error> {
    let farewell = async {
        shim.quit().await?;
        shim.gone().await;
        Ok(())
    };
    let late = || berth_runtime::Error::Deadline {
        attempt: format!("end the shim of {}", spec.id),
        after: FAREWELL,
    };
    let ended = tokio::time::timeout(FAREWELL, farewell).await;
    ended.unwrap_or_else(|_| Err(late())).in_step(Step::Shim, &spec.id)
}
