//! What layers of honest builders turn into. Needs root: owners, devices, overlay marks.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use berth_imageservice::{Images, ImportRequest};
use tar::EntryType;

use crate::support::place::{assert_clean, rootfs};
use crate::support::tarball::{Meta, header};
use crate::support::tree::xattr;
use crate::support::{Place, Tarball, TestImage, require_root, show, show_stack};

/// Imports layers, bottom first, and tells the directories, top first.
pub(crate) async fn stack(images: &Images, layers: Vec<Tarball>) -> Vec<std::path::PathBuf> {
    let image = TestImage::of(layers.into_iter().map(Tarball::build));
    let archive = std::io::Cursor::new(image.docker_archive(&["test:latest"]));
    images.import(archive, ImportRequest::default()).await.unwrap();
    rootfs(images, "test:latest").await.lowers
}

#[tokio::test]
async fn every_kind_of_file() {
    require_root();
    let owned = Meta { mode: 0o4751, uid: 1000, gid: 3_000_000_000, mtime: 1 };
    let sticky = Meta { mode: 0o1777, ..Meta::default() };
    let layer = Tarball::new()
        .with(EntryType::Directory, "tmp", &sticky)
        .entry(EntryType::Regular, "suid", "", b"x", &owned)
        .file("empty", "")
        .symlink("dangling", "/no/where")
        .entry(EntryType::Symlink, "owned-link", "suid", b"", &owned)
        .hardlink("linked-link", "dangling")
        .entry(EntryType::Link, "linked", "suid", b"", &owned)
        .device(EntryType::Char, "null", 1, 3)
        .device(EntryType::Block, "disk", 8, 1)
        .with(EntryType::Fifo, "pipe", &Meta::default())
        .entry(EntryType::Continuous, "contiguous", "", b"c", &Meta::default());
    let place = Place::new();
    let images = place.open().await;
    let lowers = stack(&images, vec![layer]).await;
    assert_eq!(
        show(&lowers[0]),
        [
            "contiguous 644 \"c\"",
            "dangling -> /no/where",
            "disk b 8:1",
            "empty 644 \"\"",
            "linked 4751 \"x\" 1000:3000000000",
            "linked-link -> /no/where",
            "null c 1:3",
            "owned-link -> suid 1000:3000000000",
            "pipe FIFO",
            "suid 4751 \"x\" 1000:3000000000",
            "tmp/ 1777",
        ]
    );
}

#[tokio::test]
async fn attributes_are_kept_to_the_nanosecond() {
    require_root();
    let capability: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\n\0\0\0";
    let layer = Tarball::new()
        .pax(&[
            ("mtime", b"1234567890.123456789"),
            ("SCHILY.xattr.security.capability", &capability[..20]),
            ("SCHILY.xattr.user.note", b"line\nline=1"),
        ])
        .entry(
            EntryType::Regular,
            "file",
            "",
            b"x",
            &Meta { mode: 0o755, uid: 7, ..Meta::default() },
        )
        .pax(&[("LIBARCHIVE.xattr.user.b%20c", b"AQID"), ("uid", b"4000000000")])
        .dir("dir")
        .file("dir/late", "changes the directory's time")
        .pax(&[("SCHILY.xattr.user.impossible", b"on a symlink")])
        .symlink("link", "file");
    let place = Place::new();
    let images = place.open().await;
    let lower = stack(&images, vec![layer]).await.remove(0);
    let file = lower.join("file").metadata().unwrap();
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!((file.uid(), file.mode() & 0o7777), (7, 0o755));
    assert_eq!(xattr(&lower.join("file"), "security.capability").unwrap(), capability);
    assert_eq!(xattr(&lower.join("file"), "user.note").unwrap(), b"line\nline=1");
    let dir = lower.join("dir").metadata().unwrap();
    assert_eq!((dir.uid(), dir.mtime()), (4_000_000_000, 1_700_000_000));
    assert_eq!(xattr(&lower.join("dir"), "user.b c").unwrap(), [1, 2, 3]);
    assert_eq!(lower.join("link").symlink_metadata().unwrap().mtime(), 1_700_000_000);
}

