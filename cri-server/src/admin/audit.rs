//! Audit: what is there that no record owns.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use berth_imageservice::StrayKind;
use berth_runtime::cgroup::CgroupPath;
use berth_runtime::containers::State;
use tonic::Status;
use tonic::codegen::BoxStream;

use crate::api::admin::audit_response::Event;
use crate::api::admin::stray::Class;
use crate::api::admin::{AuditCount, AuditRequest, AuditResponse, AuditSummary, Stray};
use crate::node::Node;
use crate::rpc::Call;
use crate::status;

/// How long the last processes of a container that has just ended may take to go.
const DEATH: Duration = Duration::from_secs(1);

pub(super) async fn audit(
    node: &Node,
    _: Call,
    _: AuditRequest,
) -> Result<BoxStream<AuditResponse>, Status> {
    // Asked before and after: what was begun or ended while we looked is no stray.
    let mut in_the_making = node.making.snapshot();
    let mut strays = Vec::new();
    cgroups(node, &mut strays);
    pods(node, &mut strays);
    containers(node, &mut strays).await;
    foreign(node, &mut strays)?;
    sandboxes(node, &mut strays).await?;
    images(node, &mut strays).await?;
    in_the_making.extend(node.making.snapshot());
    strays.retain(|stray| !in_the_making.iter().any(|id| stray.object.contains(id.as_str())));

    let summary = AuditSummary { strays: strays.len() as u64, checked: checked(node) };
    let events = strays.into_iter().map(Event::Stray).chain([Event::Summary(summary)]);
    let answers: Vec<_> = events.map(|event| Ok(AuditResponse { event: Some(event) })).collect();
    Ok(Box::pin(tokio_stream::iter(answers)))
}

fn stray(class: Class, object: impl Into<String>, reason: impl Into<String>) -> Stray {
    Stray {
        class: class.into(),
        object: object.into(),
        owner: String::new(),
        operation: String::new(),
        reason: reason.into(),
    }
}

/// A cgroup with our mark belongs to a pod or a container, or is above or below one that does.
fn cgroups(node: &Node, strays: &mut Vec<Stray>) {
    let mut known = node.containers.cgroups();
    known.extend(node.sandboxes.cgroups());
    let related =
        |path: &CgroupPath| known.iter().any(|known| known.contains(path) || path.contains(known));
    for path in node.hierarchy.owned().iter().filter(|path| !related(path)) {
        strays.push(stray(Class::Cgroup, path.as_str(), "no pod or container has this cgroup"));
    }
}

/// A pod that is ready has its cgroup.
fn pods(node: &Node, strays: &mut Vec<Stray>) {
    for pod in node.sandboxes.list() {
        // In this order: it is not ready any more before its cgroup goes.
        if !node.hierarchy.exists(&pod.spec.cgroup) && pod.state().ready {
            strays.push(stray(Class::Cgroup, pod.spec.cgroup.as_str(), "a ready pod has lost it"));
        }
    }
}

/// A container has its pod, and its cgroup until it ends; then it has no process any more.
async fn containers(node: &Node, strays: &mut Vec<Stray>) {
    for container in node.containers.list() {
        let spec = &container.spec;
        let cgroup = spec.cgroup.as_str();
        if node.sandboxes.find(&spec.sandbox).is_none() {
            let reason = format!("its sandbox {} is gone", spec.sandbox);
            strays.push(stray(Class::Record, &spec.id, reason));
        }
        // In this order: its end is known before its cgroup goes.
        let has_cgroup = node.hierarchy.exists(&spec.cgroup);
        let has_ended = matches!(container.state(), State::Exited(_));
        if !has_cgroup && !has_ended {
            strays.push(stray(Class::Cgroup, cgroup, "a container has lost it"));
        }
        if has_cgroup && has_ended && node.hierarchy.empty(&spec.cgroup, DEATH).await.is_err() {
            let reason = "its container has ended, and processes in it have not";
            strays.push(stray(Class::Process, cgroup, reason));
        }
    }
}

/// What is kept for foreign runtimes belongs to a container. A runtime's directory that somebody
/// has configured may be others' too.
fn foreign(node: &Node, strays: &mut Vec<Stray>) -> Result<(), Status> {
    let state = &node.loaded.config.dirs.state;
    let runtimes = node.handlers.iter().filter_map(|handler| handler.runtime.as_ref());
    let roots: Vec<_> = runtimes.map(|runtime| runtime.root.as_path()).collect();
    let own: Vec<_> = roots.into_iter().filter(|root| root.starts_with(state)).collect();
    for path in node.containers.foreign_strays(&own).map_err(status::of)? {
        strays.push(stray(Class::File, path, "no container has this bundle or runtime state"));
    }
    Ok(())
}

async fn sandboxes(node: &Node, strays: &mut Vec<Stray>) -> Result<(), Status> {
    use berth_sandbox::StrayKind;
    for found in node.sandboxes.audit().await.map_err(status::of)? {
        let (class, reason) = match found.kind {
            StrayKind::Directory => (Class::File, "no sandbox has this directory"),
            StrayKind::Mount => (Class::Mount, "no sandbox has this mount"),
            StrayKind::Shim => (Class::Shim, "no sandbox has this shim"),
            StrayKind::Attachment => (Class::Record, "no sandbox has this network attachment"),
            StrayKind::Address => (Class::Ipam, "no sandbox has this address"),
            StrayKind::Link => (Class::Link, "no sandbox has this interface"),
            StrayKind::MissingNamespace => (Class::Netns, "a ready sandbox has lost it"),
        };
        strays.push(stray(class, found.name, reason));
    }
    Ok(())
}

async fn images(node: &Node, strays: &mut Vec<Stray>) -> Result<(), Status> {
    let live: HashSet<_> = node.containers.ids().iter().filter_map(|id| id.parse().ok()).collect();
    for found in node.images.audit(live).await.map_err(status::of)? {
        let (class, reason) = match found.kind {
            StrayKind::Unknown => (Class::File, "nothing of the image store's has this name"),
            StrayKind::Layer => (Class::File, "no image and no snapshot has this layer"),
            StrayKind::MissingLayer => (Class::File, "a layer that is on record is not there"),
            StrayKind::Ingest => (Class::Ingest, "nobody is making this"),
            StrayKind::Record => (Class::Record, "a record that berthd does not know"),
            StrayKind::MissingRecord => (Class::Record, "berthd knows it, the disk does not"),
            StrayKind::SnapshotDirectory => (Class::Snapshot, "no snapshot has this directory"),
            StrayKind::Snapshot => (Class::Snapshot, "its container does not exist"),
            StrayKind::Quarantined => (Class::File, "was not understood at a start, and set aside"),
        };
        strays.push(stray(class, found.path.display().to_string(), reason));
    }
    Ok(())
}

fn checked(node: &Node) -> Vec<AuditCount> {
    let counts = BTreeMap::from([
        (Class::Cgroup as i32, node.hierarchy.owned().len()),
        (Class::Shim as i32, node.sandboxes.list().len()),
        (Class::Process as i32, node.containers.list().len()),
        (Class::Snapshot as i32, node.images.snapshots().len()),
        (Class::Record as i32, node.sandboxes.list().len() + node.containers.list().len()),
    ]);
    let count = |(class, objects)| AuditCount { class, objects: objects as u64 };
    counts.into_iter().map(count).collect()
}
