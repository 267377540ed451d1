//! What every container of a pod finds: its host name, resolv.conf, hosts, shared memory, kernel
//! parameters.

use std::path::Path;

use anyhow::Result;
use berth_e2e::client::cri::{DnsConfig, NamespaceMode};
use berth_e2e::client::{Code, assert_refused, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::place;

async fn node(place: &place::Place) -> Result<Node> {
    Node::start(place, Engine::from_env(Engine::Berthd)?).await
}

#[test]
fn a_pod_has_a_host_name_of_its_own() {
    place::native(async |place| {
        let node = node(&place).await?;
        let pod = node.client.run_pod(pod("p").with(|c| c.hostname = "web-0".into())).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        assert_eq!(app.shell("hostname; cat /etc/hostname").await?, "web-0\nweb-0\n");
        assert_ne!(rustix::system::uname().nodename(), c"web-0");
        let hosts = app.shell("cat /etc/hosts").await?;
        assert!(hosts.contains("127.0.0.1\tlocalhost"), "{hosts}");
        assert!(hosts.contains(&format!("{}\tweb-0", pod.ip().await?)), "{hosts}");
        Ok(pod.delete().await?)
    });
}

#[test]
fn a_pod_on_the_host_network_has_the_hosts_name_and_files() {
    place::native(async |place| {
        let node = node(&place).await?;
        let pod = node.client.run_pod(pod("p").host_network()).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let uname = rustix::system::uname();
        let name = uname.nodename().to_string_lossy();
        assert_eq!(app.shell("hostname; cat /etc/hostname").await?, format!("{name}\n{name}\n"));
        for file in ["/etc/hosts", "/etc/resolv.conf"] {
            let hosts = std::fs::read_to_string(file).unwrap_or_default();
            assert_eq!(app.shell(&format!("cat {file}")).await?, hosts, "{file}");
        }
        Ok(pod.delete().await?)
    });
}

#[test]
fn the_resolver_is_set_up_as_asked() {
    place::native(async |place| {
        let node = node(&place).await?;
        let dns = DnsConfig {
            servers: vec!["10.0.0.10".into(), "fd00::10".into()],
            searches: vec!["ns.svc.cluster.local".into(), "cluster.local".into()],
            options: vec!["ndots:5".into(), "edns0".into()],
        };
        let pod = node.client.run_pod(pod("p").with(|c| c.dns_config = Some(dns))).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let expected = "search ns.svc.cluster.local cluster.local\n\
                        nameserver 10.0.0.10\nnameserver fd00::10\noptions ndots:5 edns0\n";
        assert_eq!(app.shell("cat /etc/resolv.conf").await?, expected);
        Ok(pod.delete().await?)
    });
}

/// The files are the pod's: what one container writes the other reads, and none of it is lost
/// with a container.
#[test]
fn the_files_belong_to_the_pod() {
    place::native(async |place| {
        let node = node(&place).await?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = |name: &str| container(name).image(&node.image).cmd(["sleep", "inf"]);
        let one = pod.run(app("one")).await?;
        one.shell("echo 10.1.1.1 friend >> /etc/hosts").await?;
        let two = pod.run(app("two")).await?;
        one.remove().await?;
        assert!(two.shell("cat /etc/hosts").await?.ends_with("10.1.1.1 friend\n"));
        assert!(!std::fs::read_to_string("/etc/hosts")?.contains("friend"));
        let sealed = app("sealed").security(|security| security.readonly_rootfs = true);
        let sealed = pod.run(sealed).await?;
        assert_ne!(sealed.exec(["sh", "-c", "echo > /etc/hosts"]).await?.code, 0);
        Ok(pod.delete().await?)
    });
}

#[test]
fn shared_memory_is_the_pods_and_64_mib() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let (left, right) =
            (node.client.run_pod(pod("left")).await?, node.client.run_pod(pod("right")).await?);
        let app = |name: &str| container(name).image(&node.image).cmd(["sleep", "inf"]);
        let one = left.run(app("one")).await?;
        let two = left.run(app("two")).await?;
        let other = right.run(app("other")).await?;

        one.shell("echo secret > /dev/shm/note").await?;
        assert_eq!(two.shell("cat /dev/shm/note").await?, "secret\n");
        assert_eq!(other.shell("ls /dev/shm").await?, "");
        assert!(!Path::new("/dev/shm/note").exists());
        let kib = "df -k /dev/shm | awk 'NR == 2 { print $2 }'";
        assert_eq!(one.shell(kib).await?.trim(), "65536");
        assert_eq!(one.shell("stat -c %a /dev/shm").await?.trim(), "1777");
        // The memory outlives the container that has filled it.
        one.remove().await?;
        assert_eq!(two.shell("cat /dev/shm/note").await?, "secret\n");
        left.delete().await?;
        right.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn shared_memory_is_the_hosts_with_its_ipc_namespace() {
    place::native(async |place| {
        let node = node(&place).await?;
        let spec = pod("p").namespaces(|options| options.ipc = NamespaceMode::Node.into());
        let pod = node.client.run_pod(spec).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        app.shell("echo hello > /dev/shm/from-a-pod").await?;
        assert_eq!(std::fs::read_to_string("/dev/shm/from-a-pod")?, "hello\n");
        std::fs::remove_file("/dev/shm/from-a-pod")?;
        Ok(pod.delete().await?)
    });
}

#[test]
fn sysctls_are_set_inside_and_nowhere_else() {
    place::native(async |place| {
        let node = node(&place).await?;
        let host = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}"));
        let names = ["net/ipv4/ip_local_port_range", "kernel/shm_rmid_forced", "fs/mqueue/msg_max"];
        let before = names.map(|name| host(name).unwrap_or_default());
        let spec = pod("tuned")
            .sysctl("net.ipv4.ip_local_port_range", "20000 30000")
            .sysctl("kernel.shm_rmid_forced", "1")
            .sysctl("fs.mqueue.msg_max", "33");
        let pod = node.client.run_pod(spec).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let inside = app.shell("cd /proc/sys; cat net/ipv4/ip_local_port_range").await?;
        assert_eq!(inside, "20000\t30000\n");
        let inside =
            app.shell("cd /proc/sys; cat kernel/shm_rmid_forced fs/mqueue/msg_max").await?;
        assert_eq!(inside, "1\n33\n");
        assert_eq!(before, names.map(|name| host(name).unwrap_or_default()));
        Ok(pod.delete().await?)
    });
}

