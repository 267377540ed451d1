//! PodSandboxStatus: what a pod is at, with its containers, in one look.

use std::collections::BTreeMap;

use tonic::Status;

use super::{Call, lookup, view};
use crate::api::runtime::{PodSandboxStatusRequest, PodSandboxStatusResponse};
use crate::node::{Node, now};

pub(super) async fn pod_sandbox_status(
    node: &Node,
    _: Call,
    request: PodSandboxStatusRequest,
) -> Result<PodSandboxStatusResponse, Status> {
    let sandbox = lookup::sandbox(node, &request.pod_sandbox_id)?;
    let containers = node.containers.of_sandbox(&sandbox.spec.id);
    let mut info = BTreeMap::new();
    if request.verbose {
        let state = sandbox.state();
        let network = state.network.as_deref().map(serde_json::from_str::<serde_json::Value>);
        let text = serde_json::json!({
            "pid": state.pause,
            "cgroup": sandbox.spec.cgroup.as_str(),
            "netns": sandbox.home().ok().and_then(|home| home.netns),
            "cniResult": network.and_then(Result::ok),
        });
        info.insert("info".to_owned(), text.to_string());
    }
    Ok(PodSandboxStatusResponse {
        status: Some(view::sandbox_status(&sandbox)),
        info,
        containers_statuses: containers
            .iter()
            .map(|container| view::container_status(container, &node.images))
            .collect(),
        timestamp: now(),
    })
}
