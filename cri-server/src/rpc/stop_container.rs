//! StopContainer: ask a container to end, then end it.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::{Call, lookup};
use crate::api::runtime::{StopContainerRequest, StopContainerResponse};
use crate::node::Node;
use crate::ops::{Key, Operation};
use crate::status;

pub(super) async fn stop_container(
    node: &Node,
    _: Call,
    request: StopContainerRequest,
) -> Result<StopContainerResponse, Status> {
    let Some(container) = lookup::find_container(node, &request.container_id)? else {
        return Ok(StopContainerResponse {});
    };
    let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
    // A stop that is under way already must not take longer than this one
    // allows, so this does not wait for its turn.
    container.lose_patience_by(Instant::now().checked_add(grace));
    let id = container.spec.id.clone();
    let deadline = grace + node.loaded.config.timeouts.stop_margin.get();
    let operation = Operation::new(Key::new("StopContainer", &id), deadline).on(&id);
    let containers = node.containers.clone();
    node.ops
        .run(operation, async move |handle| {
            handle.stage("stop");
            containers.stop(&id, grace).await.map_err(status::of)
        })
        .await?;
    Ok(StopContainerResponse {})
}
