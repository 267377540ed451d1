//! What a container's process may do: capabilities, privileges, devices, what is hidden from it
//! and what it cannot write to.

use anyhow::{Context, Result};
use berth_e2e::client::cri::{Capability, Device};
use berth_e2e::client::{Container, ContainerSpec, Pod, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};

async fn node(place: &Place) -> Result<Node> {
    Node::start(place, Engine::from_env(Engine::Berthd)?).await
}

/// One line of a process's status, in the words of `/proc/PID/status`.
fn field(status: &str, name: &str) -> String {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    value.unwrap_or_default().to_owned()
}

/// What containerd gives, whose images people run: CHOWN to SETPCAP, NET_BIND_SERVICE, NET_RAW,
/// SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
const DEFAULT: u64 = 0xa804_25fb;
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_TIME: u64 = 1 << 25;

fn capable(spec: ContainerSpec, add: &[&str], drop: &[&str], ambient: &[&str]) -> ContainerSpec {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let capabilities = Capability {
        add_capabilities: list(add),
        drop_capabilities: list(drop),
        add_ambient_capabilities: list(ambient),
    };
    spec.security(|security| security.capabilities = Some(capabilities))
}

/// Keys of the node, such as those of an encrypted disk, are in the keyring of its services.
#[test]
fn a_container_and_its_commands_have_a_session_keyring_of_their_own() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = container("app").image(&node.image).script("exec sleep 1000");
        let app = pod.run(app).await?;
        let name = format!("_ses.{}", app.id);
        let named = |keys: &str| keys.lines().filter(|line| line.contains(&name)).count();
        assert_eq!(named(&std::fs::read_to_string("/proc/keys")?), 1);
        let command = app.exec(["grep", "-c", &name, "/proc/keys"]);
        assert!(command.await?.stdout.trim() <= "1", "masked, or one that the command has joined");
        assert_eq!(named(&std::fs::read_to_string("/proc/keys")?), 1);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn capabilities_are_added_and_dropped() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let own = field(&std::fs::read_to_string("/proc/self/status")?, "CapEff");
        let own = u64::from_str_radix(&own, 16).context("own capabilities")?;
        for (number, (add, drop, expected)) in [
            (&[][..], &[][..], DEFAULT),
            (&["SYS_TIME"], &[], DEFAULT | SYS_TIME),
            (&["cap_sys_time"], &["CAP_CHOWN"], DEFAULT & !1 | SYS_TIME),
            (&[], &["ALL"], 0),
            (&["NET_BIND_SERVICE"], &["ALL"], NET_BIND_SERVICE),
            (&["ALL"], &[], own),
            (&["ALL"], &["SYS_ADMIN"], own & !SYS_ADMIN),
        ]
        .into_iter()
        .enumerate()
        {
            let spec = container(&format!("c{number}")).image(&node.image).cmd(["sleep", "inf"]);
            let app = pod.run(capable(spec, add, drop, &[])).await?;
            for process in ["1", "self"] {
                let status = app.shell(&format!("cat /proc/{process}/status")).await?;
                let set = |name| field(&status, name);
                let expected = format!("{expected:016x}");
                for name in ["CapEff", "CapPrm", "CapBnd"] {
                    assert_eq!(set(name), expected, "{name} with {add:?}, without {drop:?}");
                }
                assert_eq!((set("CapInh"), set("CapAmb")), ("0".repeat(16), "0".repeat(16)));
            }
            app.remove().await?;
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// A capability that is not ambient is lost with the identity of root.
#[test]
fn an_ordinary_user_has_only_ambient_capabilities() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        for (name, ambient, expected) in
            [("plain", &[][..], 0), ("ambient", &["NET_ADMIN"], NET_ADMIN)]
        {
            let spec = container(name).image(&node.image).cmd(["sleep", "inf"]);
            let spec = capable(spec, &["NET_ADMIN"], &["ALL"], ambient);
            let spec = spec.security(|security| security.run_as_username = "alice".into());
            let app = pod.run(spec).await?;
            for process in ["1", "self"] {
                let status = app.shell(&format!("cat /proc/{process}/status")).await?;
                assert_eq!(field(&status, "CapEff"), format!("{expected:016x}"), "{name}");
                assert_eq!(field(&status, "CapBnd"), format!("{NET_ADMIN:016x}"), "{name}");
            }
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn new_privileges_can_be_ruled_out() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        for ruled_out in [false, true] {
            let spec = container(&format!("{ruled_out}")).image(&node.image).cmd(["sleep", "inf"]);
            let app = pod.run(spec.security(|s| s.no_new_privs = ruled_out)).await?;
            for process in ["1", "self"] {
                let status = app.shell(&format!("cat /proc/{process}/status")).await?;
                assert_eq!(field(&status, "NoNewPrivs"), u8::from(ruled_out).to_string());
            }
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

async fn fails(app: &Container, script: &str, words: &str) -> Result<()> {
    let output = app.exec(["/bin/sh", "-c", script]).await?;
    assert_ne!(output.code, 0, "{script}");
    assert!(output.stderr.contains(words), "{script}: {output:?}");
    Ok(())
}

#[test]
fn paths_can_be_hidden_and_protected() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]).security(|security| {
            // What is not there needs no hiding.
            security.masked_paths = list(&["/etc/passwd", "/home", "/proc/uptime", "/nowhere"]);
            security.readonly_paths = list(&["/proc/sys", "/tmp", "/etc/group", "/nowhere"]);
        });
        let app = pod.run(spec).await?;
        assert_eq!(app.shell("cat /etc/passwd /proc/uptime; ls -A /home").await?, "");
        fails(&app, "touch /home/x", "Read-only").await?;
        fails(&app, "touch /tmp/x", "Read-only").await?;
        fails(&app, "echo x >> /etc/group", "Read-only").await?;
        fails(&app, "echo 1 > /proc/sys/net/ipv4/ip_forward", "Read-only").await?;
        app.shell("cat /proc/sys/kernel/ostype && touch /elsewhere").await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_read_only_root_is_read_only_and_its_mounts_are_not() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let data = place.dir("data")?.to_string_lossy().into_owned();
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let spec = spec.mount(&data, "/data", false).mount("/etc", "/made/on/the/way", true);
        let app = pod.run(spec.security(|security| security.readonly_rootfs = true)).await?;
        for path in ["/x", "/tmp/x", "/etc/hosts", "/etc/resolv.conf", "/made/on/x"] {
            fails(&app, &format!("echo > {path}"), "Read-only").await?;
        }
        app.shell("echo x > /data/x; echo > /dev/shm/x; echo > /dev/null").await?;
        assert_eq!(std::fs::read_to_string(format!("{data}/x"))?, "x\n");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_privileged_container_may_do_what_others_may_not() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").privileged()).await?;
        let spec = |name: &str| {
            let spec = container(name).image(&node.image).cmd(["sleep", "inf"]);
            spec.security(|security| {
                security.masked_paths = vec!["/proc/uptime".into()];
                security.readonly_paths = vec!["/proc/sys".into()];
                security.no_new_privs = true;
            })
        };
        let plain = pod.run(spec("plain")).await?;
        fails(&plain, "mkdir /m; mount -t tmpfs none /m", "permission denied").await?;
        fails(&plain, "mkdir /sys/fs/cgroup/x", "Read-only").await?;
        let almighty = pod.run(spec("almighty").privileged()).await?;
        almighty.shell("mkdir /m && mount -t tmpfs none /m && umount /m").await?;
        almighty.shell("mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x").await?;
        almighty.shell("echo 1 > /proc/sys/net/ipv4/ip_forward; grep -q . /proc/uptime").await?;
        let status = almighty.shell("cat /proc/1/status").await?;
        let own = field(&std::fs::read_to_string("/proc/self/status")?, "CapEff");
        assert_eq!((field(&status, "CapEff"), field(&status, "NoNewPrivs")), (own, "0".into()));
        pod.delete().await?;
        audit.assert_clean().await
    });
}

