//! Images from a registry that does as it should.

use std::time::Duration;

use berth_imageservice::{Digest, Error, Images, LayerPhase, Phase, PullRequest};
use serde_json::json;

use crate::support::image::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Packing, TestLayer};
use crate::support::place::{assert_clean, rootfs};
use crate::support::{Place, Quirk, Reply, Server, Tarball, TestImage, show_stack};

pub(crate) fn request(reference: &str) -> PullRequest {
    PullRequest::new(reference.parse().unwrap())
}

#[tokio::test]
async fn an_image_is_pulled_found_and_stacked() {
    let image = TestImage::of([
        Tarball::new().dir("etc").file("etc/base", "base").build(),
        Tarball::new().dir("etc").file("etc/top", "top").symlink("link", "etc/top").build(),
    ]);
    let server = Server::start().await;
    let reference = server.add("team/app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;

    let outcome = images.pull(request(&reference)).await.unwrap();

    assert_eq!(outcome.image.to_string(), image.id());
    assert_eq!(outcome.digest, image.digest());
    assert_eq!((outcome.layers_fetched, outcome.layers_reused), (2, 0));
    let bytes: usize = image.layers.iter().map(|layer| layer.packed.len()).sum();
    assert_eq!(outcome.bytes_fetched, bytes as u64);
    let found = images.find(&reference).unwrap().unwrap();
    assert_eq!(found.repo_tags(), [reference.as_str()]);
    assert_eq!(found.repo_digests(), [format!("{}/team/app@{}", server.address, image.digest())]);
    assert_eq!(found.raw_config().as_bytes(), image.config_bytes());
    assert_eq!(*found.manifest_digest(), image.digest());
    let rootfs = rootfs(&images, &reference).await;
    assert_eq!(
        show_stack(&rootfs.lowers),
        [
            vec!["etc/ 755", "etc/top 644 \"top\"", "link -> etc/top"],
            vec!["etc/ 755", "etc/base 644 \"base\""],
        ]
    );
    assert_clean(&images).await;
}

#[tokio::test]
async fn an_image_has_many_names_for_finding_it() {
    let image = TestImage::small("x");
    let server = Server::start().await;
    let reference = server.add("app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;
    images.pull(request(&reference)).await.unwrap();
    let id = image.id();
    let by_digest = format!("{}/app@{}", server.address, image.digest());
    for query in [&*reference, &by_digest, &id, &id[7..], &id[7..20], &id[..20]] {
        assert!(images.find(query).unwrap().is_some(), "{query}");
    }
    for query in ["app:v1", &id[7..10], "sha256:0000000000000", &"0".repeat(64)] {
        assert!(images.find(query).unwrap().is_none(), "{query}");
    }
    assert!(matches!(images.find("No Name"), Err(Error::InvalidReference { .. })));
}

#[tokio::test]
async fn every_packing_and_manifest_type_unpacks_to_the_same() {
    let tar = Tarball::new().file("file", &"content ".repeat(100_000)).build();
    let server = Server::start().await;
    let place = Place::new();
    let images = place.open().await;
    let mut ids = Vec::new();
    for (tag, packing, manifest_type) in [
        ("plain", Packing::Plain, OCI_MANIFEST),
        ("gzip", Packing::Gzip, DOCKER_MANIFEST),
        ("zstd", Packing::Zstd, OCI_MANIFEST),
    ] {
        let mut image = TestImage::of_layers(vec![TestLayer::new(&tar, packing)]);
        image.manifest_type = manifest_type;
        let reference = server.add("app", tag, &image);
        images.pull(request(&reference)).await.unwrap();
        ids.push(images.find(&reference).unwrap().unwrap().id().clone());
        images.remove(&image.id()).await.unwrap();
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "one configuration, one id");
}

#[tokio::test]
async fn what_is_here_is_not_fetched_again() {
    let base = Tarball::new().file("base", "shared").build();
    let one = TestImage::of([base.clone(), Tarball::new().file("one", "1").build()]);
    let two = TestImage::of([base, Tarball::new().file("two", "2").build()]);
    let server = Server::start().await;
    let (one, two) = (server.add("app", "one", &one), server.add("app", "two", &two));
    let place = Place::new();
    let images = place.open().await;
    images.pull(request(&one)).await.unwrap();
    let outcome = images.pull(request(&two)).await.unwrap();
    assert_eq!((outcome.layers_fetched, outcome.layers_reused), (1, 1));
    let before = server.count("/blobs/");
    let outcome = images.pull(request(&one)).await.unwrap();
    assert_eq!((outcome.layers_fetched, outcome.layers_reused, outcome.bytes_fetched), (0, 2, 0));
    assert_eq!(server.count("/blobs/"), before);
}

#[tokio::test]
async fn a_tag_moves_from_one_image_to_another() {
    let (old, new) = (TestImage::small("old"), TestImage::small("new"));
    let server = Server::start().await;
    let reference = server.add("app", "latest", &old);
    let place = Place::new();
    let images = place.open().await;
    images.pull(request(&reference)).await.unwrap();
    server.add("app", "latest", &new);
    images.pull(request(&reference)).await.unwrap();
    assert_eq!(images.find(&reference).unwrap().unwrap().id().to_string(), new.id());
    let left = images.find(&old.id()).unwrap().unwrap();
    assert!(left.repo_tags().is_empty());
    assert_eq!(left.repo_digests().len(), 1);
}

#[tokio::test]
async fn an_index_leads_to_the_image_of_this_platform() {
    let image = TestImage::small("native");
    let server = Server::start().await;
    server.add("app", "native", &image);
    let entry = |arch: &str, digest: &Digest, size: usize| {
        json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": size,
                "platform": { "os": "linux", "architecture": arch } })
    };
    let host = berth_imageservice::Platform::host().architecture;
    let native = entry(&host, &image.digest(), image.manifest().len());
    let other = entry("mips", &Digest::sha256(b"other"), 5);
    let index = json!({ "schemaVersion": 2, "manifests": [other, native] }).to_string();
    server.add_manifest("app", "multi", OCI_INDEX, index.clone().into_bytes());
    let only = json!({ "schemaVersion": 2, "manifests": [other] }).to_string();
    server.add_manifest("app", "foreign", OCI_INDEX, only.into_bytes());
    let place = Place::new();
    let images = place.open().await;
    let multi = format!("{}/app:multi", server.address);
    let outcome = images.pull(request(&multi)).await.unwrap();
    assert_eq!(outcome.digest, Digest::sha256(index.as_bytes()));
    let found = images.find(&multi).unwrap().unwrap();
    assert_eq!(*found.manifest_digest(), image.digest());
    assert_eq!(found.repo_digests(), [format!("{}/app@{}", server.address, outcome.digest)]);

    let foreign = format!("{}/app:foreign", server.address);
    let error = images.pull(request(&foreign)).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(
        error.to_string().contains(&foreign) && error.to_string().contains("linux/mips"),
        "{error}"
    );
    assert_clean(&images).await;
}

