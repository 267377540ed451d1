//! ListPodSandbox: all pods, or some.

use tonic::Status;

use super::{Call, filter, view};
use crate::api::runtime::{
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxFilter,
};
use crate::node::Node;

pub(super) async fn list_pod_sandbox(
    node: &Node,
    _: Call,
    request: ListPodSandboxRequest,
) -> Result<ListPodSandboxResponse, Status> {
    let wanted = request.filter.unwrap_or_default();
    let mut items: Vec<_> =
        node.sandboxes.list().iter().map(|sandbox| view::sandbox(sandbox)).collect();
    items.retain(|item| fits(item, &wanted));
    items.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
    Ok(ListPodSandboxResponse { items })
}

fn fits(item: &PodSandbox, wanted: &PodSandboxFilter) -> bool {
    item.id.starts_with(&wanted.id)
        && wanted.state.is_none_or(|wanted| wanted.state == item.state)
        && filter::has_labels(&item.labels, &wanted.label_selector)
}
