//! Whose files are in a pod with a user namespace: layers, volumes, what berthd writes, streams.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_e2e::client::cri::{Device, IdMapping, Int64Value};
use berth_e2e::client::{Code, Container, ContainerSpec, assert_refused, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::node::Node;
use berth_e2e::place;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

const FIRST: u32 = 131_072;
const SECOND: u32 = 262_144;

async fn node(place: &place::Place) -> Result<Node> {
    Node::start(place, Engine::Berthd).await
}

fn owner(path: impl AsRef<Path>) -> Result<(u32, u32)> {
    let path = path.as_ref();
    let about = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    Ok((about.uid(), about.gid()))
}

/// A file of a container's root, as the host sees it.
async fn outside(app: &Container, path: &str) -> Result<PathBuf> {
    Ok(format!("/proc/{}/root/{path}", app.pid().await?).into())
}

/// All that is below a directory: what tells that a file was copied, written or given away.
fn fingerprint(
    directory: &Path,
    found: &mut BTreeMap<PathBuf, (u64, u32, u32, i64, i64)>,
) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let about = fs::symlink_metadata(&path)?;
        let times = (about.ctime(), about.ctime_nsec());
        found.insert(path.clone(), (about.ino(), about.uid(), about.gid(), times.0, times.1));
        if about.is_dir() {
            fingerprint(&path, found)?;
        }
    }
    Ok(())
}

/// Two pods with ranges of their own, and one with the host's, have the same layers: none is
/// copied, none is given to anybody.
#[test]
fn pods_of_different_users_share_the_layers_of_their_image() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let below = Layer::new().with(Entry::dir("data")).with(Entry::file("data/low", "low"));
        let below = below.with(Entry::file("data/bin", "bin").owner(1000, 1001).mode(0o4755));
        let above =
            Layer::new().with(Entry::file("data/high", "high")).with(Entry::whiteout("data/low"));
        let image = Image::busybox()?.layer(below).layer(above).build()?;
        let reference = node.registry.push("layered:1", &image).await?;
        node.client.pull(&reference).await?;
        let layers = node.daemon.dirs().root.join("images/layers");
        let mut before = BTreeMap::new();
        fingerprint(&layers, &mut before)?;
        assert!(before.len() > 3, "{before:?}");

        let mut pods = Vec::new();
        for (name, first) in [("one", Some(FIRST)), ("two", Some(SECOND)), ("host", None)] {
            let spec = first.map_or(pod(name), |first| pod(name).users(first));
            let pod = node.client.run_pod(spec).await?;
            let app = pod.run(container("app").image(&reference).cmd(["sleep", "inf"])).await?;
            let script = "stat -c '%u %g %a' / /bin /data/high /data/bin; ls /data; \
                 echo more >> /data/high; chown 5:6 /data/bin; touch /data/new; cat /data/high";
            let told = app.shell(script).await?;
            let expected = "0 0 755\n0 0 755\n0 0 644\n1000 1001 4755\nbin\nhigh\nhighmore\n";
            assert_eq!(told, expected, "{name}");
            let first = first.unwrap_or(0);
            for (path, uid, gid) in
                [("data/new", 0, 0), ("data/high", 0, 0), ("data/bin", 5, 6), ("", 0, 0)]
            {
                let expected = (first + uid, first + gid);
                assert_eq!(owner(outside(&app, path).await?)?, expected, "{name}: {path}");
            }
            pods.push(pod);
        }
        let mut after = BTreeMap::new();
        fingerprint(&layers, &mut after)?;
        assert_eq!(after, before);
        for pod in pods {
            pod.delete().await?;
        }
        node.client.remove_image(&reference).await?;
        audit.assert_clean().await
    });
}

fn mapped(spec: ContainerSpec, host: u32) -> ContainerSpec {
    let ids = || vec![IdMapping { host_id: host, container_id: 0, length: 65_536 }];
    spec.with(|config| {
        for mount in &mut config.mounts {
            (mount.uid_mappings, mount.gid_mappings) = (ids(), ids());
        }
    })
}

