//! berthd as an administrator meets it while pods are being made: what its log says, what a stop
//! and a second start do. Its configuration and its sockets by themselves are tested beside it,
//! in `cri-server/tests`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{container, pod};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::network::{self, Fault, Gate, Network, When};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use berth_e2e::{process, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

/// A daemon whose plugin waits at a gate once it has attached a pod.
async fn gated(place: &Place, config: &str) -> Result<(Daemon, Network, Gate)> {
    let gate = Gate::new(place)?;
    let fault = Fault::gate("bridge", "ADD", When::After, &gate);
    let network = network::bridge(1).fault(fault).install(place)?;
    let config = format!("version = 1\n{config}\n");
    let setup = Setup::new(Engine::Berthd).network(&network).config(&config);
    Ok((setup.start(place).await?, network, gate))
}

fn log_has(daemon: &Daemon, text: &str) -> Result<Option<()>> {
    Ok(daemon.log()?.contains(text).then_some(()))
}

/// What is in flight when berthd is told to stop comes to its end, and its client is answered.
#[test]
fn a_stop_waits_for_what_is_in_flight() {
    place::native(async |place| {
        let (mut daemon, network, mut gate) = gated(&place, "").await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let late = daemon.client().await?;
        let work = async {
            let id = gate.reached().await?;
            daemon.process()?.signal(rustix::process::Signal::TERM)?;
            wait::until("it is told", SOON, async || log_has(&daemon, "stopping")).await?;
            // Whoever is connected hears that nothing new is begun.
            late.run_pod(pod("late")).await.expect_err("it is stopping");
            gate.let_through()?;
            Ok::<_, anyhow::Error>(id)
        };
        let (ran, id) = tokio::join!(client.run_pod(pod("p")), work);
        let pod = ran?;
        assert_eq!(pod.id, id?);
        assert!(daemon.ended().await?.success());

        network.mend("bridge")?;
        daemon.start().await?;
        let client = daemon.client().await?;
        assert_eq!(client.pods().await?.len(), 1);
        assert_eq!(client.pod(&pod.id).ip().await?, "10.88.1.2");
        client.pod(&pod.id).delete().await?;
        audit.assert_clean().await
    });
}

/// What does not come to its end is left to the next start, which undoes it.
#[test]
fn a_stop_is_bounded_and_the_next_start_undoes_what_was_left() {
    place::native(async |place| {
        let config = "[timeouts]\nshutdown = \"300ms\"";
        let (mut daemon, network, mut gate) = gated(&place, config).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let spec = pod("p");
        let stop = async {
            gate.reached().await?;
            let begun = Instant::now();
            daemon.process()?.signal(rustix::process::Signal::TERM)?;
            daemon.ended().await?;
            Ok::<_, anyhow::Error>(begun.elapsed())
        };
        let (ran, took) = tokio::join!(client.run_pod(spec.clone()), stop);
        let took = took?;
        assert!(took < Duration::from_secs(5), "{took:?}");
        ran.expect_err("it was not made");

        network.mend("bridge")?;
        daemon.start().await?;
        let client = daemon.client().await?;
        assert!(client.pods().await?.is_empty());
        assert!(network.addresses()?.is_empty());
        client.run_pod(spec).await?.delete().await?;
        audit.assert_clean().await
    });
}

