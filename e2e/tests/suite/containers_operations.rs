//! Requests about containers that come twice, at once, or from a client that does not wait.

use std::time::Duration;

use anyhow::Result;
use berth_e2e::client::cri::ContainerState;
use berth_e2e::client::{Code, ContainerSpec, Pod, assert_refused, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::{network, place, process, wait};

/// How long a client of these tests waits before it goes away.
const IMPATIENT: Duration = Duration::from_millis(200);

#[test]
fn an_identical_request_gets_the_same_container() {
    place::native(async |place| {
        let mut node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]).env("A", "1");
        let first = pod.create(spec.clone()).await?;
        assert_eq!(pod.create(spec.clone()).await?.id, first.id);
        let other = spec.clone().cmd(["sleep", "1"]);
        assert_refused(pod.create(other).await, Code::AlreadyExists, &[&first.id]);

        first.start().await?;
        assert_eq!(pod.create(spec.clone()).await?.id, first.id);
        let again = spec.clone().with(|c| c.metadata.get_or_insert_default().attempt = 1);
        let again = pod.create(again).await?;
        assert_ne!(again.id, first.id, "another attempt is another container");

        node.kill_and_restart().await?;
        let config = pod.config;
        let mut pod = node.client.pod(&pod.id);
        pod.config = config;
        assert_eq!(pod.create(spec.clone()).await?.id, first.id, "also after a restart");
        node.client.container(&first.id).remove().await?;
        assert_ne!(pod.create(spec).await?.id, first.id, "it is gone");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn identical_requests_at_once_make_one_container() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (pod, spec) = (pod.clone(), spec.clone());
            requests.spawn(async move {
                let app = pod.create(spec).await?;
                // All of them start it, too; it is started once.
                app.start().await?;
                anyhow::Ok((app.id.clone(), app.status().await?.started_at))
            });
        }
        let mut answers = requests.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(node.client.containers().await?.len(), 1);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// A node on which creating a container takes longer than [`IMPATIENT`].
async fn slow(place: &place::Place) -> Result<Node> {
    let network = network::bridge(1).masquerade().port_mappings().install(place)?;
    let setup = Setup::new(Engine::Berthd).network(&network);
    Node::start_with(place, setup.failpoint("container.create.snapshot", "1*sleep(1000)")).await
}

async fn create_and_leave(pod: &Pod, spec: &ContainerSpec) {
    let left = tokio::time::timeout(IMPATIENT, pod.create(spec.clone())).await;
    assert!(left.is_err(), "the client was meant to leave before the answer: {left:?}");
}

#[test]
fn a_container_is_created_although_its_client_has_gone() {
    place::native(async |place| {
        let node = slow(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
        create_and_leave(&pod, &spec).await;
        let made = wait::until("it is there", Duration::from_secs(10), async || {
            Ok(node.client.containers().await?.pop())
        });
        let made = made.await?;
        assert_eq!(pod.create(spec).await?.id, made.id);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_client_that_comes_back_gets_what_it_has_begun() {
    place::native(async |place| {
        let node = slow(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
        create_and_leave(&pod, &spec).await;
        let app = pod.create(spec).await?;
        assert_eq!(node.client.containers().await?.len(), 1);
        app.start().await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_stop_goes_on_although_its_client_has_gone() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        // As the first of its PID namespace it need not even ignore the signal.
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        tokio::time::timeout(IMPATIENT, app.stop(1)).await.expect_err("the client leaves");
        assert_eq!(app.state().await?, ContainerState::ContainerRunning);
        assert_eq!(app.wait_for_exit().await?.exit_code, 137);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Nobody could be told what came of it.
#[test]
fn a_command_ends_with_its_client() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let runs = || !process::find(&["sleep 4321"]).is_empty();
        let started = async || Ok(runs().then_some(()));
        tokio::select! {
            output = app.exec(["sleep", "4321"]) => panic!("it ended: {output:?}"),
            started = wait::until("the command runs", Duration::from_secs(10), started) => started?,
        }
        let killed = async || Ok((!runs()).then_some(()));
        wait::until("the command is gone", Duration::from_secs(10), killed).await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}