async fn with_devices(node: &Node, pod: &Pod, devices: &[(&str, &str, &str)]) -> Result<Container> {
    let device = |(host, container, permissions): &(&str, &str, &str)| Device {
        host_path: (*host).to_owned(),
        container_path: (*container).to_owned(),
        permissions: (*permissions).to_owned(),
    };
    let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
    let devices = devices.iter().map(device).collect();
    Ok(pod.run(spec.with(|config| config.devices = devices)).await?)
}

#[test]
fn a_container_has_the_usual_devices_and_those_that_are_asked_for() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        // A device that no container has by default.
        let (host, link) = (place.scratch().join("control"), place.scratch().join("link"));
        std::os::unix::fs::symlink("/dev/loop-control", &link)?;
        std::os::unix::fs::symlink(&link, &host)?;
        let host = host.to_string_lossy().into_owned();
        let app = with_devices(&node, &pod, &[(&host, "/dev/bus/loops", "r")]).await?;
        let usual = "cd /dev; for name in null zero full random urandom tty; do \
                     test -c $name || echo no $name; done; \
                     readlink fd; readlink stdin; readlink ptmx; head -c 4 zero | wc -c; \
                     echo x > full || echo full";
        let expected = "/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n4\nfull\n";
        assert_eq!(app.shell(usual).await?, expected);
        let given = app.shell("stat -c '%F %t %T' /dev/bus/loops; : < /dev/bus/loops").await?;
        assert_eq!(given, "character special file a ed\n");
        fails(&app, ": > /dev/bus/loops", "Operation not permitted").await?;
        // A node may be made, and is of no use.
        fails(&app, "mknod /mem c 1 1; : < /mem", "Operation not permitted").await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}