#[tokio::test]
async fn sparse_files_of_all_formats_stay_sparse() {
    let hole = 1 << 30;
    let map = format!("2\n0\n1\n{hole}\n1\n");
    let padded = [map.as_bytes(), &vec![0; 512 - map.len()][..], b"ab"].concat();
    let size = (hole + 2).to_string();
    let place = Place::new();
    let old_gnu = {
        let mut header = header(EntryType::GNUSparse, "gnu", "", 513, &Meta::default());
        let gnu = header.as_gnu_mut().unwrap();
        for (slot, offset, length) in [(0, 0, 512), (1, hole, 1)] {
            gnu.sparse[slot].set_offset(offset);
            gnu.sparse[slot].set_length(length);
        }
        gnu.set_real_size(hole + 2);
        header.set_cksum();
        [header.as_bytes(), &[b'a'; 512][..], b"b", &[0; 511]].concat()
    };
    let layer = Tarball::new()
        .raw(&old_gnu)
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"pax10"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ])
        .entry(EntryType::Regular, "GNUSparseFile.0/pax10", "", &padded, &Meta::default())
        .pax(&[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.map", format!("0,1,{hole},1").as_bytes()),
        ])
        .entry(EntryType::Regular, "pax01", "", b"ab", &Meta::default())
        .pax(&[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"1"),
            ("GNU.sparse.offset", hole.to_string().as_bytes()),
            ("GNU.sparse.numbytes", b"1"),
        ])
        .entry(EntryType::Regular, "pax00", "", b"ab", &Meta::default())
        .file("after", "in step");
    let images = place.open().await;
    let lower = stack(&images, vec![layer]).await.remove(0);
    for name in ["gnu", "pax10", "pax01", "pax00"] {
        let meta = lower.join(name).metadata().unwrap();
        assert_eq!(meta.len(), hole + 2, "{name}");
        assert!(meta.blocks() < 100, "{name} takes {} blocks", meta.blocks());
        let mut byte = [0; 2];
        let file = std::fs::File::open(lower.join(name)).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, hole).unwrap();
        assert_eq!(byte, *b"b\0", "{name}");
    }
    assert_eq!(std::fs::read_to_string(lower.join("after")).unwrap(), "in step");
}

#[tokio::test]
async fn whiteouts_become_overlays() {
    require_root();
    let layers = vec![
        Tarball::new()
            .file("gone", "")
            .dir("kept")
            .file("kept/below", "")
            .dir("cut")
            .file("cut/below", ""),
        Tarball::new()
            .file(".wh.gone", "")
            .dir("cut")
            .file("cut/new", "n")
            .file("cut/.wh..wh..opq", "")
            .file(".wh..wh.plnk", "of AUFS")
            .dir("kept")
            .file("kept/.wh.below", ""),
    ];
    let place = Place::new();
    let images = place.open().await;
    let lowers = stack(&images, layers).await;
    assert_eq!(
        show(&lowers[0]),
        [
            "cut/ 755 OPAQUE",
            "cut/new 644 \"n\"",
            "gone WHITEOUT",
            "kept/ 755",
            "kept/below WHITEOUT"
        ]
    );
}

#[tokio::test]
async fn a_whiteout_hides_lower_layers_and_not_its_own() {
    require_root();
    let layer = Tarball::new()
        .dir("a")
        .file("a/own", "own")
        .file(".wh.a", "")
        .file(".wh.b", "")
        .dir("b")
        .file("b/own", "own")
        .file(".wh.c", "")
        .file("c", "own")
        .file(".wh.d", "")
        .file("d/implied", "own")
        .file("e", "a file first")
        .dir("e");
    let place = Place::new();
    let images = place.open().await;
    let lowers = stack(&images, vec![Tarball::new().file("x", ""), layer]).await;
    assert_eq!(
        show(&lowers[0]),
        [
            "a/ 755 OPAQUE",
            "a/own 644 \"own\"",
            "b/ 755 OPAQUE",
            "b/own 644 \"own\"",
            "c 644 \"own\"",
            "d/ 755 OPAQUE",
            "d/implied 644 \"own\"",
            "e/ 755 OPAQUE",
        ]
    );
}

#[tokio::test]
async fn directories_that_no_entry_describes_look_as_below() {
    require_root();
    let sticky = Meta { mode: 0o1777, uid: 5, gid: 6, mtime: 77 };
    let base = Tarball::new()
        .pax(&[("SCHILY.xattr.user.mark", b"here")])
        .with(EntryType::Directory, "tmp", &sticky)
        .dir("plain")
        .file("file", "");
    let top = || Tarball::new().file("tmp/new", "n").file("other/new", "n").file("file/new", "n");
    let place = Place::new();
    let images = place.open().await;
    let lowers = stack(&images, vec![base, top()]).await;
    assert_eq!(
        show(&lowers[0]),
        [
            "file/ 755",
            "file/new 644 \"n\"",
            "other/ 755",
            "other/new 644 \"n\"",
            "tmp/ 1777 5:6",
            "tmp/new 644 \"n\"",
        ]
    );
    let tmp = lowers[0].join("tmp");
    assert_eq!(xattr(&tmp, "user.mark").unwrap(), b"here");
    assert_eq!(tmp.metadata().unwrap().mtime(), 77);

    // The same layer above another one is another directory.
    images.release(&crate::support::place::key("rootfs")).await.unwrap();
    let elsewhere = stack(&images, vec![Tarball::new().dir("tmp"), top()]).await;
    assert_eq!(show(&elsewhere[0])[4], "tmp/ 755");
    assert_eq!(show(&lowers[0])[4], "tmp/ 1777 5:6");
    assert_clean(&images).await;
}

