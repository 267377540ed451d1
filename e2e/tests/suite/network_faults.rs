//! Plugins that misbehave. Whatever they do, the pod fails with what was done by whom, nothing of
//! it stays, and nobody else waits.

use std::time::{Duration, Instant};

use anyhow::Result;
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Client, Code, assert_refused, pod};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::network::{self, Fault, Gate, Network, When};
use berth_e2e::{place, process, wait};
use serde_json::json;

/// A daemon on `network` whose plugins may take as long as `timeout`, such as `1s`.
async fn start(place: &place::Place, network: &Network, timeout: &str) -> Result<Daemon> {
    let config = format!("version = 1\n[cni]\nplugin_timeout = \"{timeout}\"\n");
    Setup::new(Engine::Berthd).network(network).config(&config).start(place).await
}

fn audit(daemon: &Daemon) -> Result<Audit> {
    Audit::begin(Scope::of(daemon))
}

/// The chain of most tests: bridge with host-local, then portmap.
fn chain() -> network::Setup {
    network::bridge(1).port_mappings()
}

/// Fails a pod by each of the faults, and sees to it that nothing stays; then that all is well.
fn each_fault_leaves_nothing(faults: Vec<(Fault, Code, &str)>) {
    place::native(async |place| {
        let network = chain().install(&place)?;
        let daemon = start(&place, &network, "2s").await?;
        let (client, audit) = (daemon.client().await?, audit(&daemon)?);
        let of_all = ["bridge", "host-local", "portmap"];
        for (fault, code, words) in &faults {
            network.inject(fault)?;
            let refused = client.run_pod(pod("unlucky").port(8080, 80)).await;
            assert_refused(refused, *code, &["set up the network", words]);
            assert!(client.pods().await?.is_empty(), "{words}");
            assert!(network.addresses()?.is_empty(), "{words}");
            of_all.iter().try_for_each(|plugin| network.mend(plugin))?;
        }
        client.run_pod(pod("lucky").port(8080, 80)).await?.delete().await?;
        audit.assert_clean().await
    });
}

/// Wherever the chain breaks: what came before is undone, the plugin that broke included.
#[test]
fn a_chain_that_breaks_is_undone() {
    let mut faults = Vec::new();
    for plugin in ["bridge", "host-local", "portmap"] {
        for when in [When::Before, When::After] {
            faults.push((Fault::refuse(plugin, "ADD", when), Code::Internal, "refused on purpose"));
        }
    }
    each_fault_leaves_nothing(faults);
}

#[test]
fn plugins_that_crash_are_named() {
    each_fault_leaves_nothing(vec![
        (Fault::crash("bridge", "ADD", When::Before), Code::Internal, "plugin bridge"),
        (Fault::crash("bridge", "ADD", When::After), Code::Internal, "signal: 11"),
        (Fault::crash("portmap", "ADD", When::Before), Code::Internal, "plugin portmap"),
        (Fault::crash("portmap", "ADD", When::After), Code::Internal, "e2e1"),
    ]);
}

#[test]
fn plugins_that_print_nonsense_are_quoted() {
    each_fault_leaves_nothing(vec![
        (Fault::garbage("bridge", "ADD", When::Before), Code::Internal, "no { JSON"),
        (Fault::garbage("bridge", "ADD", When::After), Code::Internal, "no { JSON"),
        (Fault::garbage("portmap", "ADD", When::After), Code::Internal, "answered no CNI result"),
        (Fault::flood("bridge", "ADD"), Code::Internal, "wrote more than"),
    ]);
}

#[test]
fn a_plugin_that_hangs_is_killed_with_all_that_it_started() {
    place::native(async |place| {
        let network = chain().fault(Fault::hang("bridge", "ADD")).install(&place)?;
        let daemon = start(&place, &network, "700ms").await?;
        let (client, audit) = (daemon.client().await?, audit(&daemon)?);
        let begun = Instant::now();
        let refused = client.run_pod(pod("stuck")).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_refused(refused, Code::DeadlineExceeded, &["plugin bridge", "700ms", "killed"]);
        assert_eq!(process::find(&["sleep 1000000"]), [0; 0]);
        assert!(client.pods().await?.is_empty());
        audit.assert_clean().await
    });
}

