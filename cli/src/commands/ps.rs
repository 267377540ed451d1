//! `berth ps`: the containers of the node.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::api::runtime::{Container, ContainerState, ContainerStatus, Image};
use crate::names::{Names, container_name, image_name};
use crate::node::{Cri, Node, Refused};
use crate::output::Listing;
use crate::table::{self, Table};
use crate::time;

const JSON: &str = "\
JSON: a list of objects with
  id, name, attempt
  podId, podNamespace, podName
  image        the image as it was asked for
  imageId      what that was
  state        created, running, exited or unknown
  exitCode     null unless it has exited
  reason       why it is in this state, as in Completed, Error or OOMKilled; empty while it runs
  createdAt, startedAt, finishedAt   times
  labels, annotations";

/// List containers, newest first; only those that run, unless all are asked for
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Ps {
    /// List all containers, also those that do not run
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    id: String,
    name: String,
    attempt: u32,
    pod_id: String,
    pod_namespace: Option<String>,
    pod_name: Option<String>,
    image: String,
    image_id: String,
    state: &'static str,
    exit_code: Option<i32>,
    reason: String,
    created_at: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    #[serde(skip)]
    times: Times,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    created: i64,
    started: i64,
    finished: i64,
}

/// Prints the list.
pub(crate) async fn execute(node: &Node, options: Ps) -> anyhow::Result<ExitCode> {
    let cri = node.cri().await?;
    let mut names = Names::read(&cri).await?;
    let runs = |container: &Container| container.state() == ContainerState::ContainerRunning;
    names.containers.retain(|container| options.all || runs(container));
    let images = cri.list_images().await?;
    let mut views = Vec::new();
    for container in &names.containers {
        if let Some(status) = status(&cri, &container.id).await? {
            views.push(view(container, status, &names, &images));
        }
    }
    options.listing.tell(&views, |view| &view.id, |views, whole| table(views, whole, time::now()))
}