#[tokio::test]
async fn hardlinks_to_lower_layers_are_copies_linked_to_each_other() {
    require_root();
    let owned = Meta { mode: 0o4711, uid: 9, gid: 9, mtime: 99 };
    let base = Tarball::new()
        .dir("usr")
        .pax(&[("SCHILY.xattr.user.mark", b"here")])
        .entry(EntryType::Regular, "usr/tool", "", b"tool", &owned)
        .symlink("usr/alias", "tool")
        .symlink("bin", "usr");
    let top = Tarball::new()
        .dir("opt")
        .hardlink("opt/one", "usr/tool")
        .hardlink("opt/two", "/bin/tool")
        .hardlink("opt/three", "usr/tool")
        .hardlink("opt/alias", "usr/alias")
        .hardlink("early", "late")
        .file("late", "of this layer");
    let place = Place::new();
    let images = place.open().await;
    let lowers = stack(&images, vec![base, top]).await;
    assert_eq!(
        show(&lowers[0]),
        [
            "early 644 \"of this layer\"",
            "late 644 \"of this layer\"",
            "opt/ 755",
            "opt/alias -> tool",
            "opt/one 4711 \"tool\" 9:9",
            "opt/three 4711 \"tool\" 9:9",
            "opt/two 4711 \"tool\" 9:9",
        ]
    );
    let inode = |name: &str| lowers[0].join(name).symlink_metadata().unwrap().ino();
    assert_eq!(inode("opt/one"), inode("opt/three"));
    assert_eq!(inode("early"), inode("late"));
    assert_eq!(xattr(&lowers[0].join("opt/one"), "user.mark").unwrap(), b"here");
    assert_eq!(lowers[0].join("opt/one").metadata().unwrap().mtime(), 99);
}

#[tokio::test]
async fn the_last_entry_of_a_name_wins() {
    require_root();
    let layer = Tarball::new()
        .file("a", "first")
        .file("a", "second")
        .dir("b")
        .file("b/x", "x")
        .file("b", "a file now")
        .symlink("c", "a")
        .file("c", "not through the link")
        .dir("d")
        .with(EntryType::Directory, "d", &Meta { mode: 0o700, ..Meta::default() })
        .file("e", "e")
        .hardlink("f", "e")
        .file("e", "new e")
        .file("g", "g")
        .file("g/h", "the parent gives way");
    let place = Place::new();
    let images = place.open().await;
    let lowers = stack(&images, vec![layer]).await;
    assert_eq!(
        show(&lowers[0]),
        [
            "a 644 \"second\"",
            "b 644 \"a file now\"",
            "c 644 \"not through the link\"",
            "d/ 700",
            "e 644 \"new e\"",
            "f 644 \"e\"",
            "g/ 755 OPAQUE",
            "g/h 644 \"the parent gives way\"",
        ]
    );
}

#[tokio::test]
async fn names_of_any_bytes_and_lengths() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let mut tarball = tar::Builder::new(Vec::new());
    let mut header = header(EntryType::Regular, "", "", 1, &Meta::default());
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe\n");
    for path in [Path::new(&long), Path::new(bytes)] {
        tarball.append_data(&mut header, path, &b"x"[..]).unwrap();
    }
    let image = TestImage::of([tarball.into_inner().unwrap()]);
    let place = Place::new();
    let images = place.open().await;
    let archive = std::io::Cursor::new(image.docker_archive(&["test:latest"]));
    images.import(archive, ImportRequest::default()).await.unwrap();
    let lower = rootfs(&images, "test:latest").await.lowers.remove(0);
    assert!(lower.join(&long).is_file() && lower.join(bytes).is_file());
}

#[tokio::test]
async fn lower_layers_show_through_as_overlayfs_would_show_them() {
    // The crate never mounts; what it resolves itself is seen in the users of an image.
    require_root();
    let place = Place::new();
    let images = place.open().await;
    let passwd = |content: &str| Tarball::new().dir("etc").file("etc/passwd", content);
    for (layers, expected) in [
        (vec![passwd("a:x:1:1::/:\n"), passwd("a:x:2:2::/:\n")], Some(2)),
        (vec![passwd("a:x:1:1::/:\n"), Tarball::new().dir("etc")], Some(1)),
        (vec![passwd("a:x:1:1::/:\n"), Tarball::new().dir("etc").file("etc/.wh.passwd", "")], None),
        (
            vec![passwd("a:x:1:1::/:\n"), Tarball::new().dir("etc").file("etc/.wh..wh..opq", "")],
            None,
        ),
        (vec![passwd("a:x:1:1::/:\n"), Tarball::new().file("etc", "a file")], None),
        (
            vec![
                passwd("a:x:1:1::/:\n"),
                Tarball::new().file("etc", "a file"),
                Tarball::new().dir("etc"),
            ],
            None,
        ),
    ] {
        let shown = stack(&images, layers).await;
        let image = images.find("test:latest").unwrap().unwrap();
        let uid = image.resolve_user("a").ok().map(|identity| identity.uid);
        assert_eq!(uid, expected, "{:?}", show_stack(&shown));
        images.release(&crate::support::place::key("rootfs")).await.unwrap();
    }
}
