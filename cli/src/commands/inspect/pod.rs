//! A pod, in full.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::info;
use crate::api::runtime::{
    Container, NamespaceMode, NamespaceOption, PodSandboxStatus, PodSandboxStatusResponse,
};
use crate::commands::{pods, ps};
use crate::names::{Names, container_name};
use crate::node::{Cri, Refused};
use crate::time;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    kind: &'static str,
    id: String,
    namespace: String,
    name: String,
    uid: String,
    attempt: u32,
    state: &'static str,
    created_at: Option<String>,
    runtime_handler: String,
    ips: Vec<String>,
    namespaces: Namespaces,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    containers: Vec<Inside>,
    info: BTreeMap<String, Value>,
}

#[derive(Debug, Serialize)]
struct Namespaces {
    network: &'static str,
    pid: &'static str,
    ipc: &'static str,
}

/// A container in the pod.
#[derive(Debug, Serialize)]
struct Inside {
    id: String,
    name: String,
    attempt: u32,
    state: &'static str,
}

/// Asks for everything about a pod.
pub(super) async fn inspect(cri: &Cri, names: &Names, id: &str) -> Result<View, Refused> {
    let answer = cri.pod_status(id, true).await?;
    Ok(view(answer, names.containers_of(id).map(inside).collect()))
}

fn view(answer: PodSandboxStatusResponse, containers: Vec<Inside>) -> View {
    let status = answer.status.unwrap_or_default();
    let metadata = status.metadata.clone().unwrap_or_default();
    View {
        kind: "pod",
        namespaces: namespaces(&status),
        state: pods::state(status.state()),
        id: status.id,
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        attempt: metadata.attempt,
        created_at: time::rfc3339(status.created_at),
        runtime_handler: status.runtime_handler,
        ips: pods::ips(status.network),
        labels: status.labels,
        annotations: status.annotations,
        containers,
        info: info(answer.info),
    }
}

fn inside(container: &Container) -> Inside {
    Inside {
        id: container.id.clone(),
        name: container_name(container).to_owned(),
        attempt: container.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
        state: ps::state(container.state()),
    }
}

fn namespaces(status: &PodSandboxStatus) -> Namespaces {
    let options = status.linux.as_ref().and_then(|linux| linux.namespaces.as_ref());
    let options = options.and_then(|namespaces| namespaces.options.clone()).unwrap_or_default();
    let NamespaceOption { network, pid, ipc, .. } = options;
    Namespaces { network: mode(network), pid: mode(pid), ipc: mode(ipc) }
}

fn mode(mode: i32) -> &'static str {
    match NamespaceMode::try_from(mode) {
        Ok(NamespaceMode::Pod) => "pod",
        Ok(NamespaceMode::Container) => "container",
        Ok(NamespaceMode::Node) => "node",
        Ok(NamespaceMode::Target) => "target",
        Err(_) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::runtime::{
        LinuxPodSandboxStatus, Namespace, PodSandboxMetadata, PodSandboxNetworkStatus,
    };

    #[test]
    fn the_json_shape_is_stable() {
        let options =
            NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
        let metadata = PodSandboxMetadata { name: "web".into(), ..Default::default() };
        let network = PodSandboxNetworkStatus { ip: "10.1.0.2".into(), ..Default::default() };
        let status = PodSandboxStatus {
            id: "a1".into(),
            metadata: Some(metadata),
            created_at: 1,
            network: Some(network),
            linux: Some(LinuxPodSandboxStatus {
                namespaces: Some(Namespace { options: Some(options) }),
            }),
            ..Default::default()
        };
        let answer = PodSandboxStatusResponse { status: Some(status), ..Default::default() };
        let expected = json!({
            "kind": "pod",
            "id": "a1",
            "namespace": "",
            "name": "web",
            "uid": "",
            "attempt": 0,
            "state": "ready",
            "createdAt": "1970-01-01T00:00:00.000000001Z",
            "runtimeHandler": "",
            "ips": ["10.1.0.2"],
            "namespaces": { "network": "pod", "pid": "container", "ipc": "pod" },
            "labels": {},
            "annotations": {},
            "containers": [{ "id": "", "name": "", "attempt": 0, "state": "created" }],
            "info": {},
        });
        let view = view(answer, vec![inside(&Container::default())]);
        assert_eq!(serde_json::to_value(view).unwrap(), expected);
    }
}
