//! ListContainers: all containers, or some.

use tonic::Status;

use super::{Call, filter, view};
use crate::api::runtime::{
    Container, ContainerFilter, ListContainersRequest, ListContainersResponse,
};
use crate::node::Node;

pub(super) async fn list_containers(
    node: &Node,
    _: Call,
    request: ListContainersRequest,
) -> Result<ListContainersResponse, Status> {
    let wanted = request.filter.unwrap_or_default();
    let mut containers: Vec<_> =
        node.containers.list().iter().map(|container| view::container(container)).collect();
    containers.retain(|container| fits(container, &wanted));
    containers.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
    Ok(ListContainersResponse { containers })
}

fn fits(container: &Container, wanted: &ContainerFilter) -> bool {
    container.id.starts_with(&wanted.id)
        && container.pod_sandbox_id.starts_with(&wanted.pod_sandbox_id)
        && wanted.state.is_none_or(|wanted| wanted.state == container.state)
        && filter::has_labels(&container.labels, &wanted.label_selector)
}
