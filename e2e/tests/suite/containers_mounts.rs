//! What a container sees of the node's files: binds, read-only ones, propagation, and that no
//! image can lead a mount out of its root.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_e2e::client::cri::{Mount, MountPropagation};
use berth_e2e::client::{Code, ContainerSpec, assert_refused, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};

async fn node(place: &Place) -> Result<Node> {
    Node::start(place, Engine::from_env(Engine::Berthd)?).await
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn tmpfs(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let mounted = mount("tmpfs", dir, "tmpfs", MountFlags::empty(), None);
    mounted.with_context(|| format!("mount {}", dir.display()))
}

#[test]
fn files_and_directories_are_bound_for_reading_or_writing() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let data = place.dir("data")?;
        std::fs::write(data.join("file"), "of the node\n")?;
        std::os::unix::fs::symlink("file", data.join("link"))?;
        let (dir, file, link) = (text(&data), text(&data.join("file")), text(&data.join("link")));
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let spec = spec
            .mount(&dir, "/made/for/it/rw", false)
            .mount(&dir, "/ro", true)
            .mount(&file, "/etc/made.conf", false)
            .mount(&link, "/linked", true)
            // Deeper than another one, and asked for before it.
            .mount(&file, "/nest/in/side", true)
            .mount(&dir, "/nest/in", false);
        let app = pod.run(spec).await?;
        let files = "cat /made/for/it/rw/file /ro/file /etc/made.conf /linked /nest/in/side";
        assert_eq!(app.shell(files).await?, "of the node\n".repeat(5));
        app.shell("echo changed > /etc/made.conf; echo new > /made/for/it/rw/new").await?;
        assert_eq!(std::fs::read_to_string(data.join("file"))?, "changed\n");
        assert_eq!(std::fs::read_to_string(data.join("new"))?, "new\n");
        for path in ["/ro/new", "/linked", "/nest/in/side"] {
            let output = app.exec(["sh", "-c", &format!("echo x >> {path}")]).await?;
            assert!(output.stderr.contains("Read-only"), "{path}: {output:?}");
        }
        // Whatever remains of them is the node's.
        pod.delete().await?;
        assert_eq!(std::fs::read_to_string(data.join("new"))?, "new\n");
        audit.assert_clean().await
    });
}

/// As the field's runtimes do it; `hostPath` volumes of no type rely on it.
#[test]
fn a_missing_source_is_made_as_a_directory_unless_the_request_is_refused() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let missing = place.scratch().join("not/there/yet");
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = |name: &str| container(name).image(&node.image).cmd(["sleep", "inf"]);
        let with = |name: &str| spec(name).mount(&text(&missing), "/data", false);
        let change: [fn(ContainerSpec) -> ContainerSpec; 4] = [
            |spec| spec.mount("relative", "/other", false),
            |spec| spec.with(|config| config.log_path = "../x".into()),
            |spec| spec.with(|config| config.working_dir = "relative".into()),
            |spec| spec.resources(|resources| resources.oom_score_adj = 5000),
        ];
        for (number, change) in change.into_iter().enumerate() {
            let refused = pod.create(change(with(&format!("refused{number}")))).await;
            assert_refused(refused, Code::InvalidArgument, &["config."]);
            assert!(!place.scratch().join("not").exists(), "{number}");
        }
        let app = pod.run(with("app")).await?;
        app.shell("touch /data/x").await?;
        assert!(missing.join("x").exists());
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// A directory that is a mount of its own, on which other mounts come and go.
struct Shared(PathBuf);

impl Shared {
    fn new(place: &Place, name: &str, propagation: MountPropagationFlags) -> Result<Self> {
        let dir = place.dir(name)?;
        mount_bind(&dir, &dir)?;
        mount_change(&dir, propagation)?;
        std::fs::create_dir(dir.join("before"))?;
        std::fs::create_dir(dir.join("after"))?;
        tmpfs(&dir.join("before"))?;
        Ok(Self(dir))
    }

    fn mount_later(&self) -> Result<()> {
        tmpfs(&self.0.join("after"))?;
        Ok(std::fs::write(self.0.join("after/x"), "")?)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for dir in ["before", "after", "inside", ""] {
            let _ = unmount(self.0.join(dir), UnmountFlags::DETACH);
        }
    }
}

fn propagated(host: &Shared, propagation: MountPropagation) -> Mount {
    Mount {
        host_path: text(&host.0),
        container_path: "/data".into(),
        propagation: propagation.into(),
        ..Default::default()
    }
}