/// An ordinary user may listen on port 80 of the pod's own network, and ping.
#[test]
fn low_ports_and_pings_need_no_capability() {
    place::native(async |place| {
        let node = node(&place).await?;
        let pod = node.client.run_pod(pod("plain")).await?;
        let app = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let app = pod.run(app).await?;
        let sysctls = "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range";
        assert_eq!(app.shell(sysctls).await?, "0\n0\t2147483647\n");
        Ok(pod.delete().await?)
    });
}

#[test]
fn sysctls_of_the_host_are_refused() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let client = daemon.client().await?;
        for (name, value) in [
            ("kernel.core_pattern", "|/tmp/evil"),
            ("vm.swappiness", "1"),
            ("kernel.shm_rmid_forced", "1\n2"),
            ("net/../kernel/core_pattern", "x"),
        ] {
            let refused = client.run_pod(pod("bold").sysctl(name, value)).await;
            assert_refused(refused, Code::InvalidArgument, &["config.linux.sysctls", name]);
        }
        let on_host = |name: &str| pod("bold").host_network().sysctl(name, "1");
        let refused = client.run_pod(on_host("net.ipv4.ip_forward")).await;
        assert_refused(refused, Code::InvalidArgument, &["ip_forward", "host's own"]);
        let ipc = on_host("kernel.shm_rmid_forced")
            .namespaces(|options| options.ipc = NamespaceMode::Node.into());
        assert_refused(client.run_pod(ipc).await, Code::InvalidArgument, &["host's own"]);
        assert!(client.pods().await?.is_empty());
        Ok(())
    });
}

/// A value that the kernel refuses shows only when the pod is made; nothing of it stays.
#[test]
fn a_sysctl_that_the_kernel_refuses_undoes_the_pod() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        for (name, value) in
            [("net.ipv4.no_such_thing", "1"), ("net.ipv4.ip_local_port_range", "many")]
        {
            let refused = node.client.run_pod(pod("hopeful").sysctl(name, value)).await;
            let last = name.rsplit('.').next().unwrap_or_default();
            assert_refused(refused, Code::InvalidArgument, &[last]);
        }
        assert!(node.client.pods().await?.is_empty());
        audit.assert_clean().await
    });
}
