//! Other OCI runtimes behind runtime handlers: Debian's runc and crun make the processes, and
//! everything that the CRI tells of them is as with our own.

mod cut_off;
mod refused;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::client::cri::{ContainerState, Int64Value, MountPropagation, PodSandboxState};
use berth_e2e::client::{Code, Container, ContainerSpec, Output, Pod, assert_refused};
use berth_e2e::client::{container, now, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place, needs};
use berth_e2e::{network, process, wait};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, unmount};
use rustix::mount::{mount_bind, mount_change};
use rustix::process::{Pid, Signal, kill_process};

/// The runtimes of Debian.
const RUNTIMES: [&str; 2] = ["crun", "runc"];
const SOON: Duration = Duration::from_secs(10);
/// Ends with 9 when it is asked to.
const POLITE: &str = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done";

/// crun itself always has this in front: to load a device filter it raises a limit, which it cannot
/// where the capability `CAP_SYS_RESOURCE` is missing. The filter of berthd is on the cgroup anyway.
const NO_DEVICES: &str =
    "sed -i 's/\"resources\":{\"devices\":[^]]*]}/\"resources\":{}/' $bundle/config.json";

fn tables(place: &Place) -> Result<String> {
    let paths = [in_front(place, "crun", NO_DEVICES)?, needs::program("runc")?];
    Ok(RUNTIMES.iter().zip(&paths).map(|(name, path)| table(name, path)).collect())
}

fn table(name: &str, path: &Path) -> String {
    format!("[runtimes.{name}]\npath = {:?}\n", path.display().to_string())
}

/// A script in front of crun that does something of its own at `create`.
fn in_front(place: &Place, name: &str, at_create: &str) -> Result<PathBuf> {
    around_crun(place, name, &at_create_do(at_create))
}

fn at_create_do(at_create: &str) -> String {
    format!(
        "case \" $* \" in *\" create \"*) for word; do case $previous in\n\
         --pid-file) file=$word;; --bundle) bundle=$word;; esac; previous=$word; done\n\
         {at_create} ;; esac"
    )
}

