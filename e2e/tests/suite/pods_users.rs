//! Pods with user namespaces (`hostUsers: false`): root inside is nobody outside, in all that the
//! pod is made of, and stays so whatever happens to berthd.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use berth_e2e::client::cri::{Capability, Int64Value, NamespaceMode};
use berth_e2e::client::{Code, Pod, assert_refused, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::node::Node;
use berth_e2e::{place, process};

const FIRST: u32 = 131_072;
const COUNT: u32 = 65_536;
const PARENT: &str = "/kubepods/burstable/podusers";

async fn node(place: &place::Place) -> Result<Node> {
    Node::start(place, Engine::Berthd).await
}

/// The processes in a cgroup and in all below it.
fn processes(cgroup: &Path, found: &mut Vec<i32>) -> Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let path = entry?.path();
        if path.is_dir() {
            processes(&path, found)?;
        }
    }
    let pids = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    found.extend(pids.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    Ok(())
}

/// The lines of `/proc/PID/status` that say who a process is.
fn status(pid: i32) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Everybody in the pod's cgroup is in its user namespace, with ids of its range; and everybody in
/// its user namespace is in its cgroup (CVE-2025-47291).
fn everybody_is_in_range(first: u32) -> Result<usize> {
    let mut pids = Vec::new();
    processes(Path::new(&format!("/sys/fs/cgroup{PARENT}")), &mut pids)?;
    let expected = format!("0 {first} {COUNT}");
    for pid in &pids {
        for map in ["uid_map", "gid_map"] {
            let text = fs::read_to_string(format!("/proc/{pid}/{map}"))?;
            let words: Vec<_> = text.split_whitespace().collect();
            assert_eq!(words.join(" "), expected, "{map} of {pid}");
        }
        let status = status(*pid)?;
        for ids in ["Uid", "Gid", "Groups"] {
            for id in status[ids].split_whitespace() {
                let id: u32 = id.parse()?;
                assert!((first..first + COUNT).contains(&id), "{ids} of {pid}: {id}");
            }
        }
    }
    let users = process::namespace(*pids.first().context("nobody is there")?, "user")?;
    for pid in process::find(&[""]) {
        if process::namespace(pid, "user").is_ok_and(|other| other == users) {
            // One that has ended and waits for its parent is in no list any more, but in its cgroup.
            let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"));
            let inside = cgroup.as_ref().map_or(true, |cgroup| cgroup.contains(PARENT));
            assert!(inside, "{pid} is outside of the pod's cgroup: {cgroup:?}");
        }
    }
    Ok(pids.len())
}

#[test]
fn everybody_in_the_pod_has_the_ids_that_it_was_given_also_after_a_kill_of_the_daemon() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let audit = node.audit()?;
        let spec = pod("p").users(FIRST).cgroup_parent(PARENT);
        let pod = node.client.run_pod(spec).await?;
        let app = |name: &str| container(name).image(&node.image).cmd(["sleep", "inf"]);
        let root = pod.run(app("root")).await?;
        let user = app("user").security(|security| {
            security.run_as_user = Some(Int64Value { value: 1000 });
            security.supplemental_groups = vec![77];
            security.no_new_privs = true;
        });
        let user = pod.run(user.seccomp_default()).await?;
        root.shell("sleep 1001 >&- 2>&- & true").await?;
        user.shell("sleep 1002 >&- 2>&- & true").await?;
        // Pause, two containers, two processes that commands have left.
        assert_eq!(everybody_is_in_range(FIRST)?, 5);
        assert_eq!(status(pod.pause().await?)?["Uid"].split('\t').next(), Some("196607"));
        let identity = "id -u; id -g; grep -E 'Groups|Seccomp:|NoNewPrivs' /proc/self/status";
        let before = user.shell(identity).await?;
        assert_eq!(before, "1000\n1000\nGroups:\t50 77 1000 \nNoNewPrivs:\t1\nSeccomp:\t2\n");

        node.kill_and_restart().await?;
        let user = node.client.container(&user.id);
        assert_eq!(user.shell(identity).await?, before);
        user.shell("sleep 1003 >&- 2>&- & true").await?;
        let later = pod.run(container("later").image(&node.image).cmd(["sleep", "inf"])).await?;
        assert_eq!(everybody_is_in_range(FIRST)?, 7);
        assert_eq!(later.shell("cat /proc/self/uid_map | tr -s ' '").await?, " 0 131072 65536\n");
        assert!(later.stats().await?.cpu.is_some());
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Its user namespace owns all others: who has a capability there has it.
#[test]
fn the_namespaces_of_the_pod_are_its_roots() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for (pid, name) in [(NamespaceMode::Pod, "shared"), (NamespaceMode::Container, "own")] {
            let spec = pod(name).users(FIRST).namespaces(|options| options.pid = pid.into());
            let spec = spec.sysctl("net.ipv4.ip_forward", "1");
            let pod = node.client.run_pod(spec).await?;
            let capable = container("app").image(&node.image).script("exec sleep inf");
            let capable = capable.security(|security| {
                let add = ["NET_ADMIN", "SYS_ADMIN"].map(str::to_owned).to_vec();
                let capabilities = Capability { add_capabilities: add, ..Default::default() };
                security.capabilities = Some(capabilities);
            });
            let app = pod.run(capable).await?;
            let owned = "stat -c %u /proc/sys/net/ipv4/ip_forward /proc/1/ns /sys/fs/cgroup; \
                 cat /proc/sys/net/ipv4/ip_forward";
            let told = app.shell(owned).await?;
            assert!(told.starts_with("0\n") && told.ends_with("\n1\n"), "{name}: {told}");
            let ping = app.shell("cat /proc/sys/net/ipv4/ping_group_range").await?;
            assert_eq!(ping.split_whitespace().collect::<Vec<_>>(), ["0", "65535"]);
            app.shell("ip link set lo down && ip link set lo up && ip addr add 10.1.1.1/32 dev lo")
                .await?;
            app.shell("hostname other && mkdir /m && mount -t tmpfs none /m && umount /m").await?;
            app.shell("mount -t mqueue none /m && umount /m && mount -t sysfs none /m").await?;
            // What is the host's stays the host's.
            for beyond in ["mknod /x c 1 3", "echo 1 > /proc/sys/kernel/panic", "swapon /dev/null"]
            {
                assert_ne!(app.exec(["sh", "-c", beyond]).await?.code, 0, "{beyond}");
            }
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn a_pod_on_the_hosts_network_can_have_a_user_namespace() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let link = ["link", "add", "users0", "type", "bridge"];
        ensure!(std::process::Command::new("ip").args(link).status()?.success());
        let pod = node.client.run_pod(pod("p").host_network().users(FIRST)).await?;
        let app = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let app = pod.run(app).await?;
        assert_eq!(app.namespace("net").await?, process::namespace("self", "net")?);
        assert_ne!(app.namespace("user").await?, process::namespace("self", "user")?);
        let told = app.shell("ls /sys/class/net | grep -x users0; id -u").await?;
        assert_eq!(told, "users0\n0\n");
        assert_ne!(app.exec(["ip", "link", "del", "users0"]).await?.code, 0);
        pod.delete().await?;
        let link = ["link", "del", "users0"];
        ensure!(std::process::Command::new("ip").args(link).status()?.success());
        audit.assert_clean().await
    });
}

