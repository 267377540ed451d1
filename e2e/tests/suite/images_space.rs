//! What images take on disk, and what happens when there is not enough of it, or when it decays.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::berth::Berth;
use berth_e2e::client::cri::FilesystemUsage;
use berth_e2e::client::{Code, container, image_mount, pod};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::fault::SmallDisk;
use berth_e2e::image::{Compression, Entry, Image, Layer};
use berth_e2e::place::{self, Place};
use berth_e2e::registry::scripted::Scripted;
use berth_e2e::wait;

async fn start(place: &Place, disk: &SmallDisk) -> Result<(Daemon, Audit)> {
    let daemon = Setup::new(Engine::Berthd).root(disk.dir()).start(place).await?;
    let audit = Audit::begin(Scope::of(&daemon))?;
    Ok((daemon, audit))
}

/// Bytes and files of directories and all that is in them, each linked file once.
fn on_disk(directories: impl IntoIterator<Item = PathBuf>) -> Result<(u64, u64)> {
    let (mut left, mut sum, mut linked) = (Vec::from_iter(directories), (0, 0), HashSet::new());
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path)?;
        if about.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        } else if about.nlink() > 1 && !linked.insert(about.ino()) {
            continue;
        }
        sum = (sum.0 + about.blocks() * 512, sum.1 + 1);
    }
    Ok(sum)
}

fn below(root: &Path, kind: &str, tree: &str) -> Result<Vec<PathBuf>> {
    let names = fs::read_dir(root.join("images").join(kind))?;
    let paths: Vec<_> = names.map(|name| Ok(name?.path())).collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| !path.ends_with("0")).map(|path| path.join(tree)).collect())
}

fn told(usage: &[FilesystemUsage]) -> (u64, u64) {
    let value = |of: fn(&FilesystemUsage) -> u64| usage.iter().map(of).sum();
    (
        value(|usage| usage.used_bytes.map_or(0, |value| value.value)),
        value(|usage| usage.inodes_used.map_or(0, |value| value.value)),
    )
}

#[test]
fn space_is_told_exactly_and_is_free_when_an_image_is_removed() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let disk = SmallDisk::tmpfs(&place, 96 << 20)?;
        let (daemon, audit) = start(&place, &disk).await?;
        let (client, root) = (daemon.client().await?, disk.dir());
        let many = (0..300).fold(Layer::new(), |layer, n| {
            layer.with(Entry::file(&format!("f{n}"), vec![b'x'; 10_000]))
        });
        let many = many.with(Entry::hardlink("linked", "f0"));
        let image = Image::busybox()?.layer(many).build()?;
        let names = [registry.add("app:1", &image)?, registry.add("other:2", &image)?];
        let before = disk.free()?;
        for name in &names {
            assert_eq!(client.pull(name).await?, image.config.digest);
        }
        let info = client.image_fs_info().await?;
        let (images, containers) = (info.image_filesystems, info.container_filesystems);
        let layers = [below(root, "layers", "fs")?, below(root, "layers", "spine")?].concat();
        assert_eq!(told(&images), on_disk(layers)?);
        assert_eq!(told(&containers), (0, 0));

        let pod = client.run_pod(pod("p").host_network()).await?;
        let script = "dd if=/dev/zero of=/big bs=1M count=3; mkdir /d; echo ready; sleep inf";
        let app = pod.run(container("app").image(&names[0]).script(script)).await?;
        app.wait_for_log("ready").await?;
        // Nobody waits for a walk: what was measured before is told, and measured again.
        wait::until(
            "what the container has written is told",
            Duration::from_secs(20),
            async || {
                let told = told(&client.image_fs_info().await?.container_filesystems);
                Ok((told == on_disk(below(root, "snapshots", "upper")?)?).then_some(()))
            },
        )
        .await?;
        let written = app.stats().await?.writable_layer.context("its layer")?;
        assert!(told(&[written]).0 >= 3 << 20);

        // One id, whoever is asked.
        let id = client.image(&names[1]).await?.context("the image")?.id;
        let status = app.status().await?;
        assert_eq!(
            [&id, &status.image_id, &client.list_images().await?[0].id],
            [&image.config.digest; 3]
        );
        pod.delete().await?;
        client.remove_image(&id).await?;
        assert!(client.list_images().await?.is_empty());
        // Directories of our own may have come meanwhile.
        let lost = before.saturating_sub(disk.free()?);
        assert!(lost <= 64 << 10, "{lost} bytes are not free again");
        let info = client.image_fs_info().await?;
        assert_eq!(
            (told(&info.image_filesystems), told(&info.container_filesystems)),
            ((0, 0), (0, 0))
        );
        audit.assert_clean().await
    });
}

