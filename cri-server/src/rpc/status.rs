//! Status: whether pods can be run here, and if not, why.

use std::collections::BTreeMap;

use berth_runtime::apparmor;
use berth_runtime::foreign::Features;
use berth_sandbox::network::NetworkStatus;
use tonic::Status as GrpcStatus;

use super::Call;
use crate::api::runtime::{
    RuntimeCondition, RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus,
    StatusRequest, StatusResponse,
};
use crate::node::Node;
use crate::translate::security::selinux_is_on;

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
            "apparmor": apparmor::is_enabled(),
            "selinux": selinux_is_on(),
        });
        info.insert("config".to_owned(), text.to_string());
    }
    Ok(StatusResponse {
        status: Some(RuntimeStatus { conditions: conditions(node) }),
        info,
        runtime_handlers: handlers(node),
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            ..RuntimeFeatures::default()
        }),
    })
}

/// All handlers, and the default one once more by its empty name.
fn handlers(node: &Node) -> Vec<RuntimeHandler> {
    let told = |name: &str, features: &Features| RuntimeHandler {
        name: name.to_owned(),
        features: Some(RuntimeHandlerFeatures {
            recursive_read_only_mounts: features.recursive_read_only,
            user_namespaces: features.user_namespaces,
        }),
    };
    let default = node.handlers.find("").map(|handler| told("", &handler.features));
    let named = node.handlers.iter().map(|handler| told(&handler.name, &handler.features));
    default.into_iter().chain(named).collect()
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
