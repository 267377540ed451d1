//! Archives in both formats, whole and broken.

use std::io::Cursor;

use berth_imageservice::{Digest, Error, ImageId, Images, ImportRequest};
use serde_json::{Value, json};

use crate::support::image::{OCI_INDEX, OCI_MANIFEST, Packing, TestLayer};
use crate::support::place::{assert_clean, rootfs};
use crate::support::{Place, Tarball, TestImage, show};

/// A tar archive of these files.
fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// An OCI layout of an image, with an index of these entries.
fn layout(image: &TestImage, entries: Value) -> Vec<u8> {
    let index = json!({ "schemaVersion": 2, "manifests": entries }).to_string().into_bytes();
    let mut files = vec![("index.json".to_owned(), index)];
    for blob in image.blobs().into_iter().chain([image.manifest()]) {
        files.push((format!("blobs/sha256/{}", Digest::sha256(&blob).hex()), blob));
    }
    files.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    let files: Vec<_> =
        files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
    archive(&files)
}

fn entry(image: &TestImage, annotations: Value) -> Value {
    let (digest, size) = (image.digest(), image.manifest().len());
    json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": size, "annotations": annotations })
}

async fn import(images: &Images, bytes: Vec<u8>) -> Result<Vec<ImageId>, Error> {
    images.import(Cursor::new(bytes), ImportRequest::default()).await
}

#[tokio::test]
async fn an_oci_layout_is_imported_under_its_names() {
    let image = TestImage::small("x");
    let place = Place::new();
    for annotations in [
        json!({ "org.opencontainers.image.ref.name": "busybox:1.36" }),
        json!({ "org.opencontainers.image.ref.name": "1.36", "io.containerd.image.name": "docker.io/library/busybox:1.36" }),
    ] {
        let images = place.open().await;
        let ids =
            import(&images, layout(&image, json!([entry(&image, annotations)]))).await.unwrap();
        assert_eq!(ids[0].to_string(), image.id());
        let found = images.find("busybox:1.36").unwrap().unwrap();
        assert_eq!(found.repo_digests(), [format!("docker.io/library/busybox@{}", image.digest())]);
        images.remove(&image.id()).await.unwrap();
        assert_clean(&images).await;
        images.shutdown().await;
    }
}

#[tokio::test]
async fn a_docker_archive_is_imported_compressed_or_not() {
    let image = TestImage::of_layers(vec![
        TestLayer::new(&Tarball::new().file("base", "b").build(), Packing::Plain),
        TestLayer::new(&Tarball::new().file("top", "t").build(), Packing::Plain),
    ]);
    let plain = image.docker_archive(&["app:v1", "registry.test/app:v2"]);
    let gzip = TestLayer::new(&plain, Packing::Gzip).packed;
    let zstd = TestLayer::new(&plain, Packing::Zstd).packed;
    for bytes in [plain, gzip, zstd] {
        let place = Place::new();
        let images = place.open().await;
        let ids = import(&images, bytes).await.unwrap();
        assert_eq!(ids, [image.id().parse::<ImageId>().unwrap()]);
        let found = images.find("app:v1").unwrap().unwrap();
        assert_eq!(found.repo_tags(), ["docker.io/library/app:v1", "registry.test/app:v2"]);
        assert!(found.repo_digests().is_empty(), "its manifest was made up");
        assert_eq!(show(&rootfs(&images, "app:v1").await.lowers[0]), ["top 644 \"t\""]);
        assert_clean(&images).await;
    }
}

