//! Registries that lie, break off, stall or redirect. Whatever they do, nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_imageservice::{Digest, Error, Limits, PullOutcome, Stall};
use serde_json::json;

use crate::pull::request;
use crate::support::image::{OCI_INDEX, OCI_MANIFEST, Packing, TestLayer};
use crate::support::place::assert_clean;
use crate::support::{Place, Quirk, Reply, Request, Server, Tarball, TestImage};

/// An image whose layer is large enough to be broken anywhere.
fn image() -> TestImage {
    let content: String =
        (0..40_000).map(|n: u32| format!("{} ", n.wrapping_mul(2_654_435_761))).collect();
    TestImage::of([Tarball::new().file("file", &content).build()])
}

/// Pulls `image` from a server that follows the script, and asserts that nothing is left if it
/// fails.
async fn pull(
    image: &TestImage,
    script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> (Result<PullOutcome, Error>, Server) {
    pull_at(&Place::new(), image, script).await
}

async fn pull_at(
    place: &Place,
    image: &TestImage,
    script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> (Result<PullOutcome, Error>, Server) {
    let server = Server::scripted(script).await;
    let reference = server.add("app", "v1", image);
    let images = place.open().await;
    let outcome = images.pull(request(&reference)).await;
    if let Err(error) = &outcome {
        assert!(images.list().is_empty());
        assert_eq!(images.usage().bytes, 0);
        let text = error.to_string();
        assert!(text.contains("app") || text.contains("sha256:"), "names its object: {text}");
    }
    assert_clean(&images).await;
    (outcome, server)
}

fn is_blob(request: &Request, digest: &Digest) -> bool {
    request.path.ends_with(&format!("/blobs/{digest}"))
}

#[tokio::test]
async fn bytes_that_are_not_what_was_promised() {
    let image = image();
    let digest = image.layers[0].digest();
    let good = image.layers[0].packed.clone();
    let middle = good.len() / 2;
    let mut flipped = good.clone();
    flipped[middle] ^= 1;
    let longer = [good.clone(), b"more".to_vec()].concat();
    let other = TestLayer::new(&Tarball::new().file("other", "x").build(), Packing::Gzip).packed;
    let mut padded = other.clone();
    padded.resize(good.len(), 0);
    for (case, body, quirk) in [
        ("a flipped bit", flipped, Quirk::None),
        ("too short", good[..middle].to_vec(), Quirk::None),
        ("too long", longer.clone(), Quirk::None),
        ("too long, without length", longer, Quirk::NoLength),
        ("another layer", other, Quirk::None),
        ("garbage of the right length", padded, Quirk::None),
        ("nothing", Vec::new(), Quirk::None),
    ] {
        let reply = Reply::ok(body).quirk(quirk);
        let digest = digest.clone();
        let script = move |request: &Request| is_blob(request, &digest).then(|| reply.clone());
        let (outcome, _server) = pull(&image, script).await;
        let error = outcome.expect_err(case);
        let is_told = matches!(error, Error::DigestMismatch { .. } | Error::SizeMismatch { .. });
        assert!(is_told, "{case}: {error}");
    }
}

#[tokio::test]
async fn a_digest_mismatch_says_what_was_expected_and_what_came() {
    let image = image();
    let digest = image.layers[0].digest();
    let mut wrong = image.layers[0].packed.clone();
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    let came = Digest::sha256(&wrong);
    let wanted = digest.clone();
    let script =
        move |request: &Request| is_blob(request, &digest).then(|| Reply::ok(wrong.clone()));
    match pull(&image, script).await.0 {
        Err(Error::DigestMismatch { what, expected, got }) => {
            assert_eq!((expected, got), (wanted.clone(), came));
            assert!(what.contains(wanted.as_str()) && what.contains("app:v1"), "{what}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_layer_with_another_diff_id_than_the_config_says() {
    let mut image = image();
    image.config["rootfs"]["diff_ids"] = json!([Digest::sha256(b"something else")]);
    match pull(&image, |_| None).await.0 {
        Err(Error::DigestMismatch { what, .. }) => assert!(what.starts_with("diff id of layer")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again() {
    let image = image();
    let digest = image.layers[0].digest();
    let body = image.layers[0].packed.clone();
    for cut in [0, 1, 100, body.len() / 2, body.len() - 1] {
        let failures = AtomicUsize::new(0);
        let (digest, body) = (digest.clone(), body.clone());
        let script = move |request: &Request| {
            let is_first =
                is_blob(request, &digest) && failures.fetch_add(1, Ordering::Relaxed) < 2;
            is_first.then(|| Reply::ok(body.clone()).quirk(Quirk::CutAt(cut)))
        };
        let (outcome, _server) = pull(&image, script).await;
        outcome.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
    }
}

#[tokio::test]
async fn a_connection_that_always_breaks_is_given_up() {
    let image = image();
    let digest = image.layers[0].digest();
    let body = image.layers[0].packed.clone();
    let watched = digest.clone();
    let script = move |request: &Request| {
        is_blob(request, &digest).then(|| Reply::ok(body.clone()).quirk(Quirk::CutAt(1000)))
    };
    let (outcome, server) = pull(&image, script).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
    assert_eq!(server.count(watched.as_str()), 5);
}

#[tokio::test]
async fn busy_registries_are_asked_again_and_heard() {
    let image = image();
    for (status, retry_after) in
        [(503, None), (429, Some("0")), (500, None), (429, Some("garbage"))]
    {
        let failures = AtomicUsize::new(0);
        let script = move |_: &Request| {
            let mut reply = Reply::status(status);
            if let Some(seconds) = retry_after {
                reply = reply.header("retry-after", seconds);
            }
            (failures.fetch_add(1, Ordering::Relaxed) < 2).then_some(reply)
        };
        let (outcome, _server) = pull(&image, script).await;
        outcome.unwrap_or_else(|error| panic!("{status} {retry_after:?}: {error}"));
    }
}

#[tokio::test]
async fn a_registry_that_wants_an_hour_is_unavailable() {
    let start = Instant::now();
    let script = |_: &Request| Some(Reply::status(429).header("retry-after", "3600"));
    let (outcome, server) = pull(&image(), script).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
    assert_eq!(server.log().len(), 1);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_dead_registry_is_unavailable_after_a_few_attempts() {
    let (outcome, server) = pull(&image(), |_| Some(Reply::status(502))).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
    assert_eq!(server.log().len(), 5);
}

#[tokio::test]
async fn stalls_and_trickles_end_in_a_timeout() {
    let image = image();
    let digest = image.layers[0].digest();
    let body = image.layers[0].packed.clone();
    let mut place = Place::new();
    place.config.stall = Stall { window: Duration::from_millis(200), floor: 1000 };
    for quirk in
        [Quirk::StallAt(0), Quirk::StallAt(5000), Quirk::Trickle(Duration::from_millis(20))]
    {
        let (digest, body) = (digest.clone(), body.clone());
        let script = move |request: &Request| {
            is_blob(request, &digest).then(|| Reply::ok(body.clone()).quirk(quirk))
        };
        let (outcome, _server) = pull_at(&place, &image, script).await;
        assert!(matches!(outcome, Err(Error::Timeout { .. })), "{quirk:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn the_whole_pull_has_a_deadline() {
    let mut place = Place::new();
    place.config.deadline = Duration::from_millis(300);
    let script = |request: &Request| {
        request.path.contains("/blobs/").then(|| Reply::ok("xx").quirk(Quirk::StallAt(1)))
    };
    match pull_at(&place, &image(), script).await.0 {
        Err(Error::Timeout { what, after, .. }) => {
            assert!(what.contains("app:v1") && after == place.config.deadline, "{what}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn manifests_that_say_two_things() {
    let image = TestImage::small("x");
    let both = {
        let mut value = image.manifest_value();
        value["manifests"] = json!([]);
        value.to_string()
    };
    let manifest = String::from_utf8(image.manifest()).unwrap();
    let lying_digest = Digest::sha256(b"lie").to_string();
    for (case, reply) in [
        ("index and manifest at once", Reply::ok(both).header("content-type", OCI_MANIFEST)),
        ("announced as an index", Reply::ok(manifest.clone()).header("content-type", OCI_INDEX)),
        ("with a lying digest", Reply::ok(manifest).header("docker-content-digest", lying_digest)),
        ("no JSON", Reply::ok("<html>login</html>").header("content-type", "text/html")),
        ("empty", Reply::ok("")),
    ] {
        let script =
            move |request: &Request| request.path.contains("/manifests/").then(|| reply.clone());
        let error = pull(&image, script).await.0.expect_err(case);
        let is_told = matches!(error, Error::InvalidManifest { .. } | Error::DigestMismatch { .. });
        assert!(is_told && error.to_string().contains("app:v1"), "{case}: {error}");
    }
}

#[tokio::test]
async fn indexes_without_end() {
    let image = TestImage::small("x");
    let endless = |request: &Request| {
        // Each index names the next one; no cycle is possible, because they are named by digest.
        let depth = request.path.len();
        let entry =
            json!({ "mediaType": OCI_INDEX, "digest": Digest::sha256(&[0]), "size": depth });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
        request
            .path
            .contains("/manifests/")
            .then(|| Reply::ok(index).header("content-type", OCI_INDEX))
    };
    let (outcome, server) = pull(&image, endless).await;
    assert!(matches!(outcome, Err(Error::DigestMismatch { .. })), "{outcome:?}");
    assert_eq!(server.log().len(), 2);

    let server = Server::start().await;
    let (mut digest, mut size) = (Digest::sha256(b"bottom"), 6);
    for _ in 0..20 {
        let entry = json!({ "mediaType": OCI_INDEX, "digest": digest, "size": size });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string().into_bytes();
        (digest, size) = (Digest::sha256(&index), index.len());
        server.add_manifest("app", "deep", OCI_INDEX, index);
    }
    let place = Place::new();
    let images = place.open().await;
    let error = images.pull(request(&format!("{}/app:deep", server.address))).await.unwrap_err();
    assert!(matches!(error, Error::InvalidManifest { .. }), "{error}");
}

#[tokio::test]
async fn documents_have_a_size() {
    let image = TestImage::small("x");
    let huge = vec![b' '; 5 << 20];
    for quirk in [Quirk::None, Quirk::NoLength] {
        let huge = huge.clone();
        let script = move |request: &Request| {
            request.path.contains("/manifests/").then(|| Reply::ok(huge.clone()).quirk(quirk))
        };
        let (outcome, _server) = pull(&image, script).await;
        assert!(matches!(outcome, Err(Error::TooLarge { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn bombs_are_defused() {
    let zeros = Tarball::new().file("zeros", &"\0".repeat(8 << 20)).build();
    for packing in [Packing::Gzip, Packing::Zstd] {
        let image = TestImage::of_layers(vec![TestLayer::new(&zeros, packing)]);
        for limits in [
            Limits { layer: 1 << 20, ..Limits::default() },
            Limits { ratio: 10, ratio_grace: 1 << 20, ..Limits::default() },
        ] {
            let mut place = Place::new();
            place.config.limits = limits;
            let (outcome, _server) = pull_at(&place, &image, |_| None).await;
            assert!(matches!(outcome, Err(Error::TooLarge { .. })), "{outcome:?}");
        }
        pull(&image, |_| None).await.0.unwrap();
    }
}

#[tokio::test]
async fn unknown_compressions_are_named() {
    let mut image = TestImage::small("x");
    image.layers[0].packed = b"\xfd7zXZ\0 and so on".to_vec();
    let error = pull(&image, |_| None).await.0.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("xz"), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_without_end_only_so_far() {
    let image = TestImage::small("x");
    let loops = |request: &Request| Some(Reply::redirect(request.path.clone()));
    let (outcome, server) = pull(&image, loops).await;
    assert!(matches!(outcome, Err(Error::BadAnswer { .. })), "{outcome:?}");
    assert_eq!(server.log().len(), 11);
    for location in ["ftp://x/", "file:///etc/passwd", "//", "http://"] {
        let script = move |_: &Request| Some(Reply::redirect(location));
        let (outcome, _server) = pull(&image, script).await;
        assert!(matches!(outcome, Err(Error::BadAnswer { .. })), "{location}: {outcome:?}");
    }
}

#[tokio::test]
async fn one_stuck_pull_does_not_hold_up_another() {
    let (stuck, fine) = (image(), TestImage::small("fine"));
    let (digest, packed) = (stuck.layers[0].digest(), stuck.layers[0].packed.clone());
    let server = Server::scripted(move |request| {
        is_blob(request, &digest).then(|| Reply::ok(packed.clone()).quirk(Quirk::StallAt(1)))
    });
    let server = Arc::new(server.await);
    let (stuck, fine) = (server.add("app", "stuck", &stuck), server.add("app", "fine", &fine));
    let place = Place::new();
    let images = place.open().await;
    let waiting = images.start_pull(request(&stuck));
    images.pull(request(&fine)).await.unwrap();
    assert!(waiting.progress().report().phase < berth_imageservice::Phase::Done);
    images.shutdown().await;
}
