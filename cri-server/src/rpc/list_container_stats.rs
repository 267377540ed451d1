//! ListContainerStats: what containers use, all of them or some.

use tonic::Status;

use super::{Call, container_stats, filter, view};
use crate::api::runtime::{
    ContainerStatsFilter, ListContainerStatsRequest, ListContainerStatsResponse,
};
use crate::node::Node;

pub(super) async fn list_container_stats(
    node: &Node,
    _: Call,
    request: ListContainerStatsRequest,
) -> Result<ListContainerStatsResponse, Status> {
    let wanted: ContainerStatsFilter = request.filter.unwrap_or_default();
    let mut containers = node.containers.list();
    containers.retain(|container| {
        let item = view::container(container);
        item.id.starts_with(&wanted.id)
            && item.pod_sandbox_id.starts_with(&wanted.pod_sandbox_id)
            && filter::has_labels(&item.labels, &wanted.label_selector)
    });
    let stats = containers.iter().filter_map(|container| container_stats::of(node, container));
    Ok(ListContainerStatsResponse { stats: stats.collect() })
}