/// The one that hangs holds up nobody: not the reads, not another pod.
#[test]
fn others_go_on_while_a_plugin_hangs() {
    place::native(async |place| {
        let hang = Fault::hang("bridge", "ADD").only_for("stuck");
        let network = network::bridge(1).fault(hang).install(&place)?;
        let daemon = start(&place, &network, "20s").await?;
        let client = daemon.client().await?;
        let stuck = client.run_pod(pod("stuck"));
        let others = async {
            wait::until("the plugin hangs", Duration::from_secs(5), async || {
                Ok((!process::find(&["sleep 1000000"]).is_empty()).then_some(()))
            })
            .await?;
            let slowest = p99(&client).await?;
            assert!(slowest < Duration::from_millis(100), "reads take {slowest:?}");
            let begun = Instant::now();
            let pod = client.run_pod(pod("lively")).await?;
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
            pod.delete().await?;
            Ok::<_, anyhow::Error>(())
        };
        tokio::select! {
            _ = stuck => panic!("it should hang"),
            done = others => done?,
        }
        Ok(())
    });
}

/// The 99th percentile of reads.
async fn p99(client: &Client) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        client.version().await?;
        times.push(begun.elapsed());
        let begun = Instant::now();
        client.pods().await?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[times.len() * 99 / 100])
}

#[test]
fn a_plugin_that_is_missing_is_named_before_any_runs() {
    place::native(async |place| {
        let network = chain().chain(json!({ "type": "no-such-plugin" })).install(&place)?;
        let daemon = start(&place, &network, "5s").await?;
        let (client, audit) = (daemon.client().await?, audit(&daemon)?);
        let refused = client.run_pod(pod("p")).await;
        let dir = network.bin_dir.display().to_string();
        assert_refused(refused, Code::FailedPrecondition, &["no-such-plugin", &dir]);
        assert!(client.pods().await?.is_empty());
        assert!(!std::path::Path::new("/sys/class/net/e2e1").exists(), "bridge did not run");
        audit.assert_clean().await
    });
}

/// A plugin chain that an operator changes while pods run: they leave as they came.
#[test]
fn a_pod_is_detached_as_it_was_attached() {
    place::native(async |place| {
        let network = chain().install(&place)?;
        let other = network::bridge(2).install(&place)?;
        let daemon = start(&place, &network, "5s").await?;
        let (client, audit) = (daemon.client().await?, audit(&daemon)?);
        let pod = client.run_pod(pod("p").port(8080, 80)).await?;
        network.write_conf(&other.conflist)?;
        pod.delete().await?;
        assert!(network.addresses()?.is_empty());
        audit.assert_clean().await
    });
}

#[test]
fn a_stop_fails_with_its_network_and_is_made_good_later() {
    place::native(async |place| {
        let network = chain().install(&place)?;
        let daemon = start(&place, &network, "5s").await?;
        let (client, audit) = (daemon.client().await?, audit(&daemon)?);
        let pod = client.run_pod(pod("p").port(8080, 80)).await?;
        network.inject(&Fault::refuse("bridge", "DEL", When::Before))?;
        for _ in 0..2 {
            let words = ["tear down the network", &pod.id, "refused on purpose"];
            assert_refused(pod.stop().await, Code::Internal, &words);
            assert_eq!(pod.status().await?.state, 1, "it is listed, and not ready");
            assert_eq!(network.addresses()?.len(), 1);
        }
        assert_refused(pod.remove().await, Code::Internal, &["refused on purpose"]);
        assert_eq!(client.pods().await?.len(), 1);
        network.mend("bridge")?;
        pod.stop().await?;
        assert!(network.addresses()?.is_empty());
        pod.remove().await?;
        audit.assert_clean().await
    });
}

