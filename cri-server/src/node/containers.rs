//! Containers and what belongs to them in other libraries.

use std::time::Duration;

use berth_imageservice::{Images, SnapshotKey};
use berth_runtime::containers::Containers;
use fail::fail_point;
use tonic::Status;

use crate::ops::{Key, Operation, Ops};
use crate::status;

use super::{CpuSamples, Node};

/// Name of the writable layer of a container: its id.
///
/// # Errors
/// `INVALID_ARGUMENT` for an id that is none of ours.
pub fn snapshot_key(container: &str) -> Result<SnapshotKey, Status> {
    container.parse().map_err(status::of)
}

/// Removes containers with all that belongs to them.
#[derive(Clone, Debug)]
pub struct Remover {
    containers: Containers,
    images: Images,
    ops: Ops,
    cpu_samples: CpuSamples,
    deadline: Duration,
}

impl Node {
    /// What removes containers, to be taken along into an operation.
    #[must_use]
    pub fn remover(&self) -> Remover {
        Remover {
            containers: self.containers.clone(),
            images: self.images.clone(),
            ops: self.ops.clone(),
            cpu_samples: self.cpu_samples.clone(),
            deadline: self.loaded.config.timeouts.container_remove.get(),
        }
    }
}

impl Remover {
    /// Removes a container with its writable layer, in its own queue.
    ///
    /// # Errors
    /// What could not be removed; it can be tried again.
    pub async fn remove(&self, id: &str) -> Result<(), Status> {
        let operation = Operation::new(Key::new("RemoveContainer", id), self.deadline).on(id);
        let (this, id) = (self.clone(), id.to_owned());
        self.ops
            .run(operation, async move |handle| {
                handle.stage("container");
                this.containers.remove(&id).await.map_err(status::of)?;
                fail_point!("container.remove.records");
                handle.stage("snapshot");
                this.images.release(&snapshot_key(&id)?).await.map_err(status::of)?;
                this.cpu_samples.forget(&id);
                this.ops.forget(&id);
                Ok(())
            })
            .await
    }
}
