//! ReopenContainerLog: go on in a new file after a rotation.

use tonic::Status;

use super::{Call, lookup};
use crate::api::runtime::{ReopenContainerLogRequest, ReopenContainerLogResponse};
use crate::node::Node;
use crate::ops::{Key, Operation};
use crate::status;

/// Has no place in the container's queue: a rotation must not wait for a stop.
pub(super) async fn reopen_container_log(
    node: &Node,
    _: Call,
    request: ReopenContainerLogRequest,
) -> Result<ReopenContainerLogResponse, Status> {
    let container = lookup::container(node, &request.container_id)?;
    let id = container.spec.id.clone();
    let deadline = node.loaded.config.timeouts.container_start.get();
    let operation = Operation::attended(Key::new("ReopenContainerLog", &id), deadline);
    let containers = node.containers.clone();
    node.ops
        .run(operation, async move |handle| {
            handle.stage("shim");
            containers.reopen_log(&id).await.map_err(status::of)
        })
        .await?;
    Ok(ReopenContainerLogResponse {})
}
