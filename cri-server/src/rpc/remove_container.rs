//! RemoveContainer: leave nothing of a container but its log.

use tonic::Status;

use super::{Call, lookup};
use crate::api::runtime::{RemoveContainerRequest, RemoveContainerResponse};
use crate::node::Node;

pub(super) async fn remove_container(
    node: &Node,
    _: Call,
    request: RemoveContainerRequest,
) -> Result<RemoveContainerResponse, Status> {
    if let Some(container) = lookup::find_container(node, &request.container_id)? {
        node.remover().remove(&container.spec.id).await?;
    }
    Ok(RemoveContainerResponse {})
}
