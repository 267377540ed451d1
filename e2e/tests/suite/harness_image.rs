//! Images: what is asked for is what is in them, read back by the library that cargo unpacks
//! crates with.

#![allow(clippy::unwrap_used, reason = "what cannot be read back fails the test")]

use std::collections::BTreeMap;
use std::io::Read;

use berth_e2e::image::{Compression, Entry, Format, Image, Index, Layer, archive, big, digest};
use serde_json::Value;

/// Name, type, mode and link of each entry.
fn listing(tar: &[u8]) -> Vec<(String, tar::EntryType, u32, String)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let link = entry.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let header = entry.header();
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        (text(&entry.path_bytes()), kind, mode, text(&link))
    });
    entries.collect()
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_layer_holds_what_was_put_in_also_what_is_hostile() {
    let long = format!("{}/file", "a-long-name/".repeat(20));
    let tar = Layer::new()
        .with(Entry::file("bin/su", "binary").mode(0o4755).owner(0, 42).xattr("user.k", "v"))
        .with(Entry::hardlink("bin/su2", "bin/su"))
        .with(Entry::symlink("etc/mtab", "../proc/self/mounts"))
        .with(Entry::char_device("dev/null", 1, 3))
        .with(Entry::whiteout("etc/shadow"))
        .with(Entry::whiteout("top"))
        .with(Entry::opaque("var"))
        .with(Entry::file("../../etc/cron.d/evil", ""))
        .with(Entry::file("/absolute", ""))
        .with(Entry::file(&long, "deep"))
        .tar()
        .unwrap();
    use tar::EntryType::{Char, Link, Regular, Symlink};
    let expected = [
        ("bin/su", Regular, 0o4755, ""),
        ("bin/su2", Link, 0o644, "bin/su"),
        ("etc/mtab", Symlink, 0o777, "../proc/self/mounts"),
        ("dev/null", Char, 0o600, ""),
        ("etc/.wh.shadow", Regular, 0o644, ""),
        (".wh.top", Regular, 0o644, ""),
        ("var/.wh..wh..opq", Regular, 0o644, ""),
        ("../../etc/cron.d/evil", Regular, 0o644, ""),
        ("/absolute", Regular, 0o644, ""),
        (&long, Regular, 0o644, ""),
    ];
    let expected =
        expected.map(|(path, kind, mode, link)| (path.to_owned(), kind, mode, link.to_owned()));
    assert_eq!(listing(&tar), expected);

    let mut archive = tar::Archive::new(tar.as_slice());
    let mut first = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(first.header().gid().unwrap(), 42);
    let records = first.pax_extensions().unwrap().unwrap();
    let records: BTreeMap<_, _> = records
        .map(|r| r.unwrap())
        .map(|r| (r.key().unwrap().to_owned(), r.value_bytes().to_vec()))
        .collect();
    assert_eq!(records["SCHILY.xattr.user.k"], b"v");
}

#[test]
fn every_digest_is_that_of_the_bytes_however_a_layer_is_packed() {
    type Unpack = fn(&[u8]) -> Vec<u8>;
    let unpack: [(Compression, Unpack); 3] = [
        (Compression::None, |bytes| bytes.to_vec()),
        (Compression::Gzip, |bytes| {
            let mut tar = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut tar).unwrap();
            tar
        }),
        (Compression::Zstd, |bytes| zstd::decode_all(bytes).unwrap()),
    ];
    let layer = Layer::new().with(Entry::file("hello", "world"));
    for (compression, unpack) in unpack {
        let image = Image::from_scratch().layer(layer.clone()).compression(compression);
        let image =
            image.env("A", "1").env("B", "2").user("alice").volume("/data").build().unwrap();
        let manifest = parse(&image.manifest.bytes);
        assert_eq!(manifest["config"]["digest"], image.config.digest);
        assert_eq!(manifest["layers"][0]["digest"], digest(&image.layers[0].bytes));
        assert_eq!(manifest["layers"][0]["size"], image.layers[0].bytes.len());
        let config = parse(&image.config.bytes);
        let tar = unpack(&image.layers[0].bytes);
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&tar));
        assert_eq!(tar, layer.tar().unwrap());
        assert_eq!(config["config"]["Env"], serde_json::json!(["A=1", "B=2"]));
        assert_eq!(config["config"]["User"], "alice");
        assert!(config["config"]["Volumes"]["/data"].is_object());
    }
}

#[test]
fn an_index_names_each_platform() {
    let image = |arch: &str, variant| {
        Image::from_scratch()
            .platform("linux", arch, variant)
            .format(Format::Docker)
            .build()
            .unwrap()
    };
    let images = vec![image("amd64", None), image("arm", Some("v7"))];
    let index = Index::new(Format::Docker, images).unwrap();
    let listed = parse(&index.manifest.bytes);
    assert_eq!(listed["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    assert_eq!(listed["manifests"][1]["platform"]["variant"], "v7");
    assert_eq!(listed["manifests"][0]["digest"], index.images[0].manifest.digest);
}

#[test]
fn busybox_is_a_small_system_and_the_same_every_time() {
    let [image, again] = [(); 2].map(|()| Image::busybox().unwrap().build().unwrap());
    assert_eq!(image.manifest.digest, again.manifest.digest);
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(image.layers[0].bytes.as_slice()).read_to_end(&mut tar).unwrap();
    let names: Vec<_> = listing(&tar).into_iter().map(|(name, ..)| name).collect();
    for name in ["bin/sh", "bin/busybox", "etc/passwd", "tmp", "proc", "usr/bin/env"] {
        assert!(names.iter().any(|n| n == name), "no {name}");
    }
}

#[test]
fn a_big_image_has_many_files_that_compress_like_programs() {
    let image = big(8_000_000, 0).unwrap();
    let other = big(8_000_000, 1).unwrap();
    assert_ne!(image.layers[1].digest, other.layers[1].digest);
    let layers = &image.layers[1..];
    assert_eq!(layers.len(), 4);
    let packed: usize = layers.iter().map(|layer| layer.bytes.len()).sum();
    assert!((3_000_000..6_000_000).contains(&packed), "{packed} bytes");
}

#[test]
fn archives_hold_every_blob() {
    let image = Image::busybox().unwrap().build().unwrap();
    let oci = archive::oci("localhost/app:1", &image).unwrap();
    let names: Vec<_> = listing(&oci).into_iter().map(|(name, ..)| name).collect();
    for blob in image.blobs() {
        assert!(names.contains(&format!("blobs/sha256/{}", blob.hex())), "{}", blob.digest);
    }
    let docker = archive::docker("localhost/app:1", &image).unwrap();
    assert_eq!(listing(&docker)[0].0, "manifest.json");
}
