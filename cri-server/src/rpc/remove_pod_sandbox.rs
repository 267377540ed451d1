//! RemovePodSandbox: leave nothing of a pod.

use futures_util::future::join_all;
use tonic::Status;

use super::{Call, lookup};
use crate::api::runtime::{RemovePodSandboxRequest, RemovePodSandboxResponse};
use crate::node::Node;
use crate::ops::{Key, Operation};
use crate::status;

pub(super) async fn remove_pod_sandbox(
    node: &Node,
    _: Call,
    request: RemovePodSandboxRequest,
) -> Result<RemovePodSandboxResponse, Status> {
    let Some(sandbox) = lookup::find_sandbox(node, &request.pod_sandbox_id)? else {
        return Ok(RemovePodSandboxResponse {});
    };
    let id = sandbox.spec.id.clone();
    let deadline = node.loaded.config.timeouts.pod_remove.get();
    let operation = Operation::new(Key::new("RemovePodSandbox", &id), deadline).on(&id);
    let (containers, remover) = (node.containers.clone(), node.remover());
    let (sandboxes, ops) = (node.sandboxes.clone(), node.ops.clone());
    node.ops
        .run(operation, async move |handle| {
            handle.stage("containers");
            let of_pod = containers.of_sandbox(&id);
            for removed in join_all(of_pod.iter().map(|c| remover.remove(&c.spec.id))).await {
                removed?;
            }
            handle.stage("sandbox");
            sandboxes.remove(&id).await.map_err(status::of)?;
            ops.forget(&id);
            Ok(())
        })
        .await?;
    Ok(RemovePodSandboxResponse {})
}
