//! Layers that want out, or that speak for overlayfs: each is confined as the table says, or
//! refused. Needs root, because an unpacker that runs as root is what they are aimed at.

use berth_imageservice::{Error, ImportRequest};
use tar::EntryType;

use crate::support::place::{assert_clean, rootfs};
use crate::support::tarball::Meta;
use crate::support::{Place, Tarball, TestImage, require_root, show};

/// What becomes of a layer.
pub(crate) enum Fate {
    /// It unpacks to this tree, and to nothing else.
    Tree(&'static [&'static str]),
    /// It is refused, with this in the message.
    Refused(&'static str),
    /// It is no archive, or one that readers would read differently.
    Malformed(&'static str),
}
use Fate::{Malformed, Refused, Tree};

/// Imports a layer beside a canary that must not change.
async fn import(tar: Vec<u8>) -> Result<Vec<String>, Error> {
    let place = Place::new();
    let canary = place.path().join("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("file"), "unharmed").unwrap();
    let before = outside(&place);
    let images = place.open().await;
    let image = TestImage::of([tar]);
    let archive = std::io::Cursor::new(image.docker_archive(&["test:latest"]));
    let imported = images.import(archive, ImportRequest::default()).await;
    assert_eq!(outside(&place), before, "nothing outside has changed");
    let result = match imported {
        Ok(_) => Ok(show(&rootfs(&images, "test:latest").await.lowers[0])),
        Err(error) => {
            assert!(images.list().is_empty() && images.usage().inodes == 0);
            Err(error)
        }
    };
    assert_clean(&images).await;
    result
}

/// Everything beside the images' own directory.
fn outside(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut beside: Vec<_> = entries.filter(|path| path != place.root()).collect();
    beside.sort();
    let names = beside.iter().map(|path| path.display().to_string());
    names.clone().chain(beside.iter().flat_map(|path| show(path))).collect()
}

pub(crate) async fn check(case: &str, tarball: Tarball, fate: Fate) {
    check_bytes(case, tarball.build(), fate).await;
}

pub(crate) async fn check_bytes(case: &str, tar: Vec<u8>, fate: Fate) {
    match (import(tar).await, fate) {
        (Ok(tree), Tree(expected)) => assert_eq!(tree, expected, "{case}"),
        (Err(Error::HostileLayer { reason, .. }), Refused(part)) => {
            assert!(reason.contains(part), "{case}: {reason}");
        }
        (Err(Error::CorruptLayer { reason, .. }), Malformed(part)) => {
            assert!(reason.contains(part), "{case}: {reason}");
        }
        (other, _) => panic!("{case}: {other:?}"),
    }
}

#[tokio::test]
async fn names_that_climb_stay_inside() {
    require_root();
    let new = Tarball::new;
    let at_root: &[&str] = &["x 644 \"x\""];
    for name in ["../x", "../../../../x", "/x", "//x", "a/../../x", "./x", "/../x"] {
        check(name, new().file(name, "x"), Tree(at_root)).await;
    }
    check(
        "canary",
        new().file("../../../canary/file", "x"),
        Tree(&["canary/ 755", "canary/file 644 \"x\""]),
    )
    .await;
    check("the root itself", new().dir("./").dir("/").dir("..").file("x", "x"), Tree(at_root))
        .await;
    check("a root that is a file", new().file("..", "x").file("x", "x"), Tree(at_root)).await;
}

#[tokio::test]
async fn symlinks_on_the_way_end_at_the_layers_root() {
    require_root();
    let new = Tarball::new;
    check(
        "an absolute one",
        new().symlink("out", "/canary").file("out/file", "x"),
        Tree(&["canary/ 755", "canary/file 644 \"x\"", "out -> /canary"]),
    )
    .await;
    check(
        "a climbing one",
        new().symlink("out", "../../../../canary").file("out/file", "x"),
        Tree(&["canary/ 755", "canary/file 644 \"x\"", "out -> ../../../../canary"]),
    )
    .await;
    check(
        "to the root",
        new().symlink("out", "/").file("out/etc/shadow", "x"),
        Tree(&["etc/ 755", "etc/shadow 644 \"x\"", "out -> /"]),
    )
    .await;
    check(
        "through two",
        new().dir("d").symlink("d/up", "..").symlink("a", "d/up/d").file("a/x", "x"),
        Tree(&["a -> d/up/d", "d/ 755", "d/up -> ..", "d/x 644 \"x\""]),
    )
    .await;
    check(
        "the usual kind",
        new().dir("usr").dir("usr/lib").symlink("lib", "usr/lib").file("lib/x", "x").dir("lib/y"),
        Tree(&[
            "lib -> usr/lib",
            "usr/ 755",
            "usr/lib/ 755",
            "usr/lib/x 644 \"x\"",
            "usr/lib/y/ 755",
        ]),
    )
    .await;
    check(
        "a loop",
        new().symlink("a", "b").symlink("b", "a").file("a/x", "x"),
        Refused("symbolic links"),
    )
    .await;
    check("to itself", new().symlink("a", "a").file("a/x", "x"), Refused("symbolic links")).await;
    check(
        "to procfs",
        new().symlink("p", "/proc/self/root").file("p/canary", "x"),
        Tree(&[
            "p -> /proc/self/root",
            "proc/ 755",
            "proc/self/ 755",
            "proc/self/root/ 755",
            "proc/self/root/canary 644 \"x\"",
        ]),
    )
    .await;
    check(
        "replaced after it was used",
        new()
            .dir("d")
            .file("d/x", "x")
            .symlink("s", "d")
            .file("s/y", "y")
            .dir("s")
            .file("s/z", "z"),
        Tree(&["d/ 755", "d/x 644 \"x\"", "d/y 644 \"y\"", "s/ 755 OPAQUE", "s/z 644 \"z\""]),
    )
    .await;
    check(
        "a directory replaced by one after it was used",
        new().dir("d").file("d/x", "x").symlink("d", "/canary").file("d/file", "y"),
        Tree(&["canary/ 755", "canary/file 644 \"y\"", "d -> /canary"]),
    )
    .await;
}

#[tokio::test]
async fn last_components_are_never_followed() {
    require_root();
    let meta = Meta { mode: 0o777, ..Meta::default() };
    let new = Tarball::new;
    check(
        "a file over a symlink",
        new().symlink("s", "../canary/file").file("s", "x"),
        Tree(&["s 644 \"x\""]),
    )
    .await;
    check(
        "a mode through a hard-linked symlink",
        new().symlink("s", "/canary/file").entry(EntryType::Link, "h", "s", b"", &meta),
        Tree(&["h -> /canary/file", "s -> /canary/file"]),
    )
    .await;
    check(
        "a fifo over a symlink",
        new().symlink("s", "/canary/file").with(EntryType::Fifo, "s", &meta),
        Tree(&["s FIFO"]),
    )
    .await;
    check(
        "a whiteout over a symlink",
        new().symlink("s", "/canary").file(".wh.s", ""),
        Tree(&["s -> /canary"]),
    )
    .await;
    check(
        "an opaque mark through a symlink",
        new().symlink("s", "/canary").file("s/.wh..wh..opq", ""),
        Tree(&["canary/ 755 OPAQUE", "s -> /canary"]),
    )
    .await;
}

#[tokio::test]
async fn hardlinks_do_not_leave() {
    require_root();
    let new = Tarball::new;
    for target in ["/canary/file", "../../../canary/file", "/etc/passwd", "missing", "", "/", "h"] {
        check(target, new().hardlink("h", target), Refused("hardlink")).await;
    }
    check("to a directory", new().dir("d").hardlink("h", "d"), Refused("hardlink")).await;
    check("to a whiteout", new().file(".wh.w", "").hardlink("h", "w"), Refused("hardlink")).await;
    check(
        "through a symlink that leads out",
        new().symlink("out", "../../../canary").hardlink("h", "out/file"),
        Refused("hardlink"),
    )
    .await;
    check(
        "climbing, to what is inside",
        new().file("x", "x").hardlink("h", "../../x"),
        Tree(&["h 644 \"x\"", "x 644 \"x\""]),
    )
    .await;
}

#[tokio::test]
async fn nobody_speaks_for_overlayfs() {
    require_root();
    let new = Tarball::new;
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "user.overlay.opaque",
        "trusted.overlay.",
    ] {
        let key = format!("SCHILY.xattr.{name}");
        check(name, new().pax(&[(&key, b"y")]).dir("d"), Refused("overlayfs")).await;
    }
    check(
        "encoded",
        new().pax(&[("LIBARCHIVE.xattr.trusted.overlay%2eopaque", b"eQ==")]).dir("d"),
        Refused("overlayfs"),
    )
    .await;
    check("device 0/0", new().device(EntryType::Char, "x", 0, 0), Refused("whiteout")).await;
    check(
        "device that wraps to 0/0",
        new().device(EntryType::Char, "x", 4096, 0),
        Refused("device number"),
    )
    .await;
    check("block 0/0", new().device(EntryType::Block, "x", 0, 0), Tree(&["x b 0:0"])).await;
    for name in [".wh.", ".wh..", ".wh...", ".wh./x", ".wh.d/x", "d/.wh.d/x/y"] {
        check(name, new().file(name, ""), Refused("whiteout")).await;
    }
}

#[tokio::test]
async fn attributes_have_bounds() {
    require_root();
    let new = Tarball::new;
    let huge = vec![b'x'; 65 << 10];
    check(
        "a huge xattr",
        new().pax(&[("SCHILY.xattr.user.x", &huge)]).file("f", ""),
        Refused("64 KiB"),
    )
    .await;
    check(
        "a nameless xattr",
        new().pax(&[("SCHILY.xattr.", b"x")]).file("f", ""),
        Refused("proper name"),
    )
    .await;
    let component = "c".repeat(255);
    let deep = [component.as_str(); 17].join("/");
    check(
        "a path too long",
        new().pax(&[("path", deep.as_bytes())]).file("f", ""),
        Refused("4095 bytes"),
    )
    .await;
    let name = "c".repeat(256);
    check(
        "a name too long",
        new().pax(&[("path", name.as_bytes())]).file("f", ""),
        Refused("255 bytes"),
    )
    .await;
    let half = [component.as_str(); 9].join("/");
    let grown = new()
        .pax(&[("path", half.as_bytes())])
        .dir("x")
        .pax(&[("linkpath", half.as_bytes())])
        .symlink("s", "x")
        .pax(&[("path", format!("s/{half}").as_bytes())])
        .dir("x");
    check("a path that grows through a symlink", grown, Refused("4095 bytes")).await;
    check("a NUL in a PAX name", new().pax(&[("path", b"a\0b")]).file("f", ""), Refused("NUL"))
        .await;
}