#[test]
fn a_volume_has_its_owners_mapped_if_that_is_asked_for() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let (volume, other) = (place.dir("volume")?, place.dir("other")?);
        for dir in [&volume, &other] {
            fs::write(dir.join("file"), "")?;
            chown(dir.join("file"), Some(7), Some(8))?;
        }
        fs::create_dir(volume.join("below"))?;
        mount_bind(&other, volume.join("below"))?;
        let source = volume.to_string_lossy().into_owned();
        let app = |name: &str| {
            container(name).image(&node.image).cmd(["sleep", "inf"]).mount(&source, "/v", false)
        };
        let users = node.client.run_pod(pod("users").users(FIRST)).await?;
        let plain = node.client.run_pod(pod("plain")).await?;
        let script = "stat -c '%u %g' /v/file /v/below/file";

        let as_found = users.run(app("found")).await?;
        assert_eq!(as_found.shell(script).await?, "65534 65534\n".repeat(2));
        assert_ne!(as_found.exec(["touch", "/v/mine"]).await?.code, 0, "it is the host's");

        // As with the field's runtimes, what is mounted below is not.
        let mapping = users.run(mapped(app("mapped"), FIRST)).await?;
        assert_eq!(mapping.shell(script).await?, "7 8\n65534 65534\n");
        mapping.shell("touch /v/mine && chown 3:4 /v/file").await?;
        assert_eq!((owner(volume.join("mine"))?, owner(volume.join("file"))?), ((0, 0), (3, 4)));

        // With mappings that are no pod's.
        let elsewhere = users.run(mapped(app("elsewhere"), FIRST + 100)).await?;
        assert_eq!(elsewhere.shell("stat -c '%u %g' /v/file").await?, "103 104\n");
        let outside = plain.run(mapped(app("outside"), SECOND)).await?;
        assert_eq!(outside.shell("stat -c %u /v/file").await?, "262147\n");

        let half = mapped(app("half"), FIRST).with(|config| config.mounts[0].gid_mappings.clear());
        let words = ["config.mounts[0].gidMappings: missing"];
        assert_refused(users.create(half).await, Code::InvalidArgument, &words);
        let long = mapped(app("long"), u32::MAX - 5);
        let words = ["config.mounts[0].uidMappings[0]: 65536 ids"];
        assert_refused(users.create(long).await, Code::InvalidArgument, &words);
        let proc = container("proc").image(&node.image).mount("/proc/uptime", "/uptime", true);
        let proc = users.create(mapped(proc, FIRST)).await?;
        let words = ["/proc/uptime", "its file system (proc) cannot map owners"];
        let refused = proc.start().await.expect_err("procfs has mapped owners");
        assert!(words.iter().all(|word| refused.message().contains(word)), "{refused:?}");

        users.delete().await?;
        plain.delete().await?;
        unmount(volume.join("below"), UnmountFlags::DETACH)?;
        audit.assert_clean().await
    });
}

#[test]
fn what_the_daemon_makes_for_the_pod_is_its_roots() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").users(FIRST)).await?;
        let device = Device {
            container_path: "/dev/mine".into(),
            host_path: "/dev/zero".into(),
            permissions: "rw".into(),
        };
        let spec = |name: &str| container(name).image(&node.image).cmd(["sleep", "inf"]);
        let one = pod.run(spec("one").with(|config| config.devices = vec![device])).await?;
        let files = "/etc/hosts /etc/hostname /etc/resolv.conf /dev/shm /dev/pts/ptmx /dev/null \
             /dev/mine /dev/mqueue /proc/1/status";
        let told = one.shell(&format!("stat -c %u {files}; cat /etc/hostname")).await?;
        assert_eq!(told, format!("{}p\n", "0\n".repeat(9)));
        one.shell("echo 10.0.0.1 more >> /etc/hosts; echo x > /dev/null; echo shared > /dev/shm/x")
            .await?;
        assert_eq!(one.shell("head -c 3 /dev/mine | od -An -tx1").await?.trim(), "00 00 00");
        let two = pod.run(spec("two")).await?;
        let told = two.shell("cat /dev/shm/x; stat -c %u /dev/shm/x; tail -n 1 /etc/hosts").await?;
        assert_eq!(told, "shared\n0\n10.0.0.1 more\n");
        assert_eq!(owner(outside(&one, "dev/shm/x").await?)?, (FIRST, FIRST));
        // What shows the kernel can be looked at, not written.
        for path in
            ["/sys/kernel/uevent_seqnum", "/sys/fs/cgroup/cgroup.procs", "/proc/sys/vm/swappiness"]
        {
            one.shell(&format!("cat {path}")).await?;
            let written = one.exec(["sh", "-c", &format!("echo 1 > {path}")]).await?;
            assert_ne!(written.code, 0, "{path}");
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Programs that log to files have them linked to `/dev/stdout`.
#[test]
fn standard_streams_can_be_opened_again() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").users(FIRST)).await?;
        let script = "echo out > /dev/stdout; echo err > /dev/stderr; echo done; exec sleep inf";
        for (name, user, tty) in
            [("root", 0, false), ("user", 1000, false), ("tty", 0, true), ("both", 1000, true)]
        {
            let spec = container(name).image(&node.image).script(script);
            let spec = spec.security(|s| s.run_as_user = Some(Int64Value { value: user }));
            let app = pod.run(if tty { spec.tty() } else { spec }).await?;
            app.wait_for_log("done").await?;
            let mut said: Vec<_> = app.log_text()?.lines().map(str::to_owned).collect();
            said.sort();
            assert_eq!(said, ["done", "err", "out"], "{name}");
            let output =
                app.exec(["sh", "-c", "echo o > /dev/stdout; echo e > /dev/stderr"]).await?;
            assert_eq!(
                (output.code, &*output.stdout, &*output.stderr),
                (0, "o\n", "e\n"),
                "{name}"
            );
            if tty {
                assert_eq!(app.shell("stat -c %u /dev/console").await?, format!("{user}\n"));
            }
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}
