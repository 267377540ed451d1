//! `berth-oci` as the runtime binary of another engine: Debian's containerd runs pods with it.

use std::path::Path;

use anyhow::{Context, Result};
use berth_e2e::client::cri::ContainerState;
use berth_e2e::client::{Output, container, pod};
use berth_e2e::daemon::{Engine, Setup, binaries};
use berth_e2e::network;
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};

async fn node(place: &Place) -> Result<Node> {
    let network = network::bridge(1).masquerade().port_mappings().install(place)?;
    let program = binaries::find("berth-oci")?;
    let setup = Setup::new(Engine::Containerd).network(&network).oci_runtime(&program);
    Node::start_with(place, setup).await
}

/// The records of our runtime, at the place that containerd's shim names.
fn records() -> Result<Vec<String>> {
    let root = Path::new("/run/containerd/runc/k8s.io");
    let entries = std::fs::read_dir(root).with_context(|| format!("read {}", root.display()))?;
    let found = entries.flatten().filter(|entry| entry.path().join("state.json").exists());
    Ok(found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

#[test]
fn a_pod_lives_and_goes() {
    place::native(async |place| {
        let node = node(&place).await?;
        node.client.run_pod(pod("first")).await?.delete().await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("web").label("app", "web")).await?;
        let script = "echo begun; echo oops >&2; trap 'exit 7' TERM; while :; do sleep 0.1; done";
        let server = pod.run(container("server").image(&node.image).script(script)).await?;
        server.wait_for_log("begun").await?;
        assert_eq!(records()?.len(), 2, "the pause container and the other one are ours");
        let output = server.exec(["sh", "-c", "echo in; echo no >&2; exit 3"]).await?;
        assert_eq!(output, Output { code: 3, stdout: "in\n".into(), stderr: "no\n".into() });
        let missing = server.exec(["nowhere"]).await;
        assert!(missing.is_err() || missing?.code != 0, "there is no such program");
        server.stop(10).await?;
        let status = server.status().await?;
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 7));
        pod.delete().await?;
        assert_eq!(records()?.len(), 0);
        audit.assert_clean().await
    });
}

#[test]
fn a_container_that_cannot_start_says_why() {
    place::native(async |place| {
        let node = node(&place).await?;
        let pod = node.client.run_pod(pod("web")).await?;
        let broken = pod.run(container("broken").image(&node.image).args(["/nowhere"])).await;
        let error = format!("{:#}", broken.err().context("it started")?);
        assert!(error.contains("/nowhere") && error.contains("not found"), "{error}");
        pod.delete().await?;
        Ok(())
    });
}

#[test]
fn a_killed_container_leaves_nothing() {
    place::native(async |place| {
        let node = node(&place).await?;
        node.client.run_pod(pod("first")).await?.delete().await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("web")).await?;
        let script = "trap '' TERM; sleep 1000 & echo begun; while :; do sleep 0.1; done";
        let server = pod.run(container("server").image(&node.image).script(script)).await?;
        server.wait_for_log("begun").await?;
        server.stop(0).await?;
        assert_eq!(server.status().await?.exit_code, 137);
        pod.delete().await?;
        audit.assert_clean().await
    });
}