#[tokio::test]
async fn a_pull_by_digest_gets_that_name_only() {
    let image = TestImage::small("x");
    let server = Server::start().await;
    server.add("app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;
    let reference = format!("{}/app:ignored@{}", server.address, image.digest());
    images.pull(request(&reference)).await.unwrap();
    let found = images.find(&image.id()).unwrap().unwrap();
    assert!(found.repo_tags().is_empty());
    assert_eq!(found.repo_digests(), [format!("{}/app@{}", server.address, image.digest())]);
}

#[tokio::test]
async fn an_image_without_layers_still_has_one_directory_to_stack_on() {
    let image = TestImage::of([]);
    let server = Server::start().await;
    let reference = server.add("app", "empty", &image);
    let place = Place::new();
    let images = place.open().await;
    images.pull(request(&reference)).await.unwrap();
    let rootfs = rootfs(&images, &reference).await;
    assert_eq!(show_stack(&rootfs.lowers), [Vec::<String>::new()]);
}

/// None of the layers ever comes whole, and still all of them are asked for.
#[tokio::test]
async fn layers_are_fetched_at_the_same_time() {
    let layer = |n: u32| Tarball::new().file("which", &n.to_string()).build();
    let image = TestImage::of((0..3).map(layer));
    let stalled = image.layers.clone();
    let server = Server::scripted(move |request| {
        let layer = stalled.iter().find(|l| request.path.ends_with(l.digest().as_str()))?;
        Some(Reply::ok(layer.packed.clone()).quirk(Quirk::StallAt(1)))
    });
    let server = server.await;
    let reference = server.add("app", "v1", &image);
    let mut place = Place::new();
    place.config.parallel_layers = 3;
    let images = place.open().await;
    let pull = images.start_pull(request(&reference));
    let asked = |layer: &TestLayer| server.count(layer.digest().as_str()) > 0;
    let all = until(|| image.layers.iter().all(asked).then_some(()));
    tokio::time::timeout(Duration::from_secs(5), all).await.expect("all are asked for");
    images.shutdown().await;
    assert!(matches!(pull.outcome().await, Err(Error::Cancelled { .. })));
}

/// Who unpacks a layer could be taken over by it, and tell another's diff id.
#[tokio::test]
async fn another_blob_is_another_layer_whatever_diff_id_it_claims() {
    let tar = Tarball::new().file("base", "shared").build();
    let packed = |packing| TestImage::of_layers(vec![TestLayer::new(&tar, packing)]);
    let mut other = packed(Packing::Zstd);
    other.config["config"]["Cmd"] = json!(["other"]);
    let server = Server::start().await;
    let one = server.add("app", "one", &packed(Packing::Gzip));
    let other = server.add("app", "other", &other);
    let place = Place::new();
    let images = place.open().await;
    images.pull(request(&one)).await.unwrap();
    assert_eq!(images.pull(request(&other)).await.unwrap().layers_fetched, 1);
}

#[tokio::test]
async fn a_layer_that_comes_twice_is_stacked_once() {
    let same = Tarball::new().file("same", "same").build();
    let between = Tarball::new().file("same", "between").build();
    let image = TestImage::of([same.clone(), between, same]);
    let server = Server::start().await;
    let reference = server.add("app", "twice", &image);
    let place = Place::new();
    let images = place.open().await;
    let outcome = images.pull(request(&reference)).await.unwrap();
    assert_eq!((outcome.layers_fetched, outcome.layers_reused), (2, 1));
    let rootfs = rootfs(&images, &reference).await;
    assert_eq!(show_stack(&rootfs.lowers), [["same 644 \"same\""], ["same 644 \"between\""]]);
}

#[tokio::test]
async fn as_many_layers_as_overlayfs_takes_have_short_names() {
    let layers = (0..127).map(|n| Tarball::new().file(&format!("f{n}"), "x").build());
    let image = TestImage::of(layers);
    let server = Server::start().await;
    let reference = server.add("app", "tall", &image);
    let place = Place::new();
    let images = place.open().await;
    images.pull(request(&reference)).await.unwrap();
    let rootfs = rootfs(&images, &reference).await;
    let layers = place.root().join("layers");
    let relative = rootfs.lowers.iter().map(|lower| lower.strip_prefix(&layers).unwrap());
    let option = relative.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
    assert!(option.len() < 2048, "{} bytes of a mount option's page", option.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_seen_while_it_happens() {
    let image = TestImage::of([
        Tarball::new().file("a", "a").build(),
        Tarball::new().file("b", "b").build(),
    ]);
    let stalled = image.layers[1].digest().to_string();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = Server::scripted(move |request| {
        // Blocks this connection until the test has looked.
        if request.path.ends_with(&stalled) {
            tokio::task::block_in_place(|| wait.lock().unwrap().recv().ok());
        }
        None
    });
    let server = server.await;
    let reference = server.add("app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;
    let pull = images.start_pull(request(&reference));
    let progress = pull.progress().clone();
    let report = until(|| {
        Some(progress.report()).filter(|report| {
            report.layers.first().is_some_and(|layer| layer.phase == LayerPhase::Fetched)
        })
    })
    .await;
    assert_eq!(report.phase, Phase::Fetching);
    assert_eq!(report.layers[0].done, report.layers[0].total);
    assert_eq!((report.layers[1].phase, report.layers[1].done), (LayerPhase::Fetching, 0));
    release.send(()).unwrap();
    pull.outcome().await.unwrap();
    assert_eq!(progress.report().phase, Phase::Done);
}

/// Looks again and again until something is there; progress has no event by design.
pub(crate) async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_pin_stays() {
    let image = TestImage::small("x");
    let server = Server::start().await;
    let reference = server.add("app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;
    let is_pinned = |images: &Images| images.find(&reference).unwrap().unwrap().pinned();
    images.pull(request(&reference)).await.unwrap();
    assert!(!is_pinned(&images));
    images.pull(PullRequest { pinned: true, ..request(&reference) }).await.unwrap();
    images.pull(request(&reference)).await.unwrap();
    assert!(is_pinned(&images));
    images.shutdown().await;
    drop(images);
    assert!(is_pinned(&place.open().await));
}

#[tokio::test]
async fn a_registry_that_has_no_such_image_says_so() {
    let server = Server::scripted(|request| {
        request.path.contains("denied").then(|| {
            Reply::ok(r#"{"errors":[{"code":"DENIED","message":"token hunter2"}]}"#).status_of(403)
        })
    });
    let server = server.await;
    let place = Place::new();
    let images = place.open().await;
    let missing = format!("{}/app:missing", server.address);
    let error = images.pull(request(&missing)).await.unwrap_err();
    assert!(matches!(error, Error::NotInRegistry { .. }), "{error}");
    assert!(error.to_string().contains(&missing), "{error}");
    let error = images.pull(request(&format!("{}/app:denied", server.address))).await.unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error}");
    assert!(
        error.to_string().contains("DENIED") && !error.to_string().contains("hunter2"),
        "{error}"
    );
    assert_clean(&images).await;
}
