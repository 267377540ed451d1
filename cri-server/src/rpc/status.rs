//! Status: whether pods can be run here, and if not, why.

use std::collections::BTreeMap;

use berth_sandbox::network::NetworkStatus;
use tonic::Status as GrpcStatus;

use super::Call;
use crate::api::runtime::{
    RuntimeCondition, RuntimeFeatures, RuntimeHandler, RuntimeStatus, StatusRequest, StatusResponse,
};
use crate::node::Node;

pub(super) async fn status(
    node: &Node,
    _: Call,
    request: StatusRequest,
) -> Result<StatusResponse, GrpcStatus> {
    let config = &node.loaded.config;
    let mut info = BTreeMap::new();
    if request.verbose {
        let text = serde_json::json!({
            "root": config.dirs.root,
            "stateDir": config.dirs.state,
            "sandboxImage": "",
        });
        info.insert("config".to_owned(), text.to_string());
    }
    let handler = |name: &str| RuntimeHandler { name: name.to_owned(), features: None };
    Ok(StatusResponse {
        status: Some(RuntimeStatus { conditions: conditions(node) }),
        info,
        runtime_handlers: vec![handler(""), handler(&config.runtime.default_handler)],
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            ..RuntimeFeatures::default()
        }),
    })
}

/// What the kubelet waits for, and what an operator wants to know.
pub(crate) fn conditions(node: &Node) -> Vec<RuntimeCondition> {
    vec![runtime(node), network(node), controllers(node)]
}

fn runtime(node: &Node) -> RuntimeCondition {
    let stopping = node.stopping.is_cancelled();
    let (reason, message) =
        if stopping { ("Stopping", "berthd was told to stop") } else { ("", "") };
    condition("RuntimeReady", !stopping, reason, message)
}

fn network(node: &Node) -> RuntimeCondition {
    match node.sandboxes.network() {
        NetworkStatus::Ready { .. } => condition("NetworkReady", true, "", ""),
        NetworkStatus::NotReady { reason, message } => {
            condition("NetworkReady", false, &reason.to_string(), &message)
        }
    }
}

/// Controllers that limits of Kubernetes need.
fn controllers(node: &Node) -> RuntimeCondition {
    let mut missing = vec!["cpu", "cpuset", "io", "memory", "pids"];
    missing.retain(|wanted| !node.hierarchy.controllers().any(|has| has == *wanted));
    let reason = if missing.is_empty() { "" } else { "MissingControllers" };
    let message = match missing.as_slice() {
        [] => String::new(),
        missing => format!("no cgroup controller for {}", missing.join(", ")),
    };
    condition("ControllersReady", missing.is_empty(), reason, &message)
}

fn condition(kind: &str, status: bool, reason: &str, message: &str) -> RuntimeCondition {
    RuntimeCondition {
        r#type: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}
