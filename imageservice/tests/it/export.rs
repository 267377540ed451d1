//! Archives of images: every layer comes out as the very bytes that went in. Needs root.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::process::Command;

use berth_imageservice::{ArchiveFormat, Digest, Error, ExportRequest, Images, ImportRequest};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::random_layers::{any_op, tarball};
use crate::support::place::assert_clean;
use crate::support::{Place, Tarball, TestImage, require_root};

async fn exported(
    images: &Images,
    names: &[&str],
    format: ArchiveFormat,
) -> Result<Vec<u8>, Error> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let mut export = images.export(ExportRequest { images: names, format }).await?;
    let size = export.size;
    let mut archive = Vec::new();
    while let Some(chunk) = export.chunk().await? {
        archive.extend_from_slice(&chunk);
    }
    assert_eq!(archive.len() as u64, size, "as long as promised");
    Ok(archive)
}

fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut tar = tar::Archive::new(archive);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
    };
    tar.entries().unwrap().map(read).collect()
}

async fn import(images: &Images, image: &TestImage, name: &str) {
    let archive = Cursor::new(image.docker_archive(&[name]));
    let ids = images.import(archive, ImportRequest::default()).await.unwrap();
    assert_eq!(ids[0].to_string(), image.id());
}

/// What GNU tar makes of a directory with everything in it, in each of its formats.
fn archives_of_gnu_tar() -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tree");
    let script = "mkdir -p $T/sub $T/$(printf 'long%.0s' $(seq 40))/deep && cd $T && \
        echo one > one && ln one sub/two && ln -s ../one sub/link && mkfifo pipe && \
        : > empty && truncate -s 3M sparse && printf x | dd of=sparse bs=1 seek=2000000 conv=notrunc && \
        seq 100000 > big && seq 70 > sub/$(printf 'name%.0s' $(seq 50)) && chmod 4711 big";
    let made = Command::new("sh").args(["-ec", script]).env("T", &path).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let tar = |options: &[&str]| {
        let mut command = Command::new("tar");
        command.args(options).args(["--numeric-owner", "-cf", "-", "-C"]).arg(&path).arg(".");
        let made = command.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        made.stdout
    };
    let mut archives: Vec<_> = ["gnu", "pax", "oldgnu"]
        .iter()
        .map(|format| tar(&[&format!("--format={format}")]))
        .collect();
    archives.push(tar(&["--format=gnu", "--sparse"]));
    for version in ["0.0", "0.1", "1.0"] {
        archives.push(tar(&["--format=pax", "--sparse", &format!("--sparse-version={version}")]));
    }
    // What stands behind the end of an archive is a part of the layer, too.
    archives.push([tar(&["--format=gnu"]), b"and more".to_vec()].concat());
    archives
}

#[tokio::test]
async fn layers_of_every_kind_of_tar_come_out_as_they_went_in() {
    require_root();
    let place = Place::new();
    let images = place.open().await;
    let layers = archives_of_gnu_tar();
    let image = TestImage::of(layers.clone());
    import(&images, &image, "app:1").await;

    let members_of = async |format| members(&exported(&images, &["app:1"], format).await.unwrap());
    let (oci, docker) =
        (members_of(ArchiveFormat::Oci).await, members_of(ArchiveFormat::Docker).await);
    for layer in &layers {
        let digest = Digest::sha256(layer);
        assert!(oci[&format!("blobs/sha256/{}", digest.hex())] == *layer, "{digest}");
        assert!(docker[&format!("{}.tar", digest.hex())] == *layer, "{digest}");
    }
    assert_eq!(docker.len(), layers.len() + 2);
    assert_eq!(oci.len(), layers.len() + 4);
    assert_clean(&images).await;
}

