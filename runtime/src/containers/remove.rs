//! The one teardown of a container.

use std::time::Duration;

use fail::fail_point;

use crate::client::ShimClient;
use crate::error::Error;

use super::{ContainerSpec, Containers};

impl Containers {
    /// Removes a container, killing it if it runs: also one whose creation was cut off. One
    /// that is gone is fine. The id is one that was given out, not any text of a client's.
    ///
    /// # Errors
    /// If something of it cannot be removed; it stays on record then, and can be removed again.
    pub async fn remove(&self, id: &str) -> Result<(), Error> {
        let Some(container) = self.find(id) else {
            return match self.0.specs.get(id) {
                Some(unfinished) => self.discard(&unfinished).await,
                None => Ok(()),
            };
        };
        self.stop(id, Duration::ZERO).await?;
        self.tear_down(&container.spec, &container.shim).await?;
        self.forget(id);
        Ok(())
    }

    /// Undoes whatever there is of a container that was never started.
    pub(super) async fn discard(&self, spec: &ContainerSpec) -> Result<(), Error> {
        let bundle = self.remove_bundle(spec).await;
        self.0.hierarchy.remove(&spec.cgroup).await?;
        bundle?;
        self.remove_records(&spec.id)
    }

    /// Undoes whatever there is of a container: also half of one, also twice. Goes on past
    /// failures and answers the first; the records go last, and only if all else went.
    async fn tear_down(&self, spec: &ContainerSpec, shim: &ShimClient) -> Result<(), Error> {
        let bundle = self.remove_bundle(spec).await;
        let cgroup = self.0.hierarchy.remove(&spec.cgroup).await;
        fail_point!("container.remove.cgroup");
        let process = match shim.forget(&spec.id).await {
            // A shim that is gone has nothing to forget.
            Err(_) if shim.is_gone() => Ok(()),
            result => result,
        };
        cgroup.and(bundle).and(process)?;
        fail_point!("container.remove.forgotten");
        self.remove_records(&spec.id)
    }

    pub(super) fn remove_records(&self, id: &str) -> Result<(), Error> {
        self.0.states.remove(id)?;
        fail_point!("container.remove.state");
        self.0.specs.remove(id)
    }
}
