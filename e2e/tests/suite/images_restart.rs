//! berthd ends, one way or the other, in the middle of a pull, or while images are used.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Client, container, pod};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Compression, Entry, Image, Layer};
use berth_e2e::place::{self, Place};
use berth_e2e::registry::scripted::{Act, Scripted};
use berth_e2e::trace::Trace;
use berth_e2e::wait;
use tokio_util::task::TaskTracker;

/// A registry from which the topmost layer of `app:1` never comes whole.
struct Stalled {
    registry: Scripted,
    image: Image,
    reference: String,
}

impl Stalled {
    async fn new() -> Result<Self> {
        let registry = Scripted::start().await?;
        let bytes: Vec<u8> =
            (0..200_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let image = Image::busybox()?.layer(Layer::new().with(Entry::file("story", bytes)));
        let image = image.build()?;
        let reference = registry.add("app:1", &image)?;
        registry.on(&image.layers[1].digest, Act::Stall(100_000));
        Ok(Self { registry, image, reference })
    }

    /// Begins a pull, and returns when it is in the middle of it.
    async fn pull(&self, client: &Client) -> Result<tokio::task::JoinHandle<bool>> {
        let (client, reference) = (client.clone(), self.reference.clone());
        let pull = TaskTracker::new().spawn(async move { client.pull(&reference).await.is_ok() });
        wait::until("the layers are under way", Duration::from_secs(10), async || {
            let asked = |layer| self.registry.gets(layer) > 0;
            Ok(self.image.layers.iter().all(|layer| asked(&layer.digest)).then_some(()))
        })
        .await?;
        Ok(pull)
    }

    /// The pull that now succeeds, and a container of what it brought.
    async fn succeeds(&self, client: &Client) -> Result<()> {
        self.registry.be_honest();
        assert_eq!(client.pull(&self.reference).await?, self.image.config.digest);
        let pod = client.run_pod(pod("reader").host_network()).await?;
        let size = container("size").image(&self.reference).cmd(["stat", "-c", "%s", "/story"]);
        let size = pod.run(size).await?;
        size.wait_for_exit().await?;
        assert_eq!(size.log_text()?, "800000\n");
        pod.delete().await?;
        Ok(client.remove_image(&self.reference).await?)
    }
}

async fn start(place: &Place) -> Result<(Daemon, Audit)> {
    let daemon = Setup::new(Engine::Berthd).start(place).await?;
    let audit = Audit::begin(Scope::of(&daemon))?;
    Ok((daemon, audit))
}

#[test]
fn a_kill_in_the_middle_of_a_pull_leaves_nothing() {
    place::native(async |place| {
        let stalled = Stalled::new().await?;
        let (mut daemon, audit) = start(&place).await?;
        for _ in 0..2 {
            let pull = stalled.pull(&daemon.client().await?).await?;
            daemon.kill().await?;
            assert!(!pull.await?);
            daemon.start().await?;
            assert!(daemon.client().await?.list_images().await?.is_empty());
            audit.assert_clean().await?;
        }
        stalled.succeeds(&daemon.client().await?).await?;
        audit.assert_clean().await
    });
}

/// What came of a large layer by a slow network is not lost with the daemon.
#[test]
fn a_large_layer_goes_on_after_a_kill() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let mut noise = 1_u64;
        let words = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 32).to_le_bytes()
        });
        let bytes: Vec<u8> = words.take(3 << 20).flatten().collect();
        let layer = Layer::new().with(Entry::file("noise", bytes));
        let image = Image::from_scratch().layer(layer).compression(Compression::None).build()?;
        let (reference, layer) = (registry.add("app:1", &image)?, &image.layers[0]);
        // More than a minute for all of it.
        registry.on(&layer.digest, Act::Slow(layer.bytes.len() / 70));
        let (mut daemon, audit) = start(&place).await?;
        let client = daemon.client().await?;
        let pulled = reference.clone();
        let pull = TaskTracker::new().spawn(async move { client.pull(&pulled).await.is_ok() });
        let kept = daemon.dirs().root.join(format!("images/partial/sha256-{}", layer.hex()));
        wait::until("some of it is kept", Duration::from_secs(60), async || {
            Ok(kept.metadata().is_ok_and(|file| file.len() > 5 << 20).then_some(()))
        })
        .await?;
        daemon.kill().await?;
        assert!(!pull.await?);

        registry.be_honest();
        let before = registry.seen().len();
        daemon.start().await?;
        let client = daemon.client().await?;
        assert!(client.list_images().await?.is_empty());
        client.pull(&reference).await?;
        let asked = registry.seen().split_off(before);
        let asked: Vec<_> = asked.iter().filter(|it| it.path.contains(&layer.digest)).collect();
        let from = asked[0].header("range").and_then(|it| it[6..].split('-').next()?.parse().ok());
        assert!(from.is_some_and(|from: usize| from > 5 << 20), "{asked:?}");
        assert!(!kept.exists());
        client.remove_image(&reference).await?;
        audit.assert_clean().await
    });
}

