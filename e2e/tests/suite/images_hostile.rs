//! Layers that want out of their root, or into what is overlayfs's own: each is confined or
//! refused, and nothing outside is touched.

use std::path::Path;

use anyhow::Result;
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Code, assert_refused, container, pod};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::place;
use berth_e2e::registry::Registry;

/// Where the layers aim at, below the test's scratch directory.
const CANARY: &str = "/run/e2e/canary";
/// Far more steps up than there are.
const UP: &str = "../../../../../../../../../../../..";

fn canary() -> Vec<(String, u32, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(CANARY).into_iter().flatten().flatten();
    let mut seen: Vec<_> = entries
        .map(|entry| {
            let mode = entry.metadata().map_or(0, |metadata| metadata.mode());
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, mode, std::fs::read(entry.path()).unwrap_or_default())
        })
        .collect();
    seen.sort();
    seen
}

async fn start(place: &place::Place) -> Result<(Registry, Daemon)> {
    std::fs::create_dir_all(Path::new(CANARY).join("sub"))?;
    std::fs::write(Path::new(CANARY).join("file"), "unharmed")?;
    let registry = Registry::start(place).await?;
    let setup = Setup::new(Engine::Berthd).host(registry.host(), registry.upstream());
    Ok((registry, setup.start(place).await?))
}

fn of<const N: usize>(entries: [Entry; N]) -> Layer {
    Layer::new().with_all(entries)
}

/// Layers, and what is said when they are refused.
fn refused() -> Vec<(Layer, &'static str)> {
    let (file, climbing) = (format!("{CANARY}/file"), format!("{UP}{CANARY}/file"));
    let loops = [Entry::symlink("a", "b"), Entry::symlink("b", "a"), Entry::file("a/x", "")];
    vec![
        (of([Entry::hardlink("h", &file)]), "refuse entry \"h\": "),
        (of([Entry::hardlink("h", &climbing)]), "refuse entry \"h\": "),
        (of([Entry::symlink("s", CANARY), Entry::hardlink("h", "s/file")]), "hardlink"),
        (of([Entry::dir("d"), Entry::hardlink("h", "d")]), "hardlink"),
        (of(loops), "symbolic links"),
        (of([Entry::char_device("x", 0, 0)]), "whiteout"),
        (of([Entry::whiteout(".")]), "whiteout"),
        (of([Entry::whiteout("..")]), "whiteout"),
        (of([Entry::dir("d").xattr("trusted.overlay.opaque", "y")]), "overlayfs"),
        (of([Entry::file("f", "").xattr("user.overlay.metacopy", "y")]), "overlayfs"),
    ]
}

#[test]
fn what_cannot_be_confined_is_refused() {
    place::native(async |place| {
        let (registry, daemon) = start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let before = canary();
        for (number, (layer, words)) in refused().into_iter().enumerate() {
            let image = Image::from_scratch().layer(layer).build()?;
            let reference = registry.push(&format!("hostile{number}:1"), &image).await?;
            let refused = client.pull(&reference).await;
            anyhow::ensure!(refused.is_err(), "layer {number}, {words:?}: it is not refused");
            assert_refused(refused, Code::DataLoss, &["unpack layer sha256:", words]);
            assert!(client.list_images().await?.is_empty(), "{words}");
            assert_eq!(canary(), before, "{words}");
        }
        audit.assert_clean().await
    });
}

/// Names and links that lead to the canary, each with a file of its own; none is there before.
fn climbers() -> Layer {
    let bait = |path: &str| Entry::file(path, "inside");
    let at_canary = |name: &str| format!("{CANARY}/{name}");
    of([
        bait(&at_canary("absolute")),
        bait(&format!("{UP}{}", at_canary("climbing"))),
        bait(&format!("a/b/{UP}{}", at_canary("from-below"))),
        Entry::symlink("to-canary", CANARY),
        bait("to-canary/by-link"),
        Entry::symlink("climbs", &format!("{UP}{CANARY}")),
        bait("climbs/by-climbing-link"),
        Entry::dir("d"),
        Entry::symlink("d/up", UP),
        bait(&format!("d/up{}", at_canary("by-two"))),
        Entry::hardlink("climbs/linked", "to-canary/by-link"),
        Entry::symlink("to-procfs", "/proc/self/root"),
        bait(&format!("to-procfs{}", at_canary("by-procfs"))),
        Entry::symlink("replaced", &at_canary("file")),
        bait("replaced"),
        // All of them change what is there, if they get there.
        Entry::char_device(&format!("{UP}{}", at_canary("null")), 1, 3),
        Entry::fifo(&at_canary("fifo")),
        Entry::dir(&at_canary("sub")).mode(0o700),
        Entry::whiteout("to-canary/file"),
        Entry::opaque("climbs"),
    ])
}

#[test]
fn names_and_links_that_lead_out_end_at_the_containers_root() {
    place::native(async |place| {
        let (registry, daemon) = start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let before = canary();
        assert_eq!(before.len(), 2);
        let image = Image::busybox()?.layer(climbers()).build()?;
        let reference = registry.push("hostile:1", &image).await?;
        client.pull(&reference).await?;
        let pod = client.run_pod(pod("confined").host_network()).await?;
        let sleeper = container("inside").image(&reference).cmd(["sleep", "inf"]);
        let inside = pod.run(sleeper).await?;
        let seen = inside.shell(&format!("cd {CANARY}; ls; cat absolute linked /replaced")).await?;
        let expected = "absolute\nby-climbing-link\nby-link\nby-two\nclimbing\nfifo\n\
                        from-below\nlinked\nnull\nsub\ninsideinsideinside";
        assert_eq!(seen, expected);
        assert_eq!(canary(), before);
        pod.delete().await?;
        client.remove_image(&reference).await?;
        audit.assert_clean().await
    });
}
