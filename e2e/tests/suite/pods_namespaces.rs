//! Which namespaces a pod has for itself, and which it shares with the host or between its
//! containers.

use anyhow::Result;
use berth_e2e::client::cri::{NamespaceMode, NamespaceOption};
use berth_e2e::client::{Code, Container, ContainerSpec, Pod, PodSpec};
use berth_e2e::client::{assert_refused, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::{place, process};

const KINDS: [&str; 4] = ["net", "ipc", "uts", "pid"];

async fn node(place: &place::Place) -> Result<Node> {
    Node::start(place, Engine::from_env(Engine::Berthd)?).await
}

/// A container of the node's image that stays, with the PID namespace of `mode`.
fn staying(node: &Node, name: &str, mode: NamespaceMode) -> ContainerSpec {
    container(name).image(&node.image).cmd(["sleep", "inf"]).security(|security| {
        security.namespace_options.get_or_insert_default().pid = mode.into();
    })
}

async fn two(node: &Node, pod: &Pod, pid: NamespaceMode) -> Result<[Container; 2]> {
    Ok([pod.run(staying(node, "one", pid)).await?, pod.run(staying(node, "two", pid)).await?])
}

/// For each kind: is it the host's, is it the same in both containers.
async fn sharing([one, two]: &[Container; 2]) -> Result<Vec<(&'static str, bool, bool)>> {
    let mut found = Vec::new();
    for kind in KINDS {
        let (first, second) = (one.namespace(kind).await?, two.namespace(kind).await?);
        found.push((kind, first == process::namespace("self", kind)?, first == second));
    }
    Ok(found)
}

#[test]
fn containers_of_a_pod_share_what_is_the_pods() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("own")).await?;
        let found = sharing(&two(&node, &pod, NamespaceMode::Container).await?).await?;
        let shared = [("net", false, true), ("ipc", false, true), ("uts", false, true)];
        assert_eq!(found[..3], shared);
        assert_eq!(found[3], ("pid", false, false));
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn two_pods_share_nothing() {
    place::native(async |place| {
        let node = node(&place).await?;
        let (left, right) =
            (node.client.run_pod(pod("left")).await?, node.client.run_pod(pod("right")).await?);
        let spec = || staying(&node, "app", NamespaceMode::Container);
        let (one, two) = (left.run(spec()).await?, right.run(spec()).await?);
        for kind in ["net", "ipc", "uts", "pid", "mnt", "cgroup"] {
            assert_ne!(one.namespace(kind).await?, two.namespace(kind).await?, "{kind}");
        }
        left.delete().await?;
        Ok(right.delete().await?)
    });
}

#[test]
fn a_pod_of_the_host_shares_all_with_the_host() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let spec = pod("host").host_network().namespaces(|options| {
            (options.ipc, options.pid) = (NamespaceMode::Node.into(), NamespaceMode::Node.into());
        });
        let pod = node.client.run_pod(spec).await?;
        let found = sharing(&two(&node, &pod, NamespaceMode::Node).await?).await?;
        assert_eq!(found, KINDS.map(|kind| (kind, true, true)));
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Each of the three is the host's alone; the others stay the pod's. The host name goes with the
/// network.
#[test]
fn each_namespace_is_shared_with_the_host_by_itself() {
    place::native(async |place| {
        let node = node(&place).await?;
        type Change = fn(&mut NamespaceOption);
        let table: [(Change, &[&str], NamespaceMode); 3] = [
            (|o| o.network = NamespaceMode::Node.into(), &["net", "uts"], NamespaceMode::Pod),
            (|o| o.ipc = NamespaceMode::Node.into(), &["ipc"], NamespaceMode::Pod),
            (|o| o.pid = NamespaceMode::Node.into(), &["pid"], NamespaceMode::Node),
        ];
        for (change, hosts, pid) in table {
            let spec = pod("mixed").shared_pid().namespaces(change);
            let pod = node.client.run_pod(spec).await?;
            let app = pod.run(staying(&node, "app", pid)).await?;
            for kind in KINDS {
                let is_hosts = app.namespace(kind).await? == process::namespace("self", kind)?;
                assert_eq!(is_hosts, hosts.contains(&kind), "{kind} of {hosts:?}");
            }
            pod.delete().await?;
        }
        Ok(())
    });
}