/// A pull that does not come on holds nobody up: neither who ends the daemon nor its next start.
#[test]
fn a_daemon_that_is_ended_gives_its_pulls_up() {
    place::native(async |place| {
        let stalled = Stalled::new().await?;
        let hasty = "version = 1\n[timeouts]\nshutdown = \"500ms\"\n";
        let mut daemon = Setup::new(Engine::Berthd).config(hasty).start(&place).await?;
        let audit = Audit::begin(Scope::of(&daemon))?;
        let pull = stalled.pull(&daemon.client().await?).await?;
        let begun = Instant::now();
        assert!(daemon.terminate().await?.success());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(!pull.await?);
        daemon.start().await?;
        assert!(daemon.client().await?.list_images().await?.is_empty());
        audit.assert_clean().await?;
        stalled.succeeds(&daemon.client().await?).await?;
        audit.assert_clean().await
    });
}

#[test]
fn images_are_the_same_after_a_kill() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let (mut daemon, audit) = start(&place).await?;
        let client = daemon.client().await?;
        let image = Image::busybox()?.user("alice").build()?;
        let names = [registry.add("app:1", &image)?, registry.add("other:2", &image)?];
        for name in &names {
            client.pull(name).await?;
        }
        let pod = client.run_pod(pod("user").host_network()).await?;
        let user = pod.run(container("user").image(&names[0]).cmd(["sleep", "inf"])).await?;
        let (before, asked) = (client.list_images().await?, registry.gets("/blobs/"));
        daemon.kill().await?;
        daemon.start().await?;

        let client = daemon.client().await?;
        assert_eq!(client.list_images().await?, before);
        client.pull(&names[0]).await?;
        assert_eq!(registry.gets("/blobs/"), asked, "nothing is fetched again");
        client.remove_image(&names[0]).await?;
        let user = client.container(&user.id);
        assert_eq!(user.shell("cat /etc/passwd | wc -l").await?, "2\n", "its layers stay");
        client.pod(&pod.id).delete().await?;
        audit.assert_clean().await
    });
}

/// What a power cut would leave cannot be seen by a kill: the order of the calls can. Bytes are
/// on disk before the name by which they are found, and each directory before what relies on it.
#[test]
fn an_image_is_on_disk_before_it_is_seen() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let layer = Layer::new().with(Entry::file("story", "told"));
        let image = Image::from_scratch().layer(layer).build()?;
        let reference = registry.add("app:1", &image)?;
        let (mut daemon, audit) = start(&place).await?;
        let client = daemon.client().await?;
        let pid = daemon.process()?.pid().map_or(0, |pid| pid.as_raw_nonzero().get());
        let calls = "syncfs,fsync,fdatasync,rename,renameat,renameat2";
        let trace = Trace::begin(&place, pid, calls, None).await?;
        client.pull(&reference).await?;

        let calls = trace.calls()?;
        let first = calls.iter().position(|call| call.text.starts_with("syncfs("));
        let publication = &calls[first.context("the layers are synced")?..];
        let steps = publication.iter().filter(|call| call.thread == publication[0].thread);
        let steps: Vec<_> = steps.map(|call| step(&call.text)).collect();
        let (layers, records) = (["syncfs", "layers", "fsync"], ["images", "fsync"]);
        // Of the image and of its two names, which are hidden until they are renamed.
        let hidden = ["fsync"; 3];
        let names = ["names", "names", "fsync"];
        let expected = [&layers[..], &hidden, &records, &names].concat();
        assert_eq!(steps, expected, "{calls:#?}");
        trace.end().await?;
        client.remove_image(&reference).await?;
        audit.assert_clean().await
    });
}

/// The name of a call; of a rename, the directory that it leads to.
fn step(call: &str) -> &str {
    match call.split_once('(') {
        Some((name, _)) if !name.starts_with("rename") => name,
        _ => call.rsplit('/').nth(1).unwrap_or(call),
    }
}
