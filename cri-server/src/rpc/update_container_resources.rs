//! UpdateContainerResources: other limits for a container that exists.
//!
//! What a request does not speak of stays: zero and empty are not said. A container that runs or
//! is created has the limits at once, all or none of them; of one that has ended they are kept
//! on record, and the request succeeds, as with the field's other runtimes: the kubelet does not
//! know yet.

use prost::Message as _;
use tonic::Status;

use super::{Call, lookup};
use crate::api::runtime::{UpdateContainerResourcesRequest, UpdateContainerResourcesResponse};
use crate::node::{ContainerOrigin, Node};
use crate::ops::{Fingerprint, Key, Operation};
use crate::status;
use crate::translate::{merge_resources, updated_resources_to_oci};

pub(super) async fn update_container_resources(
    node: &Node,
    _: Call,
    request: UpdateContainerResourcesRequest,
) -> Result<UpdateContainerResourcesResponse, Status> {
    let container = lookup::container(node, &request.container_id)?;
    let Some(linux) = request.linux.clone() else {
        return Ok(UpdateContainerResourcesResponse {});
    };
    let id = container.spec.id.clone();
    let deadline = node.loaded.config.timeouts.container_update.get();
    let operation = Operation::new(Key::new("UpdateContainerResources", &id), deadline)
        .fingerprint(Fingerprint::of(&request))
        .on(&id);
    let containers = node.containers.clone();
    node.ops
        .run(operation, async move |handle| {
            handle.stage("update");
            let mut origin = ContainerOrigin::whole(&container.origin());
            let resources = merge_resources(origin.resources(), &linux);
            let limits = updated_resources_to_oci(&resources)?;
            origin.resources = Some(resources);
            // The kernel frees memory, and kills, before it answers that a limit is in force.
            let update =
                move || containers.update(&id, &limits, origin.encode_to_vec()).map_err(status::of);
            let updated = tokio::task::spawn_blocking(update).await;
            updated.unwrap_or_else(|_| Err(Status::internal("the update has panicked")))
        })
        .await?;
    Ok(UpdateContainerResourcesResponse {})
}
