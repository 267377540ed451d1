//! berthd goes and comes again, in any way, while pods run: nothing of theirs is touched, nothing
//! that happened meanwhile is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_e2e::client::cri::{ContainerState, ContainerStatus, Int64Value, PodSandboxState};
use berth_e2e::client::{Client, Code, Container, assert_refused, container, now, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::{network, place, process, wait};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::{Pid, Signal, kill_process};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const SOON: Duration = Duration::from_secs(10);
/// Counts for ever, a few hundred lines in a second.
const COUNTER: &str = "i=0; while :; do echo $i; i=$((i+1)); usleep 2000; done";
/// Ends with 9 when it is asked to.
const POLITE: &str = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done";

/// All that makes a command of ExecSync what it is.
const IDENTITY: &str = "id; grep -E 'Cap|NoNewPrivs|Seccomp' /proc/self/status; env; pwd; \
     ls -l /proc/self/ns | sed 's/.*> //'";

async fn node(place: &place::Place) -> Result<Node> {
    Node::start(place, Engine::Berthd).await
}

/// All that the daemon tells of its pods and containers, in a fixed order.
async fn inventory(client: &Client) -> Result<String> {
    let mut pods = client.pods().await?;
    pods.sort_by(|a, b| a.id.cmp(&b.id));
    let mut containers = client.containers().await?;
    containers.sort_by(|a, b| a.id.cmp(&b.id));
    let mut told = format!("{pods:#?}\n{containers:#?}\n");
    for pod in &pods {
        told += &format!("{:#?}\n", client.pod(&pod.id).status().await?);
    }
    for container in &containers {
        told += &format!("{:#?}\n", client.container(&container.id).status().await?);
    }
    Ok(told)
}

#[test]
fn what_was_there_is_there_after_a_kill_and_after_a_sigterm() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let audit = node.audit()?;
        let web = pod("web").label("app", "web").annotation("note", "kept").port(8080, 80);
        let web = node.client.run_pod(web).await?;
        let shared = node.client.run_pod(pod("shared").shared_pid()).await?;
        let stopped = node.client.run_pod(pod("stopped").host_network()).await?;
        let image = || container("x").image(&node.image);
        let running = image().cmd(["sleep", "inf"]).env("KEPT", "yes").security(|security| {
            security.run_as_user = Some(Int64Value { value: 1000 });
            security.supplemental_groups = vec![77];
            security.no_new_privs = true;
        });
        let running = web.run(running).await?;
        let created = shared.create(image().cmd(["sleep", "inf"])).await?;
        let ended = web
            .run(
                image()
                    .script("exit 3")
                    .with(|c| c.log_path = "e.log".into())
                    .with(|c| c.metadata.get_or_insert_default().attempt = 1),
            )
            .await?;
        ended.wait_for_exit().await?;
        stopped.stop().await?;
        let before = inventory(&node.client).await?;
        let identity = running.shell(IDENTITY).await?;
        let pids = [running.pid().await?, web.pause().await?, shared.pause().await?];

        for round in ["kill -9", "SIGTERM"] {
            if round == "SIGTERM" {
                ensure!(node.daemon.terminate().await?.success());
            } else {
                node.daemon.kill().await?;
            }
            node.daemon.start().await?;
            node.client = node.daemon.client().await?;
            assert_eq!(inventory(&node.client).await?, before, "after {round}");
        }

        let client = &node.client;
        let running = client.container(&running.id);
        assert_eq!([running.pid().await?, web_pause(client, &web.id).await?], pids[..2]);
        assert_eq!(running.shell(IDENTITY).await?, identity);
        client.container(&created.id).start().await?;
        running.stop(0).await?;
        for id in [&web.id, &shared.id, &stopped.id] {
            client.pod(id).delete().await?;
        }
        for pid in pids {
            process::gone(pid, SOON).await?;
        }
        audit.assert_clean().await
    });
}

async fn web_pause(client: &Client, id: &str) -> Result<i32> {
    client.pod(id).pause().await
}

/// What ended while nobody listened ended then, and not when somebody asks.
#[test]
fn an_end_without_the_daemon_is_told_exactly() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let polite = pod.run(container("polite").image(&node.image).script(POLITE)).await?;
        let killed = pod.run(container("killed").image(&node.image).cmd(["sleep", "inf"])).await?;
        polite.wait_for_log("ready").await?;
        let (first, second) = (polite.pid().await?, killed.pid().await?);
        let started = [polite.status().await?.started_at, killed.status().await?.started_at];
        let pause = pod.pause().await?;

        node.daemon.kill().await?;
        let before = now();
        kill_process(Pid::from_raw(first).context("a PID")?, Signal::TERM)?;
        process::kill(second)?;
        process::gone(first, SOON).await?;
        process::gone(second, SOON).await?;
        let after = now();
        node.daemon.start().await?;
        node.client = node.daemon.client().await?;

        let status =
            async |container: &Container| node.client.container(&container.id).status().await;
        let [polite, killed] = [status(&polite).await?, status(&killed).await?];
        let how =
            |status: &ContainerStatus| (status.state, status.exit_code, status.reason.clone());
        let exited = ContainerState::ContainerExited as i32;
        assert_eq!(how(&polite), (exited, 9, "Error".to_owned()));
        assert_eq!(how(&killed), (exited, 137, "Error".to_owned()));
        assert_eq!([polite.started_at, killed.started_at], started);
        for status in [&polite, &killed] {
            let finished = status.finished_at;
            assert!((before..=after).contains(&finished), "{before} {finished} {after}");
        }

        // The whole pod may end as well.
        node.daemon.kill().await?;
        process::kill(pause)?;
        process::gone(pause, SOON).await?;
        node.daemon.start().await?;
        node.client = node.daemon.client().await?;
        let pod = node.client.pod(&pod.id);
        assert_eq!(pod.state().await?, PodSandboxState::SandboxNotready);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_log_has_no_gap_where_the_daemon_was_dead() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.run(container("counter").image(&node.image).script(COUNTER)).await?;
        grows(&app, 20).await?;
        node.daemon.kill().await?;
        grows(&app, 100).await?;
        node.daemon.start().await?;
        node.client = node.daemon.client().await?;
        grows(&app, 20).await?;

        // A rotation, as the kubelet does it; then without the daemon again.
        let old = app.log_path().with_extension("log.old");
        std::fs::rename(app.log_path(), &old)?;
        node.client.container(&app.id).reopen_log().await?;
        grows(&app, 20).await?;
        node.daemon.kill().await?;
        grows(&app, 20).await?;
        node.daemon.start().await?;
        node.client = node.daemon.client().await?;
        let stopped = node.client.container(&app.id);
        stopped.stop(0).await?;

        let mut lines = berth_e2e::client::parse_logs(&std::fs::read(&old)?)?;
        lines.extend(app.log()?);
        for (number, line) in lines.iter().enumerate() {
            assert_eq!((line.text.parse(), line.full), (Ok(number), true), "line {number}");
        }
        node.client.pod(&pod.id).delete().await?;
        audit.assert_clean().await
    });
}

