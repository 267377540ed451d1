//! Info: who answers, and what is in force.

use berth_runtime::apparmor;
use tonic::Status;

use super::timestamp;
use crate::about;
use crate::api::admin::{Condition, Feature, InfoRequest, InfoResponse, Setting};
use crate::api::runtime::RuntimeCondition;
use crate::config;
use crate::node::{Handler, Node};
use crate::rpc::{Call, status};
use crate::translate::security::selinux_is_on;

pub(super) async fn info(node: &Node, _: Call, _: InfoRequest) -> Result<InfoResponse, Status> {
    let settings = config::effective(&node.loaded).into_iter();
    Ok(InfoResponse {
        version: about::VERSION.to_owned(),
        revision: about::REVISION.to_owned(),
        rustc: about::RUSTC.to_owned(),
        pid: std::process::id(),
        started_at: timestamp(node.started_at),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        settings: settings
            .map(|s| Setting { key: s.key, value: s.value, origin: s.origin })
            .collect(),
        features: features(node),
        conditions: status::conditions(node).into_iter().map(condition).collect(),
    })
}

fn condition(condition: RuntimeCondition) -> Condition {
    let RuntimeCondition { r#type, status, reason, message } = condition;
    Condition { r#type, status, reason, message }
}

/// A runtime handler, and what it can do.
fn handler(handler: &Handler) -> Feature {
    let features = &handler.features;
    let mut details = Vec::new();
    if let Some(runtime) = &handler.runtime {
        details.push(runtime.path.display().to_string());
    }
    match handler.check() {
        Err(status) => details = vec![status.message().to_owned()],
        Ok(()) => details.extend(features.untold.clone()),
    }
    let can = [
        ("recursive read-only mounts", features.recursive_read_only),
        ("user namespaces", features.user_namespaces),
    ];
    details.extend(can.iter().filter(|(_, can)| *can).map(|(what, _)| (*what).to_owned()));
    Feature {
        name: format!("runtime handler {}", handler.name),
        available: handler.check().is_ok(),
        detail: details.join(", "),
    }
}

/// A security module of the kernel, and what there is to say of it.
fn module(name: &str, available: bool, detail: &str) -> Feature {
    let detail = if available { detail } else { "the running kernel has it not enabled" };
    Feature { name: name.to_owned(), available, detail: detail.to_owned() }
}

/// Runtime handlers, security modules, and controllers of the host's cgroup hierarchy.
fn features(node: &Node) -> Vec<Feature> {
    let has: Vec<_> = node.hierarchy.controllers().collect();
    let all = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma", "misc"];
    let feature = |name: &str| Feature {
        name: format!("cgroup controller {name}"),
        available: has.contains(&name),
        detail: String::new(),
    };
    let modules = [
        module("AppArmor", apparmor::is_enabled(), apparmor::DEFAULT),
        module("SELinux", selinux_is_on(), "labels are refused by this version"),
    ];
    let controllers = all.into_iter().map(feature);
    node.handlers.iter().map(handler).chain(modules).chain(controllers).collect()
}