#[test]
fn a_pull_that_the_disk_has_no_room_for_says_so_and_leaves_nothing() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let disk = SmallDisk::ext4(&place, 64 << 20)?;
        let (mut daemon, _) = start(&place, &disk).await?;
        let client = daemon.client().await?;
        let base = Image::busybox()?.compression(Compression::Zstd).build()?;
        let base = registry.add("base:1", &base)?;
        client.pull(&base).await?;
        let audit = Audit::begin(Scope::of(&daemon))?;
        let content: Vec<u8> =
            (0..400_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let big = Layer::new().with(Entry::file("big", content));
        let small = (0..50).fold(Layer::new(), |l, n| l.with(Entry::file(&format!("s/{n}"), "x")));
        let image = Image::busybox()?.layer(big).layer(small).compression(Compression::Zstd);
        let image = image.build()?;
        let reference = registry.add("large:1", &image)?;
        let (mut worked, mut failed) = (0, 0);
        for step in 0..28 {
            disk.fill(step * (96 << 10))?;
            match client.pull(&reference).await {
                Ok(id) => {
                    worked += 1;
                    client.remove_image(&id).await?;
                }
                Err(refused) => {
                    failed += 1;
                    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
                    assert!(refused.message().contains("no space left"), "{refused}");
                }
            }
            disk.relieve()?;
            let listed = client.list_images().await?;
            assert_eq!(listed.len(), 1, "with {step}: {listed:?}");
            audit.assert_clean().await?;
        }
        assert!(worked > 3 && failed > 8, "{worked} worked, {failed} failed");
        // What was here stays usable, also for a daemon that starts on a full disk.
        disk.fill(0)?;
        daemon.kill().await?;
        daemon.start().await?;
        let client = daemon.client().await?;
        assert_eq!(client.list_images().await?.len(), 1);
        disk.relieve()?;
        let pod = client.run_pod(pod("p").host_network()).await?;
        let app = pod.run(container("app").image(&base).cmd(["echo", "whole"])).await?;
        app.wait_for_exit().await?;
        assert_eq!(app.log_text()?, "whole\n");
        client.pull(&reference).await?;
        client.remove_image(&reference).await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn what_decays_is_found_and_comes_again() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let mut daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let audit = Audit::begin(Scope::of(&daemon))?;
        let (mut client, berth) = (daemon.client().await?, Berth::of(&daemon)?);
        let layer = Layer::new().with(Entry::dir("etc")).with(Entry::file("etc/story", "told"));
        let reference = registry.add("app:1", &Image::busybox()?.layer(layer).build()?)?;
        let find = |root: &Path| -> Result<PathBuf> {
            let trees = below(root, "layers", "fs")?;
            let story = trees.into_iter().map(|tree| tree.join("etc/story"));
            story.into_iter().find(|path| path.exists()).context("the story")
        };
        let root = daemon.dirs().root.clone();
        client.pull(&reference).await?;
        let good = berth.run(&["image", "scrub"]).await?;
        assert_eq!((good.code, good.stdout.as_str()), (0, "all is as it was\n"));

        // A bit, which only a scrub finds.
        fs::write(find(&root)?, "tolt")?;
        let bad = berth.run(&["image", "scrub"]).await?;
        assert_eq!(bad.code, 1, "{bad:?}");
        assert!(bad.stdout.contains("other content than it had"), "{bad:?}");
        let repaired = berth.run(&["image", "scrub", "--repair"]).await?;
        assert_eq!(repaired.code, 0, "{repaired:?}");
        assert!(client.image(&reference).await?.is_none());
        client.pull(&reference).await?;
        assert_eq!(fs::read(find(&root)?)?, b"told");

        // A directory, which is missed by who wants to use it: the kubelet pulls again then.
        fs::remove_dir_all(find(&root)?.parent().context("a directory")?)?;
        let pod = client.run_pod(pod("p").host_network()).await?;
        let app = || container("app").image(&reference).cmd(["cat", "/etc/story", "/m/etc/story"]);
        let app = || app().image_mount(image_mount(&reference, "/m"));
        let refused = pod.create(app()).await.expect_err("a layer is gone");
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
        client.pull(&reference).await?;
        let told = pod.run(app()).await?;
        told.wait_for_exit().await?;
        assert_eq!(told.log_text()?, "toldtold");
        pod.delete().await?;

        // While nobody looks: the daemon starts, and has it no more.
        daemon.kill().await?;
        let story = find(&root)?;
        fs::remove_dir_all(story.parent().context("a directory")?)?;
        daemon.start().await?;
        client = daemon.client().await?;
        assert!(client.image(&reference).await?.is_none());
        client.pull(&reference).await?;
        assert_eq!(fs::read(find(&root)?)?, b"told");
        let cleared = berth.run(&["image", "scrub", "--repair"]).await?;
        assert!(cleared.stdout.contains("set aside at a start"), "{cleared:?}");
        client.remove_image(&reference).await?;
        audit.assert_clean().await
    });
}

