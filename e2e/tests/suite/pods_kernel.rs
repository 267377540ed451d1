//! What the host's kernel sees of a pod: its cgroups, its mounts, its processes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_e2e::audit::{Class, Snapshot};
use berth_e2e::client::cri::{ContainerState, PodSandboxState};
use berth_e2e::client::{Code, assert_refused, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::{network, place, process};

const CGROUPS: &str = "/sys/fs/cgroup";

async fn node(place: &place::Place) -> Result<Node> {
    Node::start(place, Engine::Berthd).await
}

/// Processes in a cgroup, by the names of their programs.
fn programs(cgroup: &Path) -> Result<Vec<String>> {
    let file = cgroup.join("cgroup.procs");
    let pids = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Ok(pids.lines().map(|pid| name(pid).trim_end().to_owned()).collect())
}

/// The kubelet makes the pod's cgroup; berthd puts into it what belongs to the pod, and takes
/// away what it has put there.
#[test]
fn processes_live_in_the_cgroup_that_was_given() {
    place::native(async |place| {
        let node = node(&place).await?;
        let parent = "/kubepods/burstable/pod123";
        let given = PathBuf::from(format!("{CGROUPS}{parent}"));
        std::fs::create_dir_all(&given)?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").cgroup_parent(parent)).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;

        assert_eq!(programs(&given.join(&pod.id))?.len(), 1, "pause");
        assert_eq!(programs(&given.join(&app.id))?, ["sleep"]);
        assert!(programs(&given)?.is_empty());
        // What a container sees as its root is its own cgroup.
        assert_eq!(app.shell("grep ^0: /proc/1/cgroup").await?, "0::/\n");
        let shim = process::find(&["berth-shim", &pod.id]);
        assert_eq!(shim.len(), 1, "{shim:?}");
        let of_shim = std::fs::read_to_string(format!("/proc/{}/cgroup", shim[0]))?;
        assert!(!of_shim.contains("kubepods"), "the shim is not charged to the pod: {of_shim}");

        pod.delete().await?;
        assert_eq!(std::fs::read_dir(&given)?.filter(is_dir).count(), 0);
        assert!(given.exists(), "it was not berthd's to remove");
        audit.assert_clean().await
    });
}

fn is_dir(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.path().is_dir())
}

#[test]
fn a_pod_without_a_cgroup_gets_one_of_its_own() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let own = PathBuf::from(format!("{CGROUPS}/berth/{}", pod.id));
        assert_eq!(programs(&own.join(&pod.id))?.len(), 1, "pause");
        pod.stop().await?;
        assert!(!own.exists());
        pod.remove().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_missing_parent_is_made_and_goes_with_the_pod() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pods = [
            node.client.run_pod(pod("a").cgroup_parent("/made/by/berth")).await?,
            node.client.run_pod(pod("b").cgroup_parent("/made/by/berth")).await?,
        ];
        let made = PathBuf::from(format!("{CGROUPS}/made/by/berth"));
        assert!(made.join(&pods[0].id).exists() && made.join(&pods[1].id).exists());
        pods[0].delete().await?;
        assert!(made.join(&pods[1].id).exists());
        pods[1].delete().await?;
        assert!(!Path::new(CGROUPS).join("made").exists());
        audit.assert_clean().await
    });
}

#[test]
fn odd_cgroup_parents_are_refused() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let client = daemon.client().await?;
        for parent in ["/", "/kubepods/../../etc", "//", "a//b", &"x".repeat(5000)] {
            let refused = client.run_pod(pod("odd").cgroup_parent(parent)).await;
            assert_refused(refused, Code::InvalidArgument, &["config.linux.cgroup_parent"]);
        }
        let slice = pod("odd").cgroup_parent("kubepods-besteffort-pod1.slice");
        let words = ["kubepods-besteffort-pod1.slice", "runtime.cgroup_driver"];
        assert_refused(client.run_pod(slice).await, Code::InvalidArgument, &words);
        assert!(client.pods().await?.is_empty());
        Ok(())
    });
}