/// Waits until a log has so many lines more.
async fn grows(app: &Container, more: usize) -> Result<()> {
    let count = |app: &Container| Ok::<_, anyhow::Error>(app.log().map_or(0, |lines| lines.len()));
    let before = count(app)?;
    wait::until("the log grows", SOON, async || Ok((count(app)? >= before + more).then_some(())))
        .await
}

#[test]
fn a_pod_that_lost_its_shim_with_the_daemon_is_told_and_can_be_removed() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let never = pod.create(container("never").image(&node.image).cmd(["true"])).await?;
        let (pid, ip) = (app.pid().await?, pod.ip().await?);
        let shims = process::find(&["berth-shim", &pod.id]);
        assert_eq!(shims.len(), 1);
        node.daemon.kill().await?;
        process::kill(shims[0])?;
        process::gone(shims[0], SOON).await?;
        node.daemon.start().await?;
        node.client = node.daemon.client().await?;

        let (pod, app) = (node.client.pod(&pod.id), node.client.container(&app.id));
        assert_eq!(pod.state().await?, PodSandboxState::SandboxNotready);
        assert_eq!(pod.ip().await?, ip, "its address is its own until it is stopped");
        let status = app.wait_for_exit().await?;
        assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
        assert!(status.message.contains("shim"), "{}", status.message);
        process::gone(pid, SOON).await?;
        assert_refused(app.exec(["true"]).await, Code::FailedPrecondition, &["exited"]);
        node.client.container(&never.id).start().await.expect_err("nobody can be its parent");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// A machine that comes up again has what its disk has, and nothing of what ran. Played here: all
/// processes of the pods end at once, what lies in memory is wiped, and the boot has another id.
#[test]
fn after_a_reboot_pods_are_not_ready_and_can_be_removed() {
    place::native(async |place| {
        // Without rules of masquerading, which a reboot takes away and this play does not.
        let network = network::bridge(1).install(&place)?;
        let setup = Setup::new(Engine::Berthd).network(&network);
        let mut node = Node::start_with(&place, setup).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").label("app", "web")).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let never = pod.create(container("never").image(&node.image).cmd(["true"])).await?;
        let listed = node.client.pods().await?;
        let pin = pod.info().await?["netns"].as_str().unwrap_or_default().to_owned();
        let shim = process::find(&["berth-shim", &pod.id])[0];
        let pids = [shim, pod.pause().await?, app.pid().await?];
        node.daemon.kill().await?;
        for pid in pids {
            // Its parent's death may have taken it along.
            let _ = process::kill(pid);
            process::gone(pid, SOON).await?;
        }
        unmount(&pin, UnmountFlags::DETACH)?;
        std::fs::remove_dir_all(&node.daemon.dirs().state)?;
        for id in [&app.id, &never.id, &pod.id] {
            std::fs::remove_dir(format!("/sys/fs/cgroup/berth/{}/{id}", pod.id))?;
        }
        std::fs::remove_dir(format!("/sys/fs/cgroup/berth/{}", pod.id))?;
        let boot = place.scratch().join("boot_id");
        std::fs::write(&boot, "01234567-89ab-cdef-0123-456789abcdef\n")?;
        mount_bind(&boot, BOOT_ID)?;

        node.daemon.start().await?;
        node.client = node.daemon.client().await?;
        unmount(BOOT_ID, UnmountFlags::DETACH)?;
        let mut expected = listed;
        expected[0].state = PodSandboxState::SandboxNotready.into();
        assert_eq!(node.client.pods().await?, expected);
        let told = node.client.container(&app.id).status().await?;
        assert_eq!((told.exit_code, told.reason.as_str()), (255, "Unknown"));
        let told = node.client.container(&never.id).wait_for_exit().await?;
        assert!(told.message.contains("restarted"), "{}", told.message);
        // The address is free once its pod is stopped, and no other pod got it before.
        let other = node.client.run_pod(berth_e2e::client::pod("other")).await?;
        assert_eq!(node.daemon.network().addresses()?.len(), 2);
        node.client.pod(&pod.id).delete().await?;
        other.delete().await?;
        assert!(node.daemon.network().addresses()?.is_empty());
        audit.assert_clean().await
    });
}
