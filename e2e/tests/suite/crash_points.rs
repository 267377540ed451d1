//! berthd is killed (-9) at each point of the code at which it has just made, recorded or removed
//! something. The next start finds what is left, the work can be done again, and nothing stays.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::client::{Client, PodSpec, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::network;
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use tonic::Status;

/// A request that was cut off here is repeated word for word, and succeeds.
const MAKING: [&str; 18] = [
    "sandbox.run.record",
    "sandbox.run.cgroup",
    "sandbox.run.shim",
    "sandbox.run.netns",
    "sandbox.run.network",
    "sandbox.run.files",
    "shim.start.sent",
    "sandbox.run.pause",
    "sandbox.run.state",
    "snapshot.prepare.record",
    "container.create.snapshot",
    "container.create.record",
    "container.create.cgroup",
    "container.create.state",
    "container.start.running",
    "container.start.state",
    "container.update.record",
    "container.update.limits",
];

/// Points at which a pod with a user namespace, whose pause process comes first, has other things
/// than one without.
const WITH_USERS: [&str; 6] = [
    "sandbox.run.shim",
    "sandbox.run.pause",
    "sandbox.run.netns",
    "sandbox.run.network",
    "container.start.running",
    "sandbox.stop.detached",
];

/// What was being taken down here is taken down.
const UNMAKING: [&str; 15] = [
    "container.stop.killed",
    "container.end.killed",
    "container.end.state",
    "container.remove.cgroup",
    "container.remove.forgotten",
    "container.remove.state",
    "container.remove.records",
    "snapshot.release.cleared",
    "sandbox.stop.unready",
    "sandbox.stop.detached",
    "sandbox.stop.released",
    "sandbox.remove.dismissed",
    "sandbox.remove.directory",
    "sandbox.remove.state",
    "image.remove.names",
];

/// An image that was coming, or going, here can be pulled and removed.
const IMAGES: [&str; 6] = [
    "image.pull.unpacked",
    "image.pull.synced",
    "image.pull.layers",
    "image.pull.record",
    "image.pull.names",
    "image.remove.record",
];

#[test]
fn what_was_being_made_is_made_by_the_same_request_after_a_kill() {
    place::native(async |place| killed_at_each(&place, &MAKING, Afterwards::Repeat).await);
}

#[test]
fn a_pod_with_a_user_namespace_is_made_and_removed_after_a_kill() {
    let life = || pod("life").users(131_072);
    place::native(async |place| {
        killed_at_each_of(&place, &WITH_USERS, Afterwards::Remove, life).await
    });
}

#[test]
fn what_was_being_removed_is_removed_after_a_kill() {
    place::native(async |place| killed_at_each(&place, &UNMAKING, Afterwards::Remove).await);
}

#[test]
fn an_image_is_there_whole_or_not_at_all_after_a_kill() {
    place::native(async |place| killed_at_each(&place, &IMAGES, Afterwards::Remove).await);
}

/// A point that nobody is killed at proves nothing.
#[test]
fn every_point_of_the_code_is_tried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    for krate in ["runtime", "sandbox", "imageservice", "cri-server"] {
        collect_points(&root.join(krate).join("src"), &mut found).unwrap();
    }
    let tried = [&MAKING[..], &UNMAKING[..], &IMAGES[..]].concat();
    assert_eq!(found, tried.into_iter().map(str::to_owned).collect());
}

fn collect_points(directory: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_points(&path, found)?;
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let names = text.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split_once('"'));
        found.extend(names.map(|(name, _)| name.to_owned()));
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Afterwards {
    /// As a kubelet whose answer was lost does.
    Repeat,
    /// As a kubelet that finds something it does not want does.
    Remove,
}

async fn killed_at_each(place: &Place, points: &[&str], afterwards: Afterwards) -> Result<()> {
    killed_at_each_of(place, points, afterwards, || pod("life")).await
}

async fn killed_at_each_of(
    place: &Place,
    points: &[&str],
    afterwards: Afterwards,
    spec: fn() -> PodSpec,
) -> Result<()> {
    let network = network::bridge(1).install(place)?;
    let mut node = Node::start_with(place, Setup::new(Engine::Berthd).network(&network)).await?;
    let layer = Layer::new().with(Entry::file("story", "of a life"));
    let image = node.registry.push("life:1", &Image::from_scratch().layer(layer).build()?).await?;
    let mut life = Life { pod: spec(), busybox: node.image.clone(), image };
    let audit = node.audit()?;
    for point in points {
        life.pod = spec();
        killed_at(&mut node, point, &life, afterwards)
            .await
            .with_context(|| format!("killed at {point}"))?;
        audit.assert_clean().await.with_context(|| format!("after a kill at {point}"))?;
    }
    Ok(())
}

async fn killed_at(node: &mut Node, point: &str, life: &Life, after: Afterwards) -> Result<()> {
    node.daemon.arm(point, "kill");
    node.kill_and_restart().await?;
    let lived = life.live(&node.client).await;
    ensure!(lived.is_err(), "it was not killed");
    let status = node.daemon.ended().await?;
    ensure!(status.signal() == Some(9), "{status}, {lived:?}");

    node.daemon.disarm();
    node.daemon.start().await?;
    node.client = node.daemon.client().await?;
    if let Afterwards::Remove = after {
        for left in node.client.pods().await? {
            node.client.pod(&left.id).delete().await?;
        }
    }
    life.live(&node.client).await.context("the same again")?;
    Ok(())
}

/// All that is done to a pod, a container and an image, one after the other.
struct Life {
    pod: PodSpec,
    busybox: String,
    image: String,
}

impl Life {
    async fn live(&self, client: &Client) -> Result<(), Status> {
        client.pull(&self.image).await?;
        let pod = client.run_pod(self.pod.clone()).await?;
        let sleeper = container("sleeper").image(&self.busybox).cmd(["sleep", "inf"]);
        let sleeper = pod.run(sleeper).await?;
        // The one limit that needs no controller.
        let thaw = ("cgroup.freeze".to_owned(), "0".to_owned());
        sleeper.update(|limits| limits.unified.extend([thaw])).await?;
        sleeper.exec(["true"]).await?;
        sleeper.stop(0).await?;
        sleeper.remove().await?;
        pod.stop().await?;
        pod.remove().await?;
        client.remove_image(&self.image).await
    }
}
