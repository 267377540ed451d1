//! Many callers, one download.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_imageservice::{AuthFields, Credentials, Error, PullRequest};
use futures_util::future::join_all;

use crate::pull::{request, until};
use crate::support::place::assert_clean;
use crate::support::{Place, Quirk, Reply, Server, Tarball, TestImage};

#[tokio::test]
async fn pulls_of_one_reference_are_one_pull() {
    let image = TestImage::small("x");
    let server = Server::start().await;
    let reference = server.add("app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;
    let pulls = join_all((0..32).map(|_| images.pull(request(&reference)))).await;
    assert!(pulls.iter().all(|outcome| outcome.as_ref().unwrap().image.to_string() == image.id()));
    assert_eq!((server.count("/manifests/"), server.count("/blobs/")), (1, 2));
}

#[tokio::test]
async fn pulls_that_share_layers_fetch_each_once() {
    let base = Tarball::new().file("base", &"shared".repeat(10_000)).build();
    let server = Server::start().await;
    let images_of = (0..16)
        .map(|n| TestImage::of([base.clone(), Tarball::new().file("own", &n.to_string()).build()]));
    let references: Vec<_> =
        images_of.enumerate().map(|(n, image)| server.add("app", &n.to_string(), &image)).collect();
    let place = Place::new();
    let images = place.open().await;
    let pulls = join_all(references.iter().map(|reference| images.pull(request(reference)))).await;
    let fetched: usize = pulls.iter().map(|outcome| outcome.as_ref().unwrap().layers_fetched).sum();
    assert_eq!(fetched, 17, "16 own layers and the shared one");
    assert_eq!(server.count("/blobs/"), 16 + 17);
    assert_clean(&images).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_nothing() {
    let image = TestImage::small("x");
    let server = Server::start().await;
    let reference = server.add("app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;
    drop(images.pull(request(&reference)));
    drop(images.start_pull(request(&reference)));
    until(|| images.find(&reference).unwrap()).await;
}

#[tokio::test]
async fn a_follower_takes_over_when_the_leader_fails() {
    // The first who asks for the layer is cut off until it gives up, every later one is served.
    let image = TestImage::small("x");
    let layer = image.layers[0].clone();
    let path = layer.digest().to_string();
    let server = Server::scripted(move |request| {
        let is_leader = request.path.ends_with(&path) && request.path.contains("/leader/");
        is_leader.then(|| Reply::ok(layer.packed.clone()).quirk(Quirk::CutAt(10)))
    });
    let server = server.await;
    let leader = server.add("leader", "v1", &image);
    let mut other = image.clone();
    other.config["config"]["Cmd"] = serde_json::json!(["/other"]);
    let follower = server.add("follower", "v1", &other);
    let place = Place::new();
    let images = place.open().await;
    let (led, followed) =
        tokio::join!(images.pull(request(&leader)), images.pull(request(&follower)));
    assert!(followed.is_ok(), "{followed:?}");
    // The leader may have found the follower's layer by then.
    assert!(led.is_ok() || matches!(led, Err(Error::Unavailable { .. })), "{led:?}");
    assert_clean(&images).await;
}

#[tokio::test]
async fn pulls_with_other_credentials_are_other_pulls() {
    let image = TestImage::small("x");
    let server = Server::scripted(|request| {
        let is_known = request.authorization() == Some("Basic Z29vZDpwdw==");
        (!is_known).then(|| Reply::status(401).header("www-authenticate", "Basic realm=\"r\""))
    });
    let server = server.await;
    let reference = server.add("app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;
    let with = |username: &str| {
        let (username, password) = (username.to_owned(), "pw".to_owned());
        let fields = AuthFields { username, password, ..AuthFields::default() };
        PullRequest {
            credentials: Credentials::from_fields(fields).unwrap(),
            ..request(&reference)
        }
    };
    let (good, bad, none) = tokio::join!(
        images.pull(with("good")),
        images.pull(with("bad")),
        images.pull(request(&reference)),
    );
    assert!(good.is_ok(), "{good:?}");
    assert!(matches!(bad, Err(Error::Unauthorized { .. })), "{bad:?}");
    assert!(matches!(none, Err(Error::Unauthorized { .. })), "{none:?}");
}

#[tokio::test]
async fn joiners_get_the_error_of_the_pull_and_the_next_one_starts_anew() {
    let image = TestImage::small("x");
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let server =
        Server::scripted(move |_| broken.load(Ordering::Relaxed).then(|| Reply::status(418)));
    let server = server.await;
    let reference = server.add("app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;
    let (one, two) =
        tokio::join!(images.pull(request(&reference)), images.pull(request(&reference)));
    assert!(matches!(one, Err(Error::BadAnswer { .. })) && two.is_err());
    assert_eq!(server.log().len(), 1);
    is_broken.store(false, Ordering::Relaxed);
    images.pull(request(&reference)).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_pulls() {
    let image = TestImage::small("x");
    let server = Server::scripted(|request| {
        request.path.contains("/blobs/").then(|| Reply::ok("xx").quirk(Quirk::StallAt(1)))
    });
    let server = server.await;
    let reference = server.add("app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;
    let pull = images.start_pull(request(&reference));
    until(|| (server.count("/blobs/") > 0).then_some(())).await;
    images.shutdown().await;
    assert!(matches!(pull.outcome().await, Err(Error::Cancelled { .. })));
    assert!(matches!(images.pull(request(&reference)).await, Err(Error::Cancelled { .. })));
}