/// One plugin that cannot be run keeps none of the others from cleaning up.
#[test]
fn a_detach_goes_on_past_a_plugin_that_is_lost() {
    place::native(async |place| {
        let network = chain().install(&place)?;
        let daemon = start(&place, &network, "5s").await?;
        let (client, audit) = (daemon.client().await?, audit(&daemon)?);
        let pod = client.run_pod(pod("p").port(8080, 80)).await?;
        network.lose("portmap")?;
        assert_refused(pod.stop().await, Code::FailedPrecondition, &["portmap", "no such plugin"]);
        assert!(network.addresses()?.is_empty(), "bridge and host-local have done their part");
        network.mend("portmap")?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// ADD fails and so does the DEL that undoes it: what is left has an id, and goes when it can.
#[test]
fn what_cannot_be_undone_is_listed_until_it_can() {
    place::native(async |place| {
        let network =
            chain().fault(Fault::refuse("portmap", "ADD", When::After)).install(&place)?;
        network.inject(&Fault::refuse("bridge", "DEL", When::Before))?;
        let mut daemon = start(&place, &network, "5s").await?;
        let (client, audit) = (daemon.client().await?, audit(&daemon)?);
        let spec = pod("unlucky").port(8080, 80);
        let refused = client.run_pod(spec.clone()).await;
        assert_refused(refused, Code::Internal, &["set up the network", "plugin portmap"]);
        let left = client.pods().await?;
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].state, network.addresses()?.len()), (1, 1));

        network.mend("portmap")?;
        let second = client.run_pod(spec.clone()).await?;
        assert_ne!(second.id, left[0].id, "what is left is no pod");
        daemon.kill().await?;
        daemon.start().await?;
        let client = daemon.client().await?;
        assert_eq!(client.run_pod(spec).await?.id, second.id, "also after a restart");
        network.mend("bridge")?;
        client.pod(&left[0].id).remove().await?;
        client.pod(&second.id).delete().await?;
        assert!(network.addresses()?.is_empty());
        audit.assert_clean().await
    });
}

/// A restart tries again what could not be undone before.
#[test]
fn a_restart_undoes_what_could_not_be_undone() {
    place::native(async |place| {
        let network =
            chain().fault(Fault::refuse("portmap", "ADD", When::After)).install(&place)?;
        network.inject(&Fault::refuse("bridge", "DEL", When::Before))?;
        let mut daemon = start(&place, &network, "5s").await?;
        let audit = audit(&daemon)?;
        let refused = daemon.client().await?.run_pod(pod("unlucky")).await;
        assert_refused(refused, Code::Internal, &["plugin portmap"]);
        ["bridge", "portmap"].iter().try_for_each(|plugin| network.mend(plugin))?;
        daemon.terminate().await?;
        daemon.start().await?;
        assert!(daemon.client().await?.pods().await?.is_empty());
        assert!(network.addresses()?.is_empty());
        audit.assert_clean().await
    });
}

/// A stop that hangs in a plugin is bounded, and the pod can still be asked about.
#[test]
fn a_detach_that_hangs_is_bounded() {
    place::native(async |place| {
        let network = chain().install(&place)?;
        let daemon = start(&place, &network, "500ms").await?;
        let (client, audit) = (daemon.client().await?, audit(&daemon)?);
        let pod = client.run_pod(pod("p")).await?;
        network.inject(&Fault::hang("bridge", "DEL"))?;
        let asked = async {
            let slowest = p99(&client).await?;
            assert!(slowest < Duration::from_millis(100), "reads take {slowest:?}");
            pod.status().await?;
            Ok::<_, anyhow::Error>(())
        };
        let (stopped, asked) = tokio::join!(pod.stop(), asked);
        asked?;
        assert_refused(stopped, Code::DeadlineExceeded, &["plugin bridge", "killed"]);
        network.mend("bridge")?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// A plugin that is at work when the daemon is killed goes on without it. Were it left alone, it
/// would publish a port of a pod that the next start has undone.
#[test]
fn a_plugin_that_outlives_its_daemon_comes_too_late() {
    place::native(async |place| {
        let mut gate = Gate::new(&place)?;
        let slow = Fault::gate("portmap", "ADD", When::Before, &gate);
        let network = chain().fault(slow).install(&place)?;
        let mut daemon = start(&place, &network, "60s").await?;
        let (client, audit) = (daemon.client().await?, audit(&daemon)?);
        let spec = pod("p").port(8080, 80);
        let kill = async {
            gate.reached().await?;
            daemon.kill().await
        };
        let (ran, killed) = tokio::join!(client.run_pod(spec.clone()), kill);
        killed?;
        ran.expect_err("nobody is left to answer");

        daemon.start().await?;
        gate.let_through()?;
        let client = daemon.client().await?;
        assert!(client.pods().await?.is_empty());
        let plugins = || process::find(&["portmap"]);
        let gone = async || Ok(plugins().is_empty().then_some(()));
        wait::until("no plugin runs", Duration::from_secs(5), gone).await?;
        audit.assert_clean().await?;
        network.mend("portmap")?;
        client.run_pod(spec).await?.delete().await?;
        audit.assert_clean().await
    });
}
