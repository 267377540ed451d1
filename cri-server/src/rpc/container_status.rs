//! ContainerStatus: what a container is at.

use std::collections::BTreeMap;

use berth_runtime::containers::State;
use tonic::Status;

use super::{Call, lookup, view};
use crate::api::runtime::{ContainerStatusRequest, ContainerStatusResponse};
use crate::node::Node;

pub(super) async fn container_status(
    node: &Node,
    _: Call,
    request: ContainerStatusRequest,
) -> Result<ContainerStatusResponse, Status> {
    let container = lookup::container(node, &request.container_id)?;
    let mut info = BTreeMap::new();
    if request.verbose {
        let pid = match container.state() {
            State::Running { pid, .. } => Some(pid),
            _ => None,
        };
        let text = serde_json::json!({
            "pid": pid,
            "sandboxID": container.spec.sandbox,
            "cgroup": container.spec.cgroup.as_str(),
            "runtimeSpec": container.current_spec().oci,
        });
        info.insert("info".to_owned(), text.to_string());
    }
    let status = view::container_status(&container, &node.images);
    Ok(ContainerStatusResponse { status: Some(status), info })
}
