//! Archives that are broken, or that readers would read in different ways. Needs root, like the
//! other hostile layers.

use tar::EntryType;

use crate::hostile_layers::Fate::{Malformed, Tree};
use crate::hostile_layers::{check, check_bytes};
use crate::support::tarball::{Meta, header};
use crate::support::{Tarball, require_root};

#[tokio::test]
async fn archives_that_can_be_read_two_ways() {
    require_root();
    let new = Tarball::new;
    let meta = Meta::default();
    let smuggled = header(EntryType::Regular, "smuggled", "", 0, &meta);
    // A reader that takes the header's size of 512 skips what one that takes PAX's 0 reads.
    check(
        "the size of PAX counts",
        new()
            .pax(&[("size", b"0")])
            .raw(header(EntryType::Regular, "f", "", 512, &meta).as_bytes())
            .raw(smuggled.as_bytes()),
        Tree(&["f 644 \"\"", "smuggled 644 \"\""]),
    )
    .await;
    check(
        "a size on a directory is none",
        new()
            .raw(header(EntryType::Directory, "d", "", 512, &meta).as_bytes())
            .raw(smuggled.as_bytes()),
        Tree(&["d/ 644", "smuggled 644 \"\""]),
    )
    .await;
    let long = |name: &[u8]| {
        let long = header(EntryType::GNULongName, "././@LongLink", "", name.len() as u64, &meta);
        [long.as_bytes(), name, &vec![0; 512 - name.len()][..]].concat()
    };
    check(
        "two names",
        new().raw(&long(b"gnu\0")).pax(&[("path", b"pax")]).file("f", ""),
        Malformed("two different names"),
    )
    .await;
    check(
        "two long names",
        new().raw(&long(b"a\0")).raw(&long(b"b\0")).file("f", ""),
        Malformed("two extension headers"),
    )
    .await;
    check(
        "an agreeing pair",
        new().raw(&long(b"same\0")).pax(&[("path", b"same")]).file("f", "x"),
        Tree(&["same 644 \"x\""]),
    )
    .await;
    check(
        "an extension at the end",
        new().pax(&[("path", b"x")]),
        Malformed("ends after an extension"),
    )
    .await;
    check(
        "global headers say nothing",
        new().entry(EntryType::XGlobalHeader, "g", "", b"12 path=evil\n", &meta).file("f", ""),
        Tree(&["f 644 \"\""]),
    )
    .await;
    check(
        "an unknown type",
        new().with(EntryType::new(b'Z'), "z", &meta),
        Malformed("unknown type"),
    )
    .await;
    let mut giant = header(EntryType::XHeader, "x", "", 2 << 20, &meta);
    check("an extension of megabytes", new().raw(giant.as_bytes()), Malformed("megabyte")).await;
    giant.set_size(7);
    check("a wrong checksum", new().raw(giant.as_bytes()), Malformed("checksum")).await;
}

#[tokio::test]
async fn archives_that_are_none() {
    require_root();
    let whole = Tarball::new().file("f", "x").build();
    check_bytes("empty", Vec::new(), Tree(&[])).await;
    check_bytes("only zeros", vec![0; 1024], Tree(&[])).await;
    check_bytes("without its end", whole[..1024].to_vec(), Tree(&["f 644 \"x\""])).await;
    check_bytes("without its padding", whole[..513].to_vec(), Tree(&["f 644 \"x\""])).await;
    let longer = Tarball::new().file("f", "xy").build();
    check_bytes("cut in the content", longer[..513].to_vec(), Malformed("cut short")).await;
    check_bytes("cut in a header", whole[..100].to_vec(), Malformed("cut short")).await;
    check_bytes("text", b"no tar".repeat(100), Malformed("malformed")).await;
    let mut negative = header(EntryType::Regular, "f", "", 0, &Meta::default());
    negative.as_old_mut().size = [0xff; 12];
    negative.set_cksum();
    check_bytes("a negative size", negative.as_bytes().to_vec(), Malformed("negative size")).await;
    let owner = Meta { uid: 1 << 33, ..Meta::default() };
    check(
        "an owner out of range",
        Tarball::new().with(EntryType::Regular, "f", &owner),
        Malformed("id out of range"),
    )
    .await;
    check(
        "the owner -1",
        Tarball::new().pax(&[("uid", b"4294967295")]).file("f", ""),
        Malformed("id out of range"),
    )
    .await;
    for map in ["0,10,5,10", "0,1", "5,1,0,1", "0,18446744073709551615,1,1", "0", "-1,1", "a"] {
        let sparse = Tarball::new()
            .pax(&[("GNU.sparse.size", b"20"), ("GNU.sparse.map", map.as_bytes())])
            .file("f", "12345678901234567890");
        check(map, sparse, Malformed("malformed")).await;
    }
}
