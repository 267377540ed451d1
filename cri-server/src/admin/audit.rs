//! Audit: what is there that no record owns.

use std::collections::{BTreeMap, HashSet};

use berth_imageservice::StrayKind;
use berth_runtime::cgroup::CgroupPath;
use tonic::Status;
use tonic::codegen::BoxStream;

use crate::api::admin::audit_response::Event;
use crate::api::admin::stray::Class;
use crate::api::admin::{AuditCount, AuditRequest, AuditResponse, AuditSummary, Stray};
use crate::node::Node;
use crate::rpc::Call;
use crate::status;

pub(super) async fn audit(
    node: &Node,
    _: Call,
    _: AuditRequest,
) -> Result<BoxStream<AuditResponse>, Status> {
    // Asked before and after: what was begun or ended while we looked is no stray.
    let mut in_the_making = node.making.snapshot();
    let mut strays = Vec::new();
    cgroups(node, &mut strays);
    sandboxes(node, &mut strays).await?;
    images(node, &mut strays).await?;
    orphans(node, &mut strays);
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
        let class = match found.kind {
            StrayKind::Snapshot | StrayKind::SnapshotDirectory => Class::Snapshot,
            StrayKind::Ingest => Class::Ingest,
            StrayKind::Record | StrayKind::MissingRecord => Class::Record,
            _ => Class::File,
        };
        let reason = format!("{:?}", found.kind);
        strays.push(stray(class, found.path.display().to_string(), reason));
    }
    Ok(())
}

/// Containers whose sandbox is gone.
fn orphans(node: &Node, strays: &mut Vec<Stray>) {
    for container in node.containers.list() {
        if node.sandboxes.find(&container.spec.sandbox).is_none() {
            let reason = format!("its sandbox {} is gone", container.spec.sandbox);
            strays.push(stray(Class::Record, &container.spec.id, reason));
        }
    }
}

fn checked(node: &Node) -> Vec<AuditCount> {
    let counts = BTreeMap::from([
        (Class::Cgroup as i32, node.hierarchy.owned().len()),
        (Class::Shim as i32, node.sandboxes.list().len()),
        (Class::Snapshot as i32, node.images.snapshots().len()),
        (Class::Record as i32, node.sandboxes.list().len() + node.containers.list().len()),
    ]);
    let count = |(class, objects)| AuditCount { class, objects: objects as u64 };
    counts.into_iter().map(count).collect()
}