#[tokio::test]
async fn what_was_exported_is_imported_under_its_name_and_id() {
    require_root();
    let place = Place::new();
    let images = place.open().await;
    let (one, two) = (TestImage::small("one"), TestImage::small("two"));
    import(&images, &one, "team/app:1").await;
    import(&images, &two, "localhost:5000/app:2").await;
    let (id_one, id_two) = (one.id(), two.id());
    for format in [ArchiveFormat::Oci, ArchiveFormat::Docker] {
        let names = ["team/app:1", "localhost:5000/app:2"];
        let archive = exported(&images, &names, format).await.unwrap();
        assert_eq!(archive, exported(&images, &names, format).await.unwrap(), "always the same");
        let nameless = exported(&images, &[&id_one], format).await.unwrap();
        images.remove(&id_one).await.unwrap();
        images.remove(&id_two).await.unwrap();

        let imported = images.import(Cursor::new(archive), ImportRequest::default()).await.unwrap();
        assert_eq!(imported.len(), 2);
        for (name, id) in [("team/app:1", &id_one), ("localhost:5000/app:2", &id_two)] {
            assert_eq!(images.find(name).unwrap().unwrap().id().to_string(), *id, "{format:?}");
        }
        images.remove(&id_one).await.unwrap();
        images.import(Cursor::new(nameless), ImportRequest::default()).await.unwrap();
        assert!(images.find(&id_one).unwrap().unwrap().repo_tags().is_empty());
        images.tag(&id_one.parse().unwrap(), &"team/app:1".parse().unwrap()).await.unwrap();
    }
    let missing = exported(&images, &["team/app:1", "no/thing:1"], ArchiveFormat::Oci).await;
    assert!(matches!(missing, Err(Error::ImageNotFound { .. })), "{missing:?}");
}

#[tokio::test]
async fn what_cannot_be_written_again_is_refused_with_the_reason() {
    require_root();
    let place = Place::new();
    let images = place.open().await;
    let twice = Tarball::new().file("etc/motd", "first").file("etc/motd", "second").build();
    import(&images, &TestImage::of([twice]), "app:twice").await;
    let refused = exported(&images, &["app:twice"], ArchiveFormat::Oci).await.unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    assert!(refused.to_string().contains("\"etc/motd\" more than once"), "{refused}");

    let layer = Tarball::new().file("file", "content").build();
    import(&images, &TestImage::of([layer]), "app:damaged").await;
    let found = images.find("app:damaged").unwrap().unwrap();
    let key = crate::support::place::key("damaging");
    let rootfs = images.prepare(found.id(), &key).await.unwrap();
    let file = rootfs.lowers[0].join("file");
    let id = found.id().clone();
    assert!(images.verify(&id).await.unwrap() > 1024);
    std::fs::write(&file, "CONTENT").unwrap();
    let damaged = images.verify(&id).await.unwrap_err();
    assert!(matches!(damaged, Error::DigestMismatch { .. }), "{damaged}");
    let refused = exported(&images, &["app:damaged"], ArchiveFormat::Docker).await.unwrap_err();
    assert!(matches!(refused, Error::DigestMismatch { .. }), "{refused}");
    std::fs::remove_file(&file).unwrap();
    let refused = exported(&images, &["app:damaged"], ArchiveFormat::Docker).await.unwrap_err();
    assert!(matches!(refused, Error::Storage { .. }), "{refused}");
}

#[test]
fn random_layers_come_out_as_they_went_in_or_not_at_all() {
    require_root();
    let runtime = Runtime::new().unwrap();
    let place = Place::new();
    let images = runtime.block_on(place.open());
    let layers = prop::collection::vec(any_op(), 0..12);
    let exact = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    runner
        .run(&layers, |ops| {
            let layer = tarball(&ops).build();
            let image = TestImage::of([layer.clone()]);
            runtime.block_on(async {
                let archive = Cursor::new(image.docker_archive(&["app:1"]));
                // A layer that is hostile is another test's.
                let imported = images.import(archive, ImportRequest::default()).await;
                if imported.is_ok() {
                    match exported(&images, &["app:1"], ArchiveFormat::Docker).await {
                        Ok(archive) => {
                            let name = format!("{}.tar", Digest::sha256(&layer).hex());
                            assert!(members(&archive)[&name] == layer);
                            exact.set(exact.get() + 1);
                        }
                        Err(error) => assert!(error.to_string().contains("more than once")),
                    }
                }
                images.remove("app:1").await.unwrap();
            });
            Ok(())
        })
        .unwrap();
    assert!(exact.get() > 30, "only {exact:?} of them could be written again");
}
