//! The life of a pod as a client sees it: run, stop, remove, status, list.

use anyhow::Result;
use berth_e2e::client::cri::{PodSandboxFilter, PodSandboxState, PodSandboxStateValue};
use berth_e2e::client::{Client, Code, assert_refused, container, now, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::{network, place};

#[test]
fn a_pod_is_run_stopped_and_removed() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::from_env(Engine::Berthd)?).await?;
        let audit = node.audit()?;
        let spec = pod("web").label("app", "web").annotation("note", "kept").attempt(3);
        let before = now();
        let pod = node.client.run_pod(spec.clone()).await?;

        let status = pod.status().await?;
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
        let metadata = status.metadata.clone().unwrap_or_default();
        assert_eq!(Some(metadata), spec.config.metadata);
        assert_eq!((&status.labels["app"][..], &status.annotations["note"][..]), ("web", "kept"));
        assert!((before..=now()).contains(&status.created_at), "{}", status.created_at);

        let server = pod.run(container("server").image(&node.image).cmd(["sleep", "inf"])).await?;
        pod.stop().await?;
        assert_eq!(pod.state().await?, PodSandboxState::SandboxNotready);
        assert_eq!(server.wait_for_exit().await?.exit_code, 137, "the containers went first");
        pod.remove().await?;
        assert!(node.client.pods().await?.is_empty());
        assert!(node.client.containers().await?.is_empty());
        audit.assert_clean().await
    });
}

#[test]
fn a_stop_and_a_remove_can_be_repeated() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::from_env(Engine::Berthd)?).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("twice")).await?;
        pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        for _ in 0..3 {
            pod.stop().await?;
            assert_eq!(pod.state().await?, PodSandboxState::SandboxNotready);
        }
        for _ in 0..3 {
            pod.remove().await?;
            assert_refused(pod.status().await, Code::NotFound, &[&pod.id]);
        }
        audit.assert_clean().await
    });
}

#[test]
fn a_running_pod_is_removed_with_all_that_runs_in_it() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::from_env(Engine::Berthd)?).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("doomed")).await?;
        for name in ["one", "two"] {
            pod.run(container(name).image(&node.image).cmd(["sleep", "inf"])).await?;
        }
        pod.create(container("never-started").image(&node.image).cmd(["true"])).await?;
        pod.remove().await?;
        assert!(node.client.containers().await?.is_empty());
        audit.assert_clean().await
    });
}

/// What the kubelet relies on: gone is success for who wants it gone, NOT_FOUND for who asks.
#[test]
fn what_is_unknown_is_gone() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::from_env(Engine::Berthd)?).await?;
        let unknown = node.client.pod(&"0".repeat(64));
        unknown.stop().await?;
        unknown.remove().await?;
        assert_refused(unknown.status().await, Code::NotFound, &[&unknown.id, "not found"]);
        let orphan = container("orphan").image(&node.image).cmd(["true"]);
        assert_refused(unknown.create(orphan).await, Code::NotFound, &[&unknown.id]);

        let stopped = node.client.run_pod(pod("stopped")).await?;
        stopped.stop().await?;
        let late = container("late").image(&node.image).cmd(["true"]);
        let refused = stopped.create(late).await;
        assert_refused(refused, Code::FailedPrecondition, &[&stopped.id, "not ready"]);
        Ok(stopped.remove().await?)
    });
}

#[test]
fn odd_ids_are_refused_or_unknown_and_do_no_harm() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let client = daemon.client().await?;
        assert_refused(client.pod("").status().await, Code::InvalidArgument, &["pod_sandbox_id"]);
        assert_refused(client.pod("").stop().await, Code::InvalidArgument, &["pod_sandbox_id"]);
        let huge = "f".repeat(1 << 20);
        for odd in ["..", "../../etc/passwd", "a\nb", "\u{202e}", "%00", &huge] {
            let pod = client.pod(odd);
            let message = assert_refused(pod.status().await, Code::NotFound, &["not found"]);
            assert!(message.len() < 1024, "{} bytes", message.len());
            pod.stop().await?;
            pod.remove().await?;
        }
        Ok(())
    });
}

#[test]
fn pods_are_listed_by_id_state_and_labels() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::from_env(Engine::Berthd)?).start(&place).await?;
        let client = daemon.client().await?;
        let run = async |name: &str, tier: &str| {
            let spec = pod(name).host_network().label("app", "shop").label("tier", tier);
            client.run_pod(spec).await
        };
        let (front, back) = (run("front", "front").await?, run("back", "back").await?);
        back.stop().await?;
        let both = || sorted([&front.id, &back.id]);

        assert_eq!(list(&client, |_| {}).await?, both());
        assert_eq!(list(&client, |f| f.id = front.id.clone()).await?, sorted([&front.id]));
        assert_eq!(list(&client, |f| f.id = front.id[..12].into()).await?, sorted([&front.id]));
        assert_eq!(list(&client, |f| f.id = "0".repeat(64)).await?, sorted([]));
        for (state, expected) in [(0, &front.id), (1, &back.id)] {
            let state = Some(PodSandboxStateValue { state });
            assert_eq!(list(&client, |f| f.state = state).await?, sorted([expected]));
        }
        assert_eq!(list(&client, |f| select(f, "app", "shop")).await?, both());
        assert_eq!(list(&client, |f| select(f, "tier", "back")).await?, sorted([&back.id]));
        assert_eq!(list(&client, |f| select(f, "tier", "none")).await?, sorted([]));
        let all = |f: &mut PodSandboxFilter| {
            select(f, "app", "shop");
            select(f, "tier", "front");
            f.state = Some(PodSandboxStateValue { state: 0 });
        };
        assert_eq!(list(&client, all).await?, sorted([&front.id]));
        front.delete().await?;
        Ok(back.delete().await?)
    });
}

async fn list(client: &Client, narrow: impl FnOnce(&mut PodSandboxFilter)) -> Result<Vec<String>> {
    let mut filter = PodSandboxFilter::default();
    narrow(&mut filter);
    Ok(client.pods_where(filter).await?)
}

fn select(filter: &mut PodSandboxFilter, label: &str, value: &str) {
    filter.label_selector.insert(label.to_owned(), value.to_owned());
}

fn sorted<const N: usize>(ids: [&String; N]) -> Vec<String> {
    let mut ids = ids.map(String::clone).to_vec();
    ids.sort();
    ids
}

/// People type the beginning of an id.
#[test]
fn a_beginning_of_an_id_is_enough() {
    place::native(async |place| {
        let network = network::bridge(1).install(&place)?;
        let daemon = Setup::new(Engine::Berthd).network(&network).start(&place).await?;
        let client = daemon.client().await?;
        let pod = client.run_pod(pod("long")).await?;
        let short = client.pod(&pod.id[..13]);
        assert_eq!(short.status().await?.id, pod.id);
        short.stop().await?;
        assert!(network.addresses()?.is_empty());
        short.remove().await?;
        assert!(client.pods().await?.is_empty());
        Ok(())
    });
}
