//! StartContainer: run a container's program; answered when it runs.

use berth_runtime::containers::State;
use tonic::Status;

use super::{Call, lookup};
use crate::api::runtime::{StartContainerRequest, StartContainerResponse};
use crate::node::Node;
use crate::ops::{Key, Operation};
use crate::status;

pub(super) async fn start_container(
    node: &Node,
    _: Call,
    request: StartContainerRequest,
) -> Result<StartContainerResponse, Status> {
    let container = lookup::container(node, &request.container_id)?;
    let id = container.spec.id.clone();
    let deadline = node.loaded.config.timeouts.container_start.get();
    let operation = Operation::new(Key::new("StartContainer", &id), deadline).on(&id);
    let (containers, sandboxes) = (node.containers.clone(), node.sandboxes.clone());
    node.ops
        .run(operation, async move |handle| {
            handle.stage("sandbox");
            // Who asks again because the answer was lost has what it asked for.
            if matches!(container.state(), State::Running { .. }) {
                return Ok(());
            }
            let sandbox = sandboxes.get(&container.spec.sandbox).map_err(status::of)?;
            sandbox.home().map_err(status::of)?;
            containers.start(&id, |stage| handle.stage(stage)).await.map_err(status::of)
        })
        .await?;
    Ok(StartContainerResponse {})
}
