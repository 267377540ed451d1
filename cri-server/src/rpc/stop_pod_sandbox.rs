//! StopPodSandbox: end what runs in a pod, and release its network.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tonic::Status;

use super::{Call, lookup};
use crate::api::runtime::{StopPodSandboxRequest, StopPodSandboxResponse};
use crate::node::Node;
use crate::ops::{Key, Operation};
use crate::status;

pub(super) async fn stop_pod_sandbox(
    node: &Node,
    _: Call,
    request: StopPodSandboxRequest,
) -> Result<StopPodSandboxResponse, Status> {
    if let Some(sandbox) = lookup::find_sandbox(node, &request.pod_sandbox_id)? {
        stop(node, &sandbox.spec.id).await?;
    }
    Ok(StopPodSandboxResponse {})
}

/// Stops a sandbox, in its own queue. Containers that still run are killed:
/// who wants them to end in peace stops them first.
async fn stop(node: &Node, id: &str) -> Result<(), Status> {
    let deadline = node.loaded.config.timeouts.pod_stop.get();
    let operation = Operation::new(Key::new("StopPodSandbox", id), deadline).on(id);
    let (sandboxes, containers) = (node.sandboxes.clone(), node.containers.clone());
    let (metrics, id) = (node.metrics.clone(), id.to_owned());
    node.ops
        .run(operation, async move |handle| {
            handle.stage("containers");
            let of_pod = containers.of_sandbox(&id);
            let stops = of_pod.iter().map(|c| containers.stop(&c.spec.id, Duration::ZERO));
            for stopped in join_all(stops).await {
                stopped.map_err(status::of)?;
            }
            handle.stage("network and pause");
            let begun = Instant::now();
            sandboxes.stop(&id).await.map_err(status::of)?;
            metrics.network_operation("del", begun.elapsed());
            Ok(())
        })
        .await
}