/// The one mount of a running pod is the pin of its network namespace: no other program of the
/// host can keep a file system of a pod busy.
#[test]
fn the_host_sees_no_mount_of_a_pod_but_the_pin_of_its_network() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let before = Snapshot::take(&[])?;
        let pod = node.client.run_pod(pod("p")).await?;
        for name in ["one", "two"] {
            pod.run(container(name).image(&node.image).cmd(["sleep", "inf"])).await?;
        }
        let after = Snapshot::take(&[])?;
        let strays = before.diff(&after);
        let mounts: Vec<_> = strays.iter().filter(|stray| stray.class == Class::Mount).collect();
        let pin = pod.info().await?["netns"].as_str().unwrap_or_default().to_owned();
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        assert!(mounts[0].what.starts_with(&format!("{pin} (nsfs ")), "{mounts:?}");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// It can do nothing to anybody, and is the last that the kernel kills for memory.
#[test]
fn pause_is_nobody() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let pod = node.client.run_pod(pod("p")).await?;
        let proc = PathBuf::from(format!("/proc/{}", pod.pause().await?));
        let status = std::fs::read_to_string(proc.join("status"))?;
        let four = "65535\t65535\t65535\t65535";
        for line in [
            &format!("Uid:\t{four}"),
            &format!("Gid:\t{four}"),
            "Groups:\t ",
            "CapPrm:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.lines().any(|found| found == line), "{line:?} in {status}");
        }
        let shm = std::fs::read_to_string(proc.join("mountinfo"))?;
        let shm = shm.lines().find(|line| line.contains(" /shm ")).unwrap_or_default();
        assert!(shm.contains("nosuid,nodev,noexec"), "{shm}");
        let score = |path: &Path| std::fs::read_to_string(path.join("oom_score_adj"));
        // Lowering it takes a capability that the daemon may lack itself.
        let (own, score) = (score(Path::new("/proc/self"))?, score(&proc)?);
        assert!(score == "-998\n" || score == own, "{score}");
        Ok(pod.delete().await?)
    });
}

#[test]
fn a_pod_whose_pause_dies_is_not_ready_and_keeps_its_address() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let ip = pod.ip().await?;
        process::kill(pod.pause().await?)?;

        pod.wait_for(PodSandboxState::SandboxNotready).await?;
        assert_eq!(pod.ip().await?, ip);
        assert_eq!(node.daemon.network().addresses()?.get(&ip), Some(&pod.id));
        let late = container("late").image(&node.image).cmd(["true"]);
        assert_refused(pod.create(late).await, Code::FailedPrecondition, &["not ready"]);
        assert_eq!(app.exec(["true"]).await?.code, 0, "its containers go on until it is stopped");
        pod.stop().await?;
        assert!(node.daemon.network().addresses()?.is_empty());
        assert_eq!(pod.ip().await?, "");
        pod.remove().await?;
        audit.assert_clean().await
    });
}

/// With a shared PID namespace pause is PID 1: the kernel ends the containers with it.
#[test]
fn containers_end_with_the_pause_of_a_shared_pid_namespace() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").shared_pid()).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        process::kill(pod.pause().await?)?;
        pod.wait_for(PodSandboxState::SandboxNotready).await?;
        assert_eq!(app.wait_for_exit().await?.exit_code, 137);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// What has lost its shim cannot be watched, logged or joined any more: it is ended rather than
/// left alone.
#[test]
fn a_pod_whose_shim_dies_is_not_ready_and_leaves_no_process() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let (ip, pause) = (pod.ip().await?, pod.pause().await?);
        for shim in process::find(&["berth-shim", &pod.id]) {
            process::kill(shim)?;
        }
        pod.wait_for(PodSandboxState::SandboxNotready).await?;
        let status = app.wait_for(ContainerState::ContainerExited).await?;
        assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
        assert_eq!(pod.ip().await?, ip);
        let gone = async || Ok((!Path::new(&format!("/proc/{pause}")).exists()).then_some(()));
        berth_e2e::wait::until("pause is gone", std::time::Duration::from_secs(5), gone).await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Somebody else's `ip netns delete`, or a clean-up of /run.