#[test]
fn a_container_is_in_the_user_namespace_of_its_pod_as_somebody_whom_that_knows() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let users = node.client.run_pod(pod("users").users(FIRST)).await?;
        let plain = node.client.run_pod(pod("plain")).await?;
        let app = || container("app").image(&node.image).cmd(["sleep", "inf"]);
        let options_of = |pod: &Pod| {
            let linux = pod.config.linux.clone().unwrap_or_default();
            linux.security_context.unwrap_or_default().namespace_options.unwrap_or_default()
        };
        let with = |options| app().security(|security| security.namespace_options = Some(options));
        let differ = "userns_options are not those of the container's pod";
        let (own, none) = (options_of(&users), options_of(&plain));
        let mut other = own.clone();
        other.userns_options.as_mut().context("options")?.uids[0].host_id += 1;
        let mut on_host = own.clone();
        on_host.pid = NamespaceMode::Node.into();
        let as_user = |id| app().security(|s| s.run_as_user = Some(Int64Value { value: id }));
        let grouped = app().security(|security| security.supplemental_groups = vec![65_536]);
        for (pod, spec, words) in [
            (&users, with(none), differ),
            (&users, with(other), differ),
            (&plain, with(own), differ),
            (&users, with(on_host), "namespace_options.pid cannot be NODE"),
            (
                &users,
                as_user(65_536),
                "run_as_user (or the image's user) is 65536, which is not mapped",
            ),
            (&users, grouped, "supplemental_groups (or one of the image's groups) is 65536"),
        ] {
            assert_refused(pod.create(spec).await, Code::InvalidArgument, &[words]);
        }
        let last = users.run(as_user(65_535)).await?;
        assert_eq!(last.shell("id -u").await?, "65535\n");
        users.delete().await?;
        plain.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn the_node_says_that_pods_can_have_user_namespaces() {
    place::native(async |place| {
        let node = node(&place).await?;
        let handlers = node.client.status().await?.runtime_handlers;
        ensure!(!handlers.is_empty());
        for handler in handlers {
            let features = handler.features.unwrap_or_default();
            assert!(features.user_namespaces && features.recursive_read_only_mounts);
        }
        // What the container sees is what the status says, word for word.
        let pod = node.client.run_pod(pod("p").users(FIRST)).await?;
        let linux = pod.status().await?.linux.unwrap_or_default();
        let options = linux.namespaces.unwrap_or_default().options.unwrap_or_default();
        let users = options.userns_options.context("no user namespace in the status")?;
        assert_eq!((users.mode(), users.uids[0].host_id), (NamespaceMode::Pod, FIRST));
        Ok(pod.delete().await?)
    });
}
