//! A container, in full.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::info;
use crate::api::runtime::{
    Container, ContainerState, ContainerStatusResponse, ContainerUser, LinuxContainerResources,
    Mount,
};
use crate::commands::ps;
use crate::node::{Cri, Refused};
use crate::time;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    kind: &'static str,
    id: String,
    name: String,
    attempt: u32,
    pod_id: String,
    state: &'static str,
    exit_code: Option<i32>,
    reason: String,
    message: String,
    created_at: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    image: String,
    image_id: String,
    log_path: String,
    mounts: Vec<MountView>,
    resources: ResourcesView,
    user: Option<UserView>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    info: BTreeMap<String, Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MountView {
    source: String,
    destination: String,
    read_only: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourcesView {
    memory: Option<i64>,
    memory_and_swap: Option<i64>,
    cpu_quota: Option<i64>,
    cpu_period: Option<i64>,
    cpu_shares: Option<i64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
    oom_score_adj: i64,
}

#[derive(Debug, Serialize)]
struct UserView {
    uid: i64,
    gid: i64,
    groups: Vec<i64>,
}

/// Asks for everything about a container, whose pod only the list tells.
pub(super) async fn inspect(cri: &Cri, container: &Container) -> Result<View, Refused> {
    Ok(view(cri.container_status(&container.id, true).await?, &container.pod_sandbox_id))
}

fn view(answer: ContainerStatusResponse, pod: &str) -> View {
    let status = answer.status.unwrap_or_default();
    let state = status.state();
    let exited = state == ContainerState::ContainerExited;
    let metadata = status.metadata.unwrap_or_default();
    let image = status.image.unwrap_or_default();
    let asked_for = Some(image.user_specified_image).filter(|name| !name.is_empty());
    let resources = status.resources.and_then(|resources| resources.linux);
    View {
        kind: "container",
        id: status.id,
        name: metadata.name,
        attempt: metadata.attempt,
        pod_id: pod.to_owned(),
        state: ps::state(state),
        exit_code: exited.then_some(status.exit_code),
        reason: status.reason,
        message: status.message,
        created_at: time::rfc3339(status.created_at),
        started_at: time::rfc3339(status.started_at),
        finished_at: time::rfc3339(status.finished_at),
        image: asked_for.unwrap_or(image.image),
        image_id: if status.image_id.is_empty() { status.image_ref } else { status.image_id },
        log_path: status.log_path,
        mounts: status.mounts.into_iter().map(mount).collect(),
        resources: limits(resources.unwrap_or_default()),
        user: status.user.and_then(user),
        labels: status.labels,
        annotations: status.annotations,
        info: info(answer.info),
    }
}

fn mount(mount: Mount) -> MountView {
    MountView {
        source: mount.host_path,
        destination: mount.container_path,
        read_only: mount.readonly,
    }
}

/// On the wire zero and empty mean that there is no limit.
fn limits(resources: LinuxContainerResources) -> ResourcesView {
    let number = |number: i64| (number != 0).then_some(number);
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    ResourcesView {
        memory: number(resources.memory_limit_in_bytes),
        memory_and_swap: number(resources.memory_swap_limit_in_bytes),
        cpu_quota: number(resources.cpu_quota),
        cpu_period: number(resources.cpu_period),
        cpu_shares: number(resources.cpu_shares),
        cpuset_cpus: text(resources.cpuset_cpus),
        cpuset_mems: text(resources.cpuset_mems),
        oom_score_adj: resources.oom_score_adj,
    }
}

fn user(user: ContainerUser) -> Option<UserView> {
    let linux = user.linux?;
    Some(UserView { uid: linux.uid, gid: linux.gid, groups: linux.supplemental_groups })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::runtime::{
        ContainerMetadata, ContainerResources, ContainerStatus, ImageSpec, LinuxContainerUser,
    };

    fn example() -> ContainerStatus {
        let linux =
            LinuxContainerResources { memory_limit_in_bytes: 1 << 20, ..Default::default() };
        let linux_user = LinuxContainerUser { uid: 1, gid: 2, supplemental_groups: vec![3] };
        ContainerStatus {
            id: "c1".into(),
            metadata: Some(ContainerMetadata { name: "app".into(), attempt: 2 }),
            state: ContainerState::ContainerExited.into(),
            created_at: 1,
            exit_code: 137,
            reason: "OOMKilled".into(),
            image: Some(ImageSpec {
                image: "sha256:aa".into(),
                user_specified_image: "app:1".into(),
                ..Default::default()
            }),
            image_ref: "sha256:aa".into(),
            mounts: vec![Mount {
                container_path: "/b".into(),
                host_path: "/a".into(),
                readonly: true,
                ..Default::default()
            }],
            resources: Some(ContainerResources { linux: Some(linux), windows: None }),
            user: Some(ContainerUser { linux: Some(linux_user) }),
            ..Default::default()
        }
    }

    #[test]
    fn the_json_shape_is_stable() {
        let answer = ContainerStatusResponse { status: Some(example()), ..Default::default() };
        let expected = json!({
            "kind": "container",
            "id": "c1",
            "name": "app",
            "attempt": 2,
            "podId": "p1",
            "state": "exited",
            "exitCode": 137,
            "reason": "OOMKilled",
            "message": "",
            "createdAt": "1970-01-01T00:00:00.000000001Z",
            "startedAt": null,
            "finishedAt": null,
            "image": "app:1",
            "imageId": "sha256:aa",
            "logPath": "",
            "mounts": [{ "source": "/a", "destination": "/b", "readOnly": true }],
            "resources": {
                "memory": 1_048_576,
                "memoryAndSwap": null,
                "cpuQuota": null,
                "cpuPeriod": null,
                "cpuShares": null,
                "cpusetCpus": null,
                "cpusetMems": null,
                "oomScoreAdj": 0,
            },
            "user": { "uid": 1, "gid": 2, "groups": [3] },
            "labels": {},
            "annotations": {},
            "info": {},
        });
        assert_eq!(serde_json::to_value(view(answer, "p1")).unwrap(), expected);
    }
}