/// One can follow a pod through the log by the id of an operation, and find an operation by the
/// request that asked for it.
#[test]
fn every_line_of_an_operation_has_its_id() {
    place::native(async |place| {
        let network = network::bridge(1).install(&place)?;
        let setup = Setup::new(Engine::Berthd).network(&network);
        let setup = setup.config("version = 1\n[log]\nformat = \"json\"\nlevel = \"debug\"\n");
        let node = Node::start_with(&place, setup).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("followed")).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["/bin/sleep", "inf"])).await?;
        pod.delete().await?;

        let log = node.daemon.log()?;
        let lines: Vec<Value> =
            log.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("JSON")?;
        for (name, subject) in [
            ("RunPodSandbox", "e2e/followed"),
            ("CreateContainer", &pod.id[..]),
            ("StartContainer", &app.id),
            ("StopPodSandbox", &pod.id),
            ("RemovePodSandbox", &pod.id),
        ] {
            let spans = lines.iter().map(|line| &line["span"]);
            let of = |span: &&Value| {
                let told = span["subject"].as_str().unwrap_or_default();
                span["rpc"] == name && told.contains(subject)
            };
            let ids: Vec<_> = spans.clone().filter(of).map(|span| span["id"].clone()).collect();
            assert!(!ids.is_empty() && ids.iter().all(|id| *id == ids[0]), "{name}: {ids:?}");
            let asked = |span: &Value| span["method"] == name && span["operation"] == ids[0];
            assert!(spans.clone().any(asked), "nobody asked for {name} {}", ids[0]);
        }
        audit.assert_clean().await
    });
}

/// The second one touches nothing: not the socket, not the pods.
#[test]
fn a_second_daemon_on_the_same_directories_refuses_and_harms_nothing() {
    place::native(async |place| {
        let mut node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["/bin/sleep", "inf"])).await?;
        let first = node.daemon.process()?.pid().context("a PID")?;

        let mut second = tokio::process::Command::new(berth_e2e::daemon::binaries::find("berthd")?);
        second.arg("--config").arg(node.daemon.config_file());
        let ended = berth_e2e::berth::output(second).await?;
        assert_eq!(ended.code, 1);
        let words = format!("another berthd (pid {}) already runs on", first.as_raw_nonzero());
        assert!(ended.stderr.contains(&words), "{}", ended.stderr);

        let client = node.daemon.client().await?;
        assert_eq!(client.pods().await?.len(), 1);
        assert_eq!(client.container(&app.id).exec(["echo", "on"]).await?.stdout, "on\n");
        assert_eq!(process::find(&["berth-shim", &pod.id]).len(), 1);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// What the administrator says of containers is so, where they say nothing themselves.
#[test]
fn settings_of_the_runtime_reach_containers() {
    place::native(async |place| {
        let config = "version = 1\n[runtime]\ndefault_capabilities = [\"CAP_KILL\"]\n\
                      default_cgroup_parent = \"/elsewhere\"\nlog_line_max = \"1KiB\"\n\
                      enable_unprivileged_icmp = false\nenable_unprivileged_ports = false\n\
                      restrict_oom_score_adj = false\n";
        let network = network::bridge(1).install(&place)?;
        let setup = Setup::new(Engine::Berthd).network(&network).config(config);
        let node = Node::start_with(&place, setup).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = |name: &str| container(name).image(&node.image);
        let script = "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range; \
                      grep CapBnd /proc/self/status; head -c 1500 /dev/zero | tr '\\0' x; \
                      echo; exec sleep inf";
        let app = pod.run(spec("app").script(script)).await?;
        app.wait_for_log("x\n").await?;
        let lines: Vec<_> = app.log()?.into_iter().map(|line| line.text).collect();
        let (first, rest) = ("x".repeat(1024), "x".repeat(476));
        assert_eq!(lines, ["1024", "1\t0", "CapBnd:\t0000000000000020", &first, &rest]);
        let cgroup = app.info().await?["cgroup"].clone();
        assert!(cgroup.as_str().unwrap_or_default().starts_with("/elsewhere/"), "{cgroup}");

        // Refused by a kernel that does not let the daemon do it: never just left out.
        match pod
            .run(spec("last").cmd(["sleep", "inf"]).resources(|r| r.oom_score_adj = -998))
            .await
        {
            Ok(last) => assert_eq!(last.shell("cat /proc/1/oom_score_adj").await?, "-998\n"),
            Err(status) => assert!(status.message().contains("oom_score_adj"), "{status}"),
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}
