//! `berth pods`: the pods of the node.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::api::runtime::{
    ContainerState, PodSandbox, PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus,
};
use crate::names::Names;
use crate::node::{Cri, Node, Refused};
use crate::output::Listing;
use crate::table::{self, Table};
use crate::time;

const JSON: &str = "\
JSON: a list of objects with
  id, namespace, name, uid, attempt
  state            ready or notready
  ips              list of the pod's addresses; empty on the node's network
  containers       number of containers
  running          number of those that run
  createdAt        time
  runtimeHandler   empty for the default
  labels, annotations";

/// List pods, newest first
#[derive(Debug, Args)]
#[command(visible_alias = "ls", after_long_help = JSON)]
pub(crate) struct Pods {
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    id: String,
    namespace: String,
    name: String,
    uid: String,
    attempt: u32,
    state: &'static str,
    ips: Vec<String>,
    containers: usize,
    running: usize,
    created_at: Option<String>,
    runtime_handler: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    #[serde(skip)]
    created: i64,
}

/// Prints the list.
pub(crate) async fn execute(node: &Node, options: Pods) -> anyhow::Result<ExitCode> {
    let cri = node.cri().await?;
    let names = Names::read(&cri).await?;
    let mut views = Vec::new();
    for pod in &names.pods {
        if let Some(status) = status(&cri, &pod.id).await? {
            views.push(view(pod, &names, status));
        }
    }
    options.listing.tell(&views, |view| &view.id, |views, whole| table(views, whole, time::now()))
}

/// The status of a pod, unless it went away since it was listed.
async fn status(cri: &Cri, id: &str) -> Result<Option<PodSandboxStatus>, Refused> {
    match cri.pod_status(id, false).await {
        Ok(answer) => Ok(Some(answer.status.unwrap_or_default())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn view(pod: &PodSandbox, names: &Names, status: PodSandboxStatus) -> View {
    let metadata = pod.metadata.clone().unwrap_or_default();
    let running = |state: i32| state == i32::from(ContainerState::ContainerRunning);
    View {
        id: pod.id.clone(),
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        attempt: metadata.attempt,
        state: state(pod.state()),
        ips: ips(status.network),
        containers: names.containers_of(&pod.id).count(),
        running: names.containers_of(&pod.id).filter(|c| running(c.state)).count(),
        created_at: time::rfc3339(pod.created_at),
        runtime_handler: pod.runtime_handler.clone(),
        labels: pod.labels.clone(),
        annotations: pod.annotations.clone(),
        created: pod.created_at,
    }
}

/// How a pod's state is called.
pub(super) fn state(state: PodSandboxState) -> &'static str {
    match state {
        PodSandboxState::SandboxReady => "ready",
        PodSandboxState::SandboxNotready => "notready",
    }
}

/// All addresses of a pod, the first one first.
pub(super) fn ips(network: Option<PodSandboxNetworkStatus>) -> Vec<String> {
    let PodSandboxNetworkStatus { ip, additional_ips } = network.unwrap_or_default();
    let all = std::iter::once(ip).chain(additional_ips.into_iter().map(|ip| ip.ip));
    all.filter(|ip| !ip.is_empty()).collect()
}

fn table(views: &[View], whole_ids: bool, now: i64) -> Table<6> {
    let mut table = Table::new(["POD ID", "NAME", "STATE", "RUNNING", "IP", "CREATED"]);
    for view in views {
        table.row([
            table::id(&view.id, whole_ids),
            format!("{}/{}", view.namespace, view.name),
            view.state.to_owned(),
            format!("{}/{}", view.running, view.containers),
            view.ips.join(","),
            time::ago(view.created, now),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::runtime::{Container, PodIp, PodSandboxMetadata};

    fn example() -> View {
        let pod = PodSandbox {
            id: "0123456789abcdef".into(),
            metadata: Some(PodSandboxMetadata {
                name: "web".into(),
                uid: "u1".into(),
                namespace: "default".into(),
                attempt: 1,
            }),
            created_at: 1_000_000_000,
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ..Default::default()
        };
        let container = |state: ContainerState| Container {
            pod_sandbox_id: pod.id.clone(),
            state: state.into(),
            ..Default::default()
        };
        let containers = vec![
            container(ContainerState::ContainerRunning),
            container(ContainerState::ContainerExited),
            Container::default(),
        ];
        let names = Names { pods: vec![pod.clone()], containers };
        let network = PodSandboxNetworkStatus {
            ip: "10.1.0.2".into(),
            additional_ips: vec![PodIp { ip: "fd00::2".into() }],
        };
        view(&pod, &names, PodSandboxStatus { network: Some(network), ..Default::default() })
    }

    #[test]
    fn a_table_row_tells_what_a_person_asks_first() {
        let lines = table(&[example()], false, 61_000_000_000).lines();
        let expected = [
            "POD ID          NAME          STATE   RUNNING   IP                 CREATED",
            "0123456789abc   default/web   ready   1/2       10.1.0.2,fd00::2   1 minute ago",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_json_shape_is_stable() {
        let expected = json!([{
            "id": "0123456789abcdef",
            "namespace": "default",
            "name": "web",
            "uid": "u1",
            "attempt": 1,
            "state": "ready",
            "ips": ["10.1.0.2", "fd00::2"],
            "containers": 2,
            "running": 1,
            "createdAt": "1970-01-01T00:00:01.000000000Z",
            "runtimeHandler": "",
            "labels": { "app": "web" },
            "annotations": {},
        }]);
        assert_eq!(serde_json::to_value([example()]).unwrap(), expected);
    }
}