#[tokio::test]
async fn several_images_share_what_they_have_in_common() {
    let base = Tarball::new().file("base", "b").build();
    let one = TestImage::of([base.clone()]);
    let two = TestImage::of([base, Tarball::new().file("two", "2").build()]);
    let manifest = json!([
        { "Config": "1.json", "RepoTags": ["one"], "Layers": ["base.tar"] },
        { "Config": "2.json", "RepoTags": null, "Layers": ["base.tar", "two.tar"] },
    ]);
    let bytes = archive(&[
        ("1.json", one.config_bytes()),
        ("2.json", two.config_bytes()),
        ("base.tar", one.layers[0].packed.clone()),
        ("two.tar", two.layers[1].packed.clone()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ]);
    let place = Place::new();
    let images = place.open().await;
    let names = ImportRequest { names: vec!["three".parse().unwrap()], pinned: true };
    let error = images.import(Cursor::new(bytes.clone()), names).await.unwrap_err();
    assert!(matches!(error, Error::InvalidArchive { .. }), "{error}");
    let ids = import(&images, bytes).await.unwrap();
    assert_eq!(ids.len(), 2);
    assert!(images.find(&two.id()).unwrap().unwrap().repo_tags().is_empty());
    assert_eq!(std::fs::read_dir(place.root().join("layers")).unwrap().count(), 1 + 2);
}

#[tokio::test]
async fn the_caller_may_name_the_image() {
    let image = TestImage::small("x");
    let place = Place::new();
    let images = place.open().await;
    let request =
        ImportRequest { names: vec!["given.test/name:v9".parse().unwrap()], pinned: true };
    let bytes = image.docker_archive(&["in:archive"]);
    images.import(Cursor::new(bytes), request).await.unwrap();
    let found = images.find("given.test/name:v9").unwrap().unwrap();
    assert_eq!(found.repo_tags(), ["given.test/name:v9"]);
    assert!(found.pinned());
}

#[tokio::test]
async fn the_image_of_this_platform_is_taken() {
    let image = TestImage::small("x");
    let host = berth_imageservice::Platform::host();
    let on = |architecture: &str| {
        let mut value = entry(&image, json!({ "io.containerd.image.name": "app:v1" }));
        value["platform"] = json!({ "os": "linux", "architecture": architecture });
        value
    };
    let place = Place::new();
    let images = place.open().await;
    let both = layout(&image, json!([on("mips"), on(&host.architecture)]));
    assert_eq!(import(&images, both).await.unwrap().len(), 1);
    let error = import(&images, layout(&image, json!([on("mips")]))).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn links_between_members_are_followed_inside_the_archive() {
    let image = TestImage::of_layers(vec![TestLayer::new(
        &Tarball::new().file("x", "x").build(),
        Packing::Plain,
    )]);
    let saved = |target: &str| {
        let manifest =
            json!([{ "Config": "c.json", "RepoTags": ["a:b"], "Layers": ["2/layer.tar"] }]);
        let layer = String::from_utf8(image.layers[0].packed.clone()).unwrap();
        Tarball::new()
            .file("c.json", &String::from_utf8(image.config_bytes()).unwrap())
            .file("1/layer.tar", &layer)
            .symlink("2/layer.tar", target)
            .file("manifest.json", &manifest.to_string())
            .build()
    };
    let place = Place::new();
    let images = place.open().await;
    import(&images, saved("../1/layer.tar")).await.unwrap();
    images.remove("a:b").await.unwrap();
    for target in ["/etc/passwd", "../2/layer.tar", "../../../etc/passwd"] {
        let error = import(&images, saved(target)).await.unwrap_err();
        assert!(matches!(error, Error::InvalidArchive { .. }), "{target}: {error}");
    }
    assert_clean(&images).await;
}

#[tokio::test]
async fn broken_archives_leave_nothing() {
    let image = TestImage::small("x");
    let good = entry(&image, json!({}));
    let mut wrong_size = good.clone();
    wrong_size["size"] = json!(7);
    let mut wrong_digest = good.clone();
    wrong_digest["digest"] = json!(Digest::sha256(b"absent"));
    let mut other = image.clone();
    other.layers[0] = TestLayer::new(&Tarball::new().file("x", "other").build(), Packing::Gzip);
    let missing_layer = json!([{ "Config": "c", "RepoTags": [], "Layers": ["../../etc/passwd"] }]);
    let cut = image.docker_archive(&["a:b"]);
    for (case, bytes) in [
        ("empty", Vec::new()),
        ("text", b"hello".repeat(1000)),
        ("of something else", archive(&[("readme", b"hello".to_vec())])),
        ("no JSON", archive(&[("manifest.json", b"{".to_vec())])),
        ("cut", cut[..cut.len() / 2].to_vec()),
        ("a wrong size", layout(&image, json!([wrong_size]))),
        ("a missing blob", layout(&image, json!([wrong_digest]))),
        ("another layer than the config says", layout(&other, json!([entry(&other, json!({}))]))),
        (
            "a missing file",
            archive(&[
                ("c", image.config_bytes()),
                ("manifest.json", missing_layer.to_string().into_bytes()),
            ]),
        ),
        ("a layout of nothing", layout(&image, json!([]))),
        ("an index that is a manifest", archive(&[("index.json", image.manifest())])),
        ("a wrong name", {
            let manifest = json!([{ "Config": "c", "RepoTags": ["Not A Name"], "Layers": [] }]);
            archive(&[
                ("c", image.config_bytes()),
                ("manifest.json", manifest.to_string().into_bytes()),
            ])
        }),
    ] {
        let place = Place::new();
        let images = place.open().await;
        let result = import(&images, bytes).await;
        assert!(result.is_err(), "{case}: {result:?}");
        assert!(images.list().is_empty(), "{case}");
        assert_clean(&images).await;
    }
}

#[tokio::test]
async fn an_archive_has_a_size() {
    let mut place = Place::new();
    place.config.limits.archive = 10_000;
    let images = place.open().await;
    let bomb = TestLayer::new(&vec![0; 1 << 20], Packing::Gzip).packed;
    let error = import(&images, bomb).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_clean(&images).await;
}

#[tokio::test]
async fn an_index_in_a_layout_leads_to_the_image() {
    let image = TestImage::small("x");
    let host = berth_imageservice::Platform::host();
    let mut inner = entry(&image, json!({}));
    inner["platform"] = json!({ "os": host.os, "architecture": host.architecture });
    let inner =
        json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner] }).to_string();
    let digest = Digest::sha256(inner.as_bytes());
    let outer = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": OCI_INDEX, "digest": digest, "size": inner.len(),
        "annotations": { "io.containerd.image.name": "app:v1" },
    }]});
    let mut files = vec![
        ("index.json".to_owned(), outer.to_string().into_bytes()),
        (format!("blobs/sha256/{}", digest.hex()), inner.into_bytes()),
    ];
    for blob in image.blobs().into_iter().chain([image.manifest()]) {
        files.push((format!("blobs/sha256/{}", Digest::sha256(&blob).hex()), blob));
    }
    let files: Vec<_> =
        files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
    let place = Place::new();
    let images = place.open().await;
    import(&images, archive(&files)).await.unwrap();
    let found = images.find("app:v1").unwrap().unwrap();
    assert_eq!(*found.manifest_digest(), image.digest());
    assert_eq!(found.repo_digests(), [format!("docker.io/library/app@{digest}")]);
}