/// By the configuration, whatever it is called now; and what is a volume of a container is in use.
#[test]
fn what_is_pinned_or_mounted_is_not_pruned() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let config = "version = 1\n[image]\npinned = [\"*/keep:*\"]\n";
        let daemon = Setup::new(Engine::Berthd).config(config).start(&place).await?;
        let audit = Audit::begin(Scope::of(&daemon))?;
        let (client, berth) = (daemon.client().await?, Berth::of(&daemon)?);
        let layer = |name: &str| Layer::new().with(Entry::file(name, name));
        let image = |name| Image::from_scratch().layer(layer(name)).build();
        let app = registry.add("app:1", &Image::busybox()?.build()?)?;
        let volume = registry.add("volume:1", &image("volume")?)?;
        let kept = registry.add("other:1", &image("kept")?)?;
        let unused = registry.add("unused:1", &image("unused")?)?;
        for name in [&app, &volume, &kept, &unused] {
            client.pull(name).await?;
        }
        let pinned = async || -> Result<bool> {
            Ok(client.image(&kept).await?.context("the image")?.pinned)
        };
        assert!(!pinned().await?);
        let name = format!("{}/keep:1", registry.host());
        assert_eq!(berth.run(&["tag", &kept, &name]).await?.code, 0);
        assert!(pinned().await?);

        let pod = client.run_pod(pod("p").host_network()).await?;
        let spec = container("app").image(&app).image_mount(image_mount(&volume, "/v"));
        pod.create(spec).await?;
        let pruned = berth.run(&["image", "prune", "--all", "--force"]).await?;
        assert_eq!(pruned.code, 0, "{pruned:?}");
        assert!(client.image(&unused).await?.is_none());
        for name in [&app, &volume, &kept] {
            assert!(client.image(name).await?.is_some(), "{name}: {pruned:?}");
        }
        assert_ne!(berth.run(&["rmi", &volume]).await?.code, 0);
        pod.delete().await?;
        assert_eq!(berth.run(&["rmi", &volume, &app, &name]).await?.code, 0);
        assert!(!pinned().await?);
        client.remove_image(&kept).await?;
        audit.assert_clean().await
    });
}