#[test]
fn the_status_tells_the_namespaces_that_were_asked_for() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::from_env(Engine::Berthd)?).start(&place).await?;
        let spec = pod("told").host_network().shared_pid();
        let pod = daemon.client().await?.run_pod(spec).await?;
        let linux = pod.status().await?.linux.unwrap_or_default();
        let options = linux.namespaces.unwrap_or_default().options.unwrap_or_default();
        assert_eq!(options.network(), NamespaceMode::Node);
        assert_eq!((options.pid(), options.ipc()), (NamespaceMode::Pod, NamespaceMode::Pod));
        Ok(pod.delete().await?)
    });
}

#[test]
fn a_shared_pid_namespace_is_held_by_pause() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("shared").shared_pid()).await?;
        let apps = two(&node, &pod, NamespaceMode::Pod).await?;
        assert_eq!(apps[0].namespace("pid").await?, apps[1].namespace("pid").await?);
        assert_eq!(apps[0].namespace("pid").await?, process::namespace(pod.pause().await?, "pid")?);
        let seen = apps[0].shell("grep -l slee[p] /proc/[0-9]*/cmdline | wc -l").await?;
        assert_eq!(seen.trim(), "2", "each sees the other");
        let first = apps[0].shell("cat /proc/1/cmdline | tr '\\0' ' '").await?;
        assert!(!first.contains("sleep"), "PID 1 is {first}");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn pause_reaps_the_orphans_of_a_shared_pid_namespace() {
    place::native(async |place| {
        let node = node(&place).await?;
        let pod = node.client.run_pod(pod("orphanage").shared_pid()).await?;
        let app = pod.run(staying(&node, "app", NamespaceMode::Pod)).await?;
        // Their parents end before they do: they become children of PID 1, and then end.
        app.shell("for n in 1 2 3 4 5; do sh -c '(exec sleep 0.1) &'; done").await?;
        let states = "cat /proc/[0-9]*/stat 2> /dev/null | grep -v '(cat)'";
        let reaped = async || {
            let states = app.shell(states).await?;
            Ok((!states.contains(") Z ") && !states.contains("(sleep) S 1 ")).then_some(()))
        };
        berth_e2e::wait::until("all are reaped", std::time::Duration::from_secs(5), reaped).await?;
        Ok(pod.delete().await?)
    });
}

#[test]
fn a_container_joins_the_processes_of_its_target() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("debugged")).await?;
        let app = pod.run(staying(&node, "app", NamespaceMode::Container)).await?;
        let aimed_at = |id: &str| {
            staying(&node, "debugger", NamespaceMode::Target).security(|security| {
                let options = security.namespace_options.get_or_insert_default();
                options.target_id = id.to_owned();
            })
        };
        let debugger = pod.run(aimed_at(&app.id)).await?;
        assert_eq!(debugger.namespace("pid").await?, app.namespace("pid").await?);
        let first = debugger.shell("tr '\\0' ' ' < /proc/1/cmdline").await?;
        assert_eq!(first.trim_end(), "sleep inf");

        debugger.remove().await?;
        app.stop(0).await?;
        let refused = pod.run(aimed_at(&app.id)).await;
        assert_refused(refused, Code::FailedPrecondition, &[&app.id]);
        let refused = pod.run(aimed_at(&"0".repeat(64))).await;
        assert_refused(refused, Code::NotFound, &["0000"]);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn modes_that_make_no_sense_for_a_pod_are_refused() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let client = daemon.client().await?;
        type Change = fn(&mut NamespaceOption);
        let table: [(Change, &str); 4] = [
            (|o| o.network = NamespaceMode::Container.into(), "network cannot be CONTAINER"),
            (|o| o.ipc = NamespaceMode::Target.into(), "ipc cannot be TARGET"),
            (|o| o.pid = NamespaceMode::Target.into(), "pid cannot be TARGET"),
            (|o| o.pid = 17, "pid 17 is unknown"),
        ];
        for (change, words) in table {
            let spec: PodSpec = pod("odd").namespaces(change);
            assert_refused(client.run_pod(spec).await, Code::InvalidArgument, &[words]);
        }
        assert!(client.pods().await?.is_empty());
        Ok(())
    });
}