#[test]
fn a_pod_whose_network_namespace_was_taken_away_can_be_stopped() {
    place::native(async |place| {
        // Without masquerading: bridge cannot undo that without the namespace.
        let network = network::bridge(1).install(&place)?;
        let node = Node::start_with(&place, Setup::new(Engine::Berthd).network(&network)).await?;
        let audit = node.audit()?;
        let pods = [
            node.client.run_pod(pod("unmounted")).await?,
            node.client.run_pod(pod("removed")).await?,
        ];
        for (pod, remove) in pods.iter().zip([false, true]) {
            let pin = pod.info().await?["netns"].as_str().unwrap_or_default().to_owned();
            rustix::mount::unmount(&pin, rustix::mount::UnmountFlags::DETACH)?;
            if remove {
                std::fs::remove_file(&pin)?;
            }
        }
        for pod in &pods {
            pod.delete().await?;
        }
        assert!(node.daemon.network().addresses()?.is_empty());
        audit.assert_clean().await
    });
}

#[test]
fn the_address_survives_until_the_pod_is_stopped_also_over_a_restart() {
    place::native(async |place| {
        let network = network::bridge(1).install(&place)?;
        let setup = Setup::new(Engine::Berthd).network(&network);
        let mut daemon = setup.start(&place).await?;
        let client = daemon.client().await?;
        let pod = client.run_pod(pod("p")).await?;
        let ip = pod.ip().await?;
        let pause = pod.pause().await?;
        daemon.kill().await?;
        process::kill(pause)?;
        daemon.start().await?;
        let pod = daemon.client().await?.pod(&pod.id);
        assert_eq!(pod.state().await?, PodSandboxState::SandboxNotready);
        assert_eq!((pod.ip().await?, network.addresses()?.len()), (ip, 1));
        pod.stop().await?;
        assert!(network.addresses()?.is_empty());
        Ok(pod.remove().await?)
    });
}

/// It shares namespaces with whatever runs in the pod.
#[test]
fn pause_can_do_nothing_but_wait() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for (name, first) in [("plain", 0), ("users", 131_072)] {
            let spec = pod(name).shared_pid();
            let pod = match first {
                0 => node.client.run_pod(spec).await?,
                first => node.client.run_pod(spec.users(first)).await?,
            };
            let pause = pod.pause().await?;
            let status = std::fs::read_to_string(format!("/proc/{pause}/status"))?;
            let field = |name: &str| {
                let mut lines = status.lines();
                let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
                value.unwrap_or_default().to_owned()
            };
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(field(set), "0".repeat(16), "{name}: {set}");
            }
            let own = (first + 65_535).to_string();
            for ids in ["Uid", "Gid"] {
                assert_eq!(field(ids), [own.as_str(); 4].join("\t"), "{name}");
            }
            assert_eq!((&*field("NoNewPrivs"), &*field("Seccomp")), ("1", "2"), "{name}");
            // To be frozen and thawed interrupts the call that it waits in.
            let freeze = format!("{CGROUPS}/berth/{0}/{0}/cgroup.freeze", pod.id);
            for state in ["1", "0"] {
                std::fs::write(&freeze, state)?;
            }
            let app = container("app").image(&node.image).cmd(["sleep", "inf"]);
            let app = pod.run(app).await?;
            // It still reaps what nobody else does.
            app.shell("(sleep 0 & sleep 0 &) & wait").await?;
            assert_eq!(app.namespace("pid").await?, process::namespace(pause, "pid")?);
            assert_eq!(pod.state().await?, PodSandboxState::SandboxReady);
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}