/// None, HostToContainer, Bidirectional of Kubernetes.
#[test]
fn mounts_pass_where_they_are_to_and_nowhere_else() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").privileged()).await?;
        for (propagation, in_sight, out_again) in [
            (MountPropagation::PropagationPrivate, false, false),
            (MountPropagation::PropagationHostToContainer, true, false),
            (MountPropagation::PropagationBidirectional, true, true),
        ] {
            let name = propagation.as_str_name();
            let host = Shared::new(&place, name, MountPropagationFlags::SHARED)?;
            std::fs::create_dir(host.0.join("inside"))?;
            let spec = container(name).image(&node.image).cmd(["sleep", "inf"]).privileged();
            let spec = spec.with(|config| config.mounts.push(propagated(&host, propagation)));
            let app = pod.run(spec).await?;
            app.shell("grep -q ' /data/before tmpfs ' /proc/1/mounts || exit 1").await?;
            host.mount_later()?;
            let seen = app.exec(["test", "-e", "/data/after/x"]).await?.code == 0;
            assert_eq!(seen, in_sight, "{name}");
            app.shell("mount -t tmpfs none /data/inside && touch /data/inside/y").await?;
            assert_eq!(host.0.join("inside/y").exists(), out_again, "{name}");
            app.remove().await?;
            assert_eq!(host.0.join("inside/y").exists(), out_again, "{name} afterwards");
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn propagation_needs_a_mount_that_takes_part() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let private = Shared::new(&place, "private", MountPropagationFlags::PRIVATE)?;
        for (propagation, needed) in [
            (MountPropagation::PropagationHostToContainer, "shared or slave"),
            (MountPropagation::PropagationBidirectional, "shared"),
        ] {
            let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
            let spec = spec.with(|config| config.mounts.push(propagated(&private, propagation)));
            let words = ["config.mounts[0].propagation", &text(&private.0), needed];
            assert_refused(pod.create(spec).await, Code::InvalidArgument, &words);
        }
        drop(private);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// `ro` is for the mount itself; what is mounted below it stays writable unless that, too, is
/// asked for.
#[test]
fn a_read_only_mount_reaches_below_if_it_is_to() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let host = Shared::new(&place, "host", MountPropagationFlags::PRIVATE)?;
        let mount = |recursive| Mount {
            readonly: true,
            recursive_read_only: recursive,
            ..propagated(&host, MountPropagation::PropagationPrivate)
        };
        for recursive in [false, true] {
            let spec = container(&format!("{recursive}")).image(&node.image);
            let spec = spec.cmd(["sleep", "inf"]);
            let app = pod.run(spec.with(|config| config.mounts.push(mount(recursive)))).await?;
            assert_ne!(app.exec(["touch", "/data/x"]).await?.code, 0);
            let below = app.exec(["touch", "/data/before/x"]).await?;
            assert_eq!(below.code != 0, recursive, "{below:?}");
        }
        drop(host);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_mount_of_the_client_takes_the_place_of_the_pods_file() {
    place::native(async |place| {
        let node = node(&place).await?;
        let data = place.dir("data")?;
        std::fs::write(data.join("hosts"), "192.0.2.1 kubelet\n")?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let spec = spec.mount(&text(&data.join("hosts")), "/etc/hosts", false);
        let app = pod.run(spec.mount(&text(&data), "/dev/shm", false)).await?;
        let files = "cat /etc/hosts /dev/shm/hosts /etc/hostname; test -s /etc/resolv.conf; \
                     grep -c ' /etc/hosts ' /proc/1/mounts";
        assert_eq!(app.shell(files).await?, "192.0.2.1 kubelet\n".repeat(2) + "p\n1\n");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// A kubelet asks for it on every volume; without SELinux it means nothing.
#[test]
fn a_label_is_nothing_where_there_is_no_selinux() {
    place::native(async |place| {
        let node = node(&place).await?;
        let data = text(&place.dir("data")?);
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let spec = spec.mount(&data, "/data", false);
        let app = pod.run(spec.with(|config| config.mounts[0].selinux_relabel = true)).await?;
        app.shell("touch /data/x").await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// The links in an image are resolved as the container would resolve them.
#[test]
fn no_link_of_an_image_leads_a_mount_out_of_its_root() {
    place::native(async |place| {
        let node = node(&place).await?;
        let outside = place.dir("outside")?;
        let up = format!("../../../../../../../..{}", outside.display());
        let links = Layer::new()
            .with(Entry::symlink("absolute", &text(&outside)))
            .with(Entry::symlink("relative", &up))
            .with(Entry::symlink("inside", "/var"))
            .with(Entry::dir(text(&outside).trim_start_matches('/')));
        let image = Image::busybox()?.layer(links).build()?;
        let image = node.registry.push("links:1", &image).await?;
        node.client.pull(&image).await?;
        let audit = node.audit()?;
        let data = place.dir("data")?;
        std::fs::write(data.join("x"), "data\n")?;
        let pod = node.client.run_pod(pod("p")).await?;
        let mut spec = container("app").image(&image).cmd(["sleep", "inf"]);
        for path in ["/absolute/made", "/relative/too", "/inside/deep"] {
            spec = spec.mount(&text(&data), path, false);
        }
        let app = pod.run(spec).await?;
        assert!(std::fs::read_dir(&outside)?.next().is_none(), "nothing was made out there");
        let inside = outside.display();
        let files = format!("cat {inside}/made/x {inside}/too/x /var/deep/x");
        assert_eq!(app.shell(&files).await?, "data\n".repeat(3));
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Security features are found through these paths.
#[test]
fn an_image_cannot_move_proc() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let moved = Layer::new().with(Entry::whiteout("proc")).with(Entry::dir("elsewhere"));
        let link = Layer::new().with(Entry::symlink("proc", "/elsewhere"));
        let image = Image::busybox()?.layer(moved).layer(link).build()?;
        let image = node.registry.push("moved:1", &image).await?;
        node.client.pull(&image).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.create(container("app").image(&image).cmd(["sleep", "inf"])).await?;
        assert_refused(app.start().await, Code::InvalidArgument, &["mount proc on /proc"]);
        pod.delete().await?;
        audit.assert_clean().await
    });
}