/// The status of a container, unless it went away since it was listed.
async fn status(cri: &Cri, id: &str) -> Result<Option<ContainerStatus>, Refused> {
    match cri.container_status(id, false).await {
        Ok(answer) => Ok(Some(answer.status.unwrap_or_default())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn view(container: &Container, status: ContainerStatus, names: &Names, images: &[Image]) -> View {
    let pod = names.pod_of(container).and_then(|pod| pod.metadata.clone());
    let exited = status.state() == ContainerState::ContainerExited;
    let (image, image_id) = image(container, images);
    View {
        id: container.id.clone(),
        name: container_name(container).to_owned(),
        attempt: container.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
        pod_id: container.pod_sandbox_id.clone(),
        pod_namespace: pod.as_ref().map(|metadata| metadata.namespace.clone()),
        pod_name: pod.map(|metadata| metadata.name),
        image,
        image_id,
        state: state(status.state()),
        exit_code: exited.then_some(status.exit_code),
        reason: status.reason,
        created_at: time::rfc3339(status.created_at),
        started_at: time::rfc3339(status.started_at),
        finished_at: time::rfc3339(status.finished_at),
        labels: container.labels.clone(),
        annotations: container.annotations.clone(),
        times: Times {
            created: status.created_at,
            started: status.started_at,
            finished: status.finished_at,
        },
    }
}

/// How a container's state is called.
pub(super) fn state(state: ContainerState) -> &'static str {
    match state {
        ContainerState::ContainerCreated => "created",
        ContainerState::ContainerRunning => "running",
        ContainerState::ContainerExited => "exited",
        ContainerState::ContainerUnknown => "unknown",
    }
}

/// The image's name and id. Clients create containers by the image's id, so that the name is
/// found with the image, unless they tell what the person asked for.
fn image(container: &Container, images: &[Image]) -> (String, String) {
    let spec = container.image.clone().unwrap_or_default();
    let is = |image: &&Image| {
        let named = |names: &[String]| names.contains(&container.image_ref);
        [&container.image_id, &container.image_ref, &spec.image].contains(&&image.id)
            || named(&image.repo_digests)
            || named(&image.repo_tags)
    };
    let found = images.iter().find(is);
    let id = found.map_or(container.image_ref.clone(), |image| image.id.clone());
    let name = match (spec.user_specified_image, found) {
        (name, _) if !name.is_empty() => name,
        (_, Some(image)) => image_name(image).to_owned(),
        (_, None) => spec.image,
    };
    (name, id)
}

fn table(views: &[View], whole_ids: bool, now: i64) -> Table<6> {
    let mut table = Table::new(["CONTAINER ID", "NAME", "POD", "IMAGE", "STATE", "CREATED"]);
    for view in views {
        let pod = match (&view.pod_namespace, &view.pod_name) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
            _ => table::id(&view.pod_id, whole_ids),
        };
        table.row([
            table::id(&view.id, whole_ids),
            view.name.clone(),
            pod,
            view.image.clone(),
            told_state(view, now),
            time::ago(view.times.created, now),
        ]);
    }
    table
}

/// The state, with since when and how it ended.
fn told_state(view: &View, now: i64) -> String {
    let Times { started, finished, .. } = view.times;
    match (view.state, view.exit_code) {
        ("running", _) => format!("running for {}", time::since(started, now)),
        (_, Some(code)) => format!("exited ({code}) {}", time::ago(finished, now)),
        (state, None) => state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::runtime::{ContainerMetadata, ImageSpec, PodSandbox, PodSandboxMetadata};

    const SECOND: i64 = 1_000_000_000;

    fn container() -> Container {
        let image = ImageSpec { image: "sha256:aa".into(), ..Default::default() };
        Container {
            id: "c1".into(),
            pod_sandbox_id: "p1".into(),
            metadata: Some(ContainerMetadata { name: "app".into(), attempt: 2 }),
            image: Some(image),
            image_ref: "sha256:aa".into(),
            ..Default::default()
        }
    }

    fn names() -> Names {
        let metadata = PodSandboxMetadata {
            name: "web".into(),
            namespace: "default".into(),
            ..Default::default()
        };
        let pod = PodSandbox { id: "p1".into(), metadata: Some(metadata), ..Default::default() };
        Names { pods: vec![pod], containers: vec![] }
    }

    fn viewed(state: ContainerState) -> View {
        let status = ContainerStatus {
            state: state.into(),
            created_at: SECOND,
            started_at: 2 * SECOND,
            finished_at: 3 * SECOND,
            exit_code: 137,
            ..Default::default()
        };
        let tags = vec!["docker.io/library/app:1".into()];
        let image = Image { id: "sha256:aa".into(), repo_tags: tags, ..Default::default() };
        view(&container(), status, &names(), &[image])
    }

    #[test]
    fn a_row_tells_how_long_it_runs_or_how_it_ended() {
        let states = [ContainerState::ContainerRunning, ContainerState::ContainerExited];
        let lines = table(&states.map(viewed), false, 63 * SECOND).lines();
        let row = "c1             app    default/web   docker.io/library/app:1";
        assert_eq!(lines[1], format!("{row}   running for 1 minute        1 minute ago"));
        assert_eq!(lines[2], format!("{row}   exited (137) 1 minute ago   1 minute ago"));
    }

    #[test]
    fn the_json_shape_is_stable() {
        let expected = json!({
            "id": "c1",
            "name": "app",
            "attempt": 2,
            "podId": "p1",
            "podNamespace": "default",
            "podName": "web",
            "image": "docker.io/library/app:1",
            "imageId": "sha256:aa",
            "state": "running",
            "exitCode": null,
            "reason": "",
            "createdAt": "1970-01-01T00:00:01.000000000Z",
            "startedAt": "1970-01-01T00:00:02.000000000Z",
            "finishedAt": "1970-01-01T00:00:03.000000000Z",
            "labels": {},
            "annotations": {},
        });
        let running = viewed(ContainerState::ContainerRunning);
        assert_eq!(serde_json::to_value(running).unwrap(), expected);
        assert_eq!(viewed(ContainerState::ContainerExited).exit_code, Some(137));
    }

    #[test]
    fn an_image_is_called_what_the_person_called_it() {
        let mut container = container();
        container.image.as_mut().unwrap().user_specified_image = "app".into();
        assert_eq!(image(&container, &[]), ("app".into(), "sha256:aa".into()));
    }
}