/// A script in front of crun that does something of its own first.
fn around_crun(place: &Place, name: &str, first: &str) -> Result<PathBuf> {
    let path = place.scratch().join(name);
    let (sh, crun) = (needs::program("busybox")?, needs::program("crun")?);
    let script = format!("#!{} sh\n{first}\nexec {} \"$@\"\n", sh.display(), crun.display());
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

async fn node_with(place: &Place, more: &str) -> Result<Node> {
    let network = network::bridge(1).masquerade().port_mappings().install(place)?;
    let config = format!("{}{more}", tables(place)?);
    Node::start_with(place, Setup::new(Engine::Berthd).network(&network).config(&config)).await
}

async fn node(place: &Place) -> Result<Node> {
    node_with(place, "").await
}

fn app(node: &Node, name: &str) -> ContainerSpec {
    container(name).image(&node.image)
}

/// A pod with this handler, and a container in it that sleeps.
async fn sleeper(node: &Node, handler: &str) -> Result<(Pod, Container)> {
    let pod = node.client.run_pod(pod(handler).handler(handler)).await?;
    let sleeper = pod.run(app(node, "sleeper").cmd(["sleep", "inf"])).await?;
    Ok((pod, sleeper))
}

#[test]
fn a_container_is_what_was_asked_for() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let data = place.dir("data")?;
        fs::write(data.join("file"), "of the node\n")?;
        for handler in RUNTIMES {
            let pod = node.client.run_pod(pod(handler).handler(handler)).await?;
            let script = "echo out $KEPT; echo err >&2; cat /data/file; id -u; hostname; \
                          touch /data/x 2>/dev/null || echo read-only; touch /written; exit 7";
            let spec = app(&node, "brief").script(script).env("KEPT", "a b");
            let spec = spec.mount(&data.display().to_string(), "/data", true);
            let brief = pod.run(spec).await?;
            assert_eq!(brief.wait_for_exit().await?.exit_code, 7, "{handler}");
            let log = brief.log()?;
            let of = |stream: &str| {
                let lines = log.iter().filter(|line| line.stream == stream);
                lines.map(|line| line.text.clone()).collect::<Vec<_>>()
            };
            let out = ["out a b", "of the node", "0", handler, "read-only"];
            assert_eq!(of("stdout"), out, "{handler}");
            assert_eq!(of("stderr"), ["err"], "{handler}");
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn containers_are_in_their_pods_namespaces_and_in_their_own_cgroups() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for handler in RUNTIMES {
            let (pod, first) = sleeper(&node, handler).await?;
            let second = pod.run(app(&node, "second").cmd(["sleep", "inf"])).await?;
            let pause = pod.pause().await?;
            for kind in ["net", "uts", "ipc"] {
                let of_pod = process::namespace(pause, kind)?;
                assert_eq!(first.namespace(kind).await?, of_pod, "{handler} {kind}");
                assert_eq!(second.namespace(kind).await?, of_pod, "{handler} {kind}");
            }
            for kind in ["pid", "mnt", "cgroup"] {
                assert_ne!(first.namespace(kind).await?, second.namespace(kind).await?);
            }
            first.shell("echo shared > /dev/shm/x").await?;
            assert_eq!(second.shell("cat /dev/shm/x").await?, "shared\n");
            let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", first.pid().await?))?;
            assert!(cgroup.trim_end().ends_with(&format!("/{}", first.id)), "{cgroup}");
            ensure!(first.stats().await?.cpu.is_some(), "no statistics with {handler}");
            // The root file systems of both stand in no mount namespace but their own.
            let mounts = fs::read_to_string("/proc/self/mountinfo")?;
            assert!(!mounts.contains("bundles"), "{mounts}");
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn a_pid_namespace_can_be_the_pods() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for handler in RUNTIMES {
            let pod = node.client.run_pod(pod(handler).shared_pid().handler(handler)).await?;
            let brief = pod.run(app(&node, "brief").script("sleep inf & exit 4")).await?;
            assert_eq!(brief.wait_for_exit().await?.exit_code, 4, "{handler}");
            let sleeper = pod.run(app(&node, "sleeper").cmd(["sleep", "inf"])).await?;
            let of_pod = process::namespace(pod.pause().await?, "pid")?;
            assert_eq!(sleeper.namespace("pid").await?, of_pod, "{handler}");
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn commands_run_in_it_and_end_with_their_code() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for handler in RUNTIMES {
            let (pod, app) = sleeper(&node, handler).await?;
            for (script, stdout, stderr, code) in [
                ("true", "", "", 0),
                ("echo out; echo err >&2; exit 3", "out\n", "err\n", 3),
                ("kill -KILL $$", "", "", 137),
                ("cat", "", "", 0),
            ] {
                let output = app.exec(["sh", "-c", script]).await?;
                let expected = Output { code, stdout: stdout.into(), stderr: stderr.into() };
                assert_eq!(output, expected, "{handler}: {script}");
            }
            let refused = app.exec(["no-such-command"]).await;
            assert_refused(refused, Code::NotFound, &[handler, "no-such-command"]);
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

/// The first process of a command may be gone by the time that the runtime has told its PID.
#[test]
fn no_end_is_missed_however_soon_it_comes() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let (pod, app) = sleeper(&node, "crun").await?;
        for round in 0..40 {
            let code = round % 7;
            let output = app.exec(["sh", "-c", &format!("exit {code}")]).await?;
            assert_eq!(output.code, code, "command {round}");
        }
        for round in 0..8 {
            let spec = self::app(&node, &format!("brief{round}"));
            let brief = pod.run(spec.script(&format!("exit {round}"))).await?;
            assert_eq!(brief.wait_for_exit().await?.exit_code, round, "container {round}");
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_command_out_of_time_is_killed_with_its_children() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for handler in RUNTIMES {
            let (pod, app) = sleeper(&node, handler).await?;
            let script = "setsid sleep 4321 & sleep 4321";
            let begun = Instant::now();
            let late = app.exec_for(1, ["sh", "-c", script]).await;
            assert_refused(late, Code::DeadlineExceeded, &[]);
            ensure!(begun.elapsed() < SOON, "{handler} took {:?}", begun.elapsed());
            wait::until("none of them runs", SOON, async || {
                Ok(process::find(&["sleep", "4321"]).is_empty().then_some(()))
            })
            .await?;
            app.shell("true").await?;
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn it_is_asked_to_stop_and_then_killed() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for handler in RUNTIMES {
            let pod = node.client.run_pod(pod(handler).handler(handler)).await?;
            let polite = pod.run(app(&node, "polite").script(POLITE)).await?;
            polite.wait_for_log("ready").await?;
            polite.stop(30).await?;
            assert_eq!(polite.status().await?.exit_code, 9, "{handler}");
            let stubborn = pod.run(app(&node, "stubborn").cmd(["sleep", "inf"])).await?;
            let pid = stubborn.pid().await?;
            stubborn.stop(0).await?;
            assert_eq!(stubborn.status().await?.exit_code, 137, "{handler}");
            process::gone(pid, SOON).await?;
            stubborn.remove().await?;
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn what_cannot_be_started_says_why_and_leaves_nothing() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for handler in RUNTIMES {
            let pod = node.client.run_pod(pod(handler).handler(handler)).await?;
            let missing = pod.create(app(&node, "missing").cmd(["/no/such/command"])).await?;
            let words = [handler, "/no/such/command"];
            assert_refused(missing.start().await, Code::NotFound, &words);
            let status = missing.status().await?;
            assert_eq!((status.exit_code, status.reason.as_str()), (127, "StartError"));
            assert_eq!(status.state(), ContainerState::ContainerExited);
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn a_terminal_is_one() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for handler in RUNTIMES {
            let pod = node.client.run_pod(pod(handler).handler(handler)).await?;
            let script = "test -t 0 && test -t 1 && test -t 2 && echo all; exit 5";
            let brief = pod.run(app(&node, "brief").script(script).tty()).await?;
            assert_eq!(brief.wait_for_exit().await?.exit_code, 5, "{handler}");
            let log = brief.log()?;
            let lines: Vec<_> = log.iter().map(|line| line.text.as_str()).collect();
            assert_eq!(lines, ["all"], "{handler}");
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn identity_and_limits_are_kept() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        const LOOK: &str = "id; grep -E 'Cap|NoNewPrivs' /proc/self/status; pwd; \
             ls /dev | grep -v core; touch /x 2>&1; cat /proc/keys /proc/sys/kernel/x 2>&1; grep -c . /proc/kcore";
        let spec = |name: &str| {
            let spec = app(&node, name).cmd(["sleep", "inf"]).security(|security| {
                security.run_as_user = Some(Int64Value { value: 1000 });
                security.supplemental_groups = vec![77];
                security.no_new_privs = true;
                security.readonly_rootfs = true;
                security.masked_paths = vec!["/proc/keys".into(), "/proc/kcore".into()];
            });
            spec.with(|config| config.working_dir = "/tmp".into())
        };
        let ours = node.client.run_pod(pod("ours")).await?;
        let expected = ours.run(spec("app")).await?.exec(["sh", "-c", LOOK]).await?;
        ours.delete().await?;
        for handler in RUNTIMES {
            let pod = node.client.run_pod(pod(handler).handler(handler)).await?;
            let found = pod.run(spec("app")).await?.exec(["sh", "-c", LOOK]).await?;
            assert_eq!(found, expected, "{handler}");
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn the_daemon_may_go_and_come_again() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let audit = node.audit()?;
        let mut left = Vec::new();
        for handler in RUNTIMES {
            let (pod, sleeper) = sleeper(&node, handler).await?;
            let polite = pod.run(app(&node, "polite").script(POLITE)).await?;
            let created = pod.create(app(&node, "created").script("exit 6")).await?;
            polite.wait_for_log("ready").await?;
            let pids = [sleeper.pid().await?, polite.pid().await?];
            left.push((pod.id, [sleeper.id, polite.id, created.id], pids));
        }

        node.daemon.kill().await?;
        let before = now();
        for (.., [_, polite]) in &left {
            kill_process(Pid::from_raw(*polite).context("a PID")?, Signal::TERM)?;
            process::gone(*polite, SOON).await?;
        }
        let after = now();
        node.daemon.start().await?;
        node.client = node.daemon.client().await?;

        for (id, [sleeper, polite, created], [pid, _]) in &left {
            let pod = node.client.pod(id);
            assert_eq!(pod.state().await?, PodSandboxState::SandboxReady);
            let polite = node.client.container(polite).status().await?;
            assert_eq!(polite.exit_code, 9);
            ensure!((before..=after).contains(&polite.finished_at), "{polite:?}");
            let sleeper = node.client.container(sleeper);
            assert_eq!(sleeper.pid().await?, *pid);
            assert_eq!(sleeper.shell("echo still here").await?, "still here\n");
            let created = node.client.container(created);
            created.start().await?;
            assert_eq!(created.wait_for_exit().await?.exit_code, 6);
            ensure!(node.daemon.terminate().await?.success());
            node.daemon.start().await?;
            node.client = node.daemon.client().await?;
            let sleeper = node.client.container(&sleeper.id);
            sleeper.stop(0).await?;
            assert_eq!(sleeper.status().await?.exit_code, 137);
            node.client.pod(id).delete().await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn a_runtime_that_is_not_configured_any_more_still_runs_what_it_ran() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let audit = node.audit()?;
        let (pod, sleeper) = sleeper(&node, "crun").await?;
        node.daemon.terminate().await?;
        node.daemon.set_config("");
        node.daemon.start().await?;
        node.client = node.daemon.client().await?;
        let sleeper = node.client.container(&sleeper.id);
        assert_eq!(sleeper.shell("echo here").await?, "here\n");
        let again = node.client.pod(&pod.id);
        let refused = again.create(app(&node, "late").cmd(["true"])).await;
        assert_refused(refused, Code::FailedPrecondition, &["\"crun\"", "not configured"]);
        sleeper.stop(0).await?;
        again.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn mounts_are_passed_on_as_asked() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for handler in RUNTIMES {
            let dir = place.dir(&format!("volume-of-{handler}"))?;
            mount_bind(&dir, &dir)?;
            mount_change(&dir, MountPropagationFlags::SHARED)?;
            for name in ["node", "container"] {
                fs::create_dir(dir.join(name))?;
            }
            let pod = node.client.run_pod(pod(handler).handler(handler).privileged()).await?;
            let spec = |propagation: MountPropagation, source: &Path| {
                let spec = app(&node, propagation.as_str_name()).cmd(["sleep", "inf"]);
                let spec = spec.mount(&source.display().to_string(), "/data", false).privileged();
                spec.with(|config| config.mounts[0].propagation = propagation.into())
            };
            let both = pod.run(spec(MountPropagation::PropagationBidirectional, &dir)).await?;
            let one = spec(MountPropagation::PropagationHostToContainer, &dir);
            let one = pod.run(one).await?;
            mount("tmpfs", dir.join("node"), "tmpfs", MountFlags::empty(), None)?;
            fs::write(dir.join("node/x"), "")?;
            both.shell("test -e /data/node/x && mount -t tmpfs tmpfs /data/container").await?;
            both.shell("touch /data/container/y").await?;
            one.shell("test -e /data/node/x && test -e /data/container/y").await?;
            ensure!(dir.join("container/y").exists(), "{handler}: nothing was passed on");
            let state = node.daemon.dirs().state.join("volume");
            fs::create_dir_all(&state)?;
            let refused = spec(MountPropagation::PropagationBidirectional, &state);
            let refused =
                pod.create(refused.with(|c| c.metadata.get_or_insert_default().attempt = 1)).await;
            assert_refused(refused, Code::InvalidArgument, &["/data", "bundles"]);
            fs::remove_dir(&state)?;
            pod.delete().await?;
            for name in ["node", "container", ""] {
                unmount(dir.join(name), UnmountFlags::DETACH)?;
            }
        }
        audit.assert_clean().await
    });
}
