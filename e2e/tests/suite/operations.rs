//! Work belongs to the daemon and not to whoever asked for it: a request that is repeated joins
//! what its first one began, whoever left, and there is one effect of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use berth_e2e::berth::Berth;
use berth_e2e::client::{Client, Code, assert_refused, container, pod};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::network::{self, Fault, Gate, Network, When};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use berth_e2e::{audit, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

/// A daemon whose plugin waits at a gate before it attaches a pod.
async fn gated(place: &Place, config: &str) -> Result<(Daemon, Network, Gate)> {
    let gate = Gate::new(place)?;
    let fault = Fault::gate("bridge", "ADD", When::Before, &gate);
    let network = network::bridge(1).fault(fault).install(place)?;
    let config = format!("version = 1\n{config}\n");
    let setup = Setup::new(Engine::Berthd).network(&network).config(&config);
    Ok((setup.start(place).await?, network, gate))
}

/// What the daemon is at, as it tells its administrator.
async fn operations(daemon: &Daemon) -> Result<Vec<Value>> {
    let told = Berth::of(daemon)?.json(&["ops"]).await?;
    Ok(told.as_array().cloned().unwrap_or_default())
}

async fn clients(daemon: &Daemon, count: u64) -> Result<()> {
    wait::until(&format!("{count} clients wait"), SOON, async || {
        let list = operations(daemon).await?;
        Ok((list.len() == 1 && list[0]["waiting"] == count).then_some(()))
    })
    .await
}

#[test]
fn the_same_request_at_the_same_time_is_one_pod() {
    place::native(async |place| {
        let (daemon, network, mut gate) = gated(&place, "").await?;
        let client = daemon.client().await?;
        let audit = audit::Audit::begin(audit::Scope::of(&daemon))?;
        let spec = pod("p");
        let other = spec.clone().label("changed", "yes");
        let run = || client.run_pod(spec.clone());
        let at_the_gate = async {
            let id = gate.reached().await?;
            clients(&daemon, 4).await?;
            gate.let_through()?;
            Ok::<_, anyhow::Error>(id)
        };
        let (a, b, c, d, id) = tokio::join!(run(), run(), run(), run(), at_the_gate);
        let ids: BTreeSet<_> = [a?.id, b?.id, c?.id, d?.id, id?].into();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!((client.pods().await?.len(), network.addresses()?.len()), (1, 1));

        // It is made: the same again is answered, and no plugin runs.
        let pod = client.run_pod(spec.clone()).await?;
        assert!(ids.contains(&pod.id));
        let refused = client.run_pod(other.clone()).await;
        assert_refused(refused, Code::AlreadyExists, &[&pod.id, "other parameters"]);
        network.mend("bridge")?;
        let second = client.run_pod(spec.clone().attempt(1)).await?;
        assert_ne!(second.id, pod.id, "another attempt is another pod");
        pod.delete().await?;
        let third = client.run_pod(other).await?;
        assert!(!ids.contains(&third.id), "what is removed is forgotten");
        second.delete().await?;
        third.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_client_that_leaves_stops_nothing_and_gets_its_pod_when_it_comes_again() {
    place::native(async |place| {
        let (daemon, network, mut gate) = gated(&place, "").await?;
        let client = daemon.client().await?;
        let audit = audit::Audit::begin(audit::Scope::of(&daemon))?;
        let spec = pod("p");
        let id = leave(&client, &spec, &mut gate).await?;
        clients(&daemon, 0).await?;

        let (joined, passed) = tokio::join!(client.run_pod(spec.clone()), async {
            clients(&daemon, 1).await?;
            gate.let_through()
        });
        passed?;
        let pod = joined?;
        assert_eq!(pod.id, id);
        assert_eq!((client.pods().await?.len(), network.addresses()?.len()), (1, 1));
        pod.delete().await?;

        // A client that does not wait for the end finds it as well.
        let id = leave(&client, &spec, &mut gate).await?;
        gate.let_through()?;
        wait::until("the work ends by itself", SOON, async || {
            Ok((client.pods().await?.len() == 1).then_some(()))
        })
        .await?;
        let pod = client.run_pod(spec.clone()).await?;
        assert_eq!(pod.id, id);
        pod.delete().await?;

        // A client that has changed its mind meanwhile gets what it wants now.
        let id = leave(&client, &spec, &mut gate).await?;
        network.mend("bridge")?;
        let changed = spec.label("changed", "yes");
        let pod = client.run_pod(changed).await?;
        assert_ne!(pod.id, id);
        assert_eq!((client.pods().await?.len(), network.addresses()?.len()), (1, 1));
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Asks for a pod and hangs up when the plugin runs; answers the id that the plugin was given.
async fn leave(
    client: &Client,
    spec: &berth_e2e::client::PodSpec,
    gate: &mut Gate,
) -> Result<String> {
    tokio::select! {
        ran = client.run_pod(spec.clone()) => anyhow::bail!("it should wait: {ran:?}"),
        id = gate.reached() => id,
    }
}

#[test]
fn an_operation_past_its_deadline_names_its_step_and_is_undone() {
    place::native(async |place| {
        let config = "[timeouts]\npod_start = \"600ms\"";
        let (daemon, network, mut gate) = gated(&place, config).await?;
        let client = daemon.client().await?;
        let audit = audit::Audit::begin(audit::Scope::of(&daemon))?;
        let spec = pod("slow");
        let begun = Instant::now();
        let (refused, reached) = tokio::join!(client.run_pod(spec.clone()), gate.reached());
        reached?;
        assert_refused(refused, Code::DeadlineExceeded, &["e2e/slow", "`network add`", "after 6"]);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());

        // The next try waits until the first one is undone.
        let through = async {
            gate.reached().await?;
            gate.let_through()
        };
        let (pod, through) = tokio::join!(client.run_pod(spec), through);
        through?;
        let pod = pod?;
        assert_eq!((client.pods().await?.len(), network.addresses()?.len()), (1, 1));
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn what_a_deadline_leaves_is_listed_until_it_can_be_undone() {
    place::native(async |place| {
        let mut gate = Gate::new(&place)?;
        let fault = Fault::gate("bridge", "ADD", When::Before, &gate);
        let network = network::bridge(1).port_mappings().fault(fault).install(&place)?;
        network.inject(&Fault::refuse("portmap", "DEL", When::Before))?;
        let config = "version = 1\n[timeouts]\npod_start = \"600ms\"\n";
        let setup = Setup::new(Engine::Berthd).network(&network).config(config);
        let daemon = setup.start(&place).await?;
        let client = daemon.client().await?;
        let audit = audit::Audit::begin(audit::Scope::of(&daemon))?;

        let (refused, id) = tokio::join!(client.run_pod(pod("slow")), gate.reached());
        assert_refused(refused, Code::DeadlineExceeded, &["`network add`"]);
        let left = wait::until("what is left is listed", SOON, async || {
            Ok(client.pods().await?.into_iter().next())
        });
        let left = left.await?;
        assert_eq!((&left.id, left.state), (&id?, 1));
        network.mend("portmap")?;
        client.pod(&left.id).remove().await?;
        audit.assert_clean().await
    });
}

/// A client that sets a deadline of its own is answered by it, and the work goes on.
#[test]
fn a_clients_deadline_is_its_own() {
    place::native(async |place| {
        let (daemon, _network, mut gate) = gated(&place, "").await?;
        let client = daemon.client().await?;
        let audit = audit::Audit::begin(audit::Scope::of(&daemon))?;
        let spec = pod("p");
        let patience = Duration::from_millis(300);
        let refused = client.run_pod_within(patience, spec.clone());
        let (refused, id) = tokio::join!(refused, gate.reached());
        let refused = refused.expect_err("nobody has opened the gate");
        assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&refused.code()), "{refused:?}");
        gate.let_through()?;
        let pod = client.run_pod(spec).await?;
        assert_eq!(pod.id, id?);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Verbs on one thing at the same time come one after the other, in whatever order.
#[test]
fn what_is_asked_of_one_thing_at_once_ends_well() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let neighbour = container("neighbour").image(&node.image).cmd(["/bin/sleep", "inf"]);
        let neighbour = pod.run(neighbour).await?;
        let pid = neighbour.pid().await?;
        let spec = container("app").image(&node.image).cmd(["/bin/sleep", "inf"]);
        let mut seen = BTreeSet::new();
        for _ in 0..5 {
            let app = pod.create(spec.clone()).await?;
            assert!(seen.insert(app.id.clone()), "what is removed is forgotten");
            let (one, two) = tokio::join!(app.start(), app.start());
            one.or(two)?;
            let (stopped, removed, listed) =
                tokio::join!(app.stop(0), app.remove(), node.client.containers());
            stopped.and(removed)?;
            listed?;
            assert_refused(app.status().await, Code::NotFound, &[&app.id]);
        }
        assert_eq!(neighbour.pid().await?, pid, "nobody else was touched");
        let late = pod.create(spec.clone());
        let (stopped, removed, again, late) =
            tokio::join!(pod.stop(), pod.remove(), pod.remove(), late);
        stopped.and(removed).and(again)?;
        // It came before the removal, and went with it, or it came too late.
        drop(late);
        assert!(node.client.containers().await?.is_empty());
        audit.assert_clean().await
    });
}
