//! Mirrors of `hosts.toml`: order, capabilities, and what happens when one is down or lies.

use berth_imageservice::{AuthFields, Credentials, Error, PullRequest};

use crate::pull::request;
use crate::support::{Place, Reply, Server, TestImage};

const REFERENCE: &str = "upstream.invalid/app:v1";

/// Configures mirrors of `upstream.invalid`, with the last address as the registry itself.
fn configure(place: &Place, mirrors: &[(&Server, &str)], upstream: &Server) {
    let mut file = format!("server = \"http://{}\"\n", upstream.address);
    for (mirror, settings) in mirrors {
        file += &format!("[host.\"http://{}\"]\n{settings}\n", mirror.address);
    }
    place.hosts("upstream.invalid/hosts.toml", &file);
}

#[tokio::test]
async fn a_mirror_serves_all_and_is_told_for_whom() {
    let (mirror, upstream) = (Server::start().await, Server::start().await);
    mirror.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    configure(&place, &[(&mirror, "")], &upstream);
    let images = place.open().await;
    images.pull(request(REFERENCE)).await.unwrap();
    assert!(upstream.log().is_empty());
    assert!(mirror.log().iter().all(|request| request.path.ends_with("?ns=upstream.invalid")));
    assert_eq!(images.list()[0].repo_tags(), [REFERENCE]);
}

#[tokio::test]
async fn a_mirror_without_the_image_is_passed_over() {
    let (mirror, upstream) = (Server::start().await, Server::start().await);
    upstream.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    configure(&place, &[(&mirror, "")], &upstream);
    place.open().await.pull(request(REFERENCE)).await.unwrap();
    assert!(!mirror.log().is_empty());
}

#[tokio::test]
async fn a_mirror_that_may_not_resolve_is_asked_for_digests_only() {
    let (mirror, upstream) = (Server::start().await, Server::start().await);
    for server in [&mirror, &upstream] {
        server.add("app", "v1", &TestImage::small("x"));
    }
    let place = Place::new();
    configure(&place, &[(&mirror, "capabilities = [\"pull\"]")], &upstream);
    place.open().await.pull(request(REFERENCE)).await.unwrap();
    assert_eq!((upstream.count("/manifests/"), upstream.count("/blobs/")), (1, 0));
    assert_eq!((mirror.count("/manifests/"), mirror.count("/blobs/")), (0, 2));
}

#[tokio::test]
async fn a_dead_mirror_costs_one_request_in_a_pull() {
    let mirror = Server::scripted(|_| Some(Reply::status(503))).await;
    let upstream = Server::start().await;
    upstream.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    configure(&place, &[(&mirror, "")], &upstream);
    place.open().await.pull(request(REFERENCE)).await.unwrap();
    assert_eq!(mirror.log().len(), 1);
}

#[tokio::test]
async fn a_mirror_that_lies_about_a_layer_is_not_believed() {
    let image = TestImage::small("x");
    let layer = image.layers[0].digest().to_string();
    let mirror = Server::scripted(move |request| {
        request.path.contains(&layer).then(|| Reply::ok("something else"))
    });
    let (mirror, upstream) = (mirror.await, Server::start().await);
    for server in [&mirror, &upstream] {
        server.add("app", "v1", &image);
    }
    let place = Place::new();
    configure(&place, &[(&mirror, "")], &upstream);
    place.open().await.pull(request(REFERENCE)).await.unwrap();
    assert_eq!(upstream.count("/blobs/"), 1);
}

#[tokio::test]
async fn a_mirror_is_not_shown_the_registrys_credentials() {
    let mirror = Server::scripted(|request| {
        let challenge = Reply::status(401).header("www-authenticate", "Basic realm=\"mirror\"");
        request.authorization().is_none().then_some(challenge)
    });
    let (mirror, upstream) = (mirror.await, Server::start().await);
    for server in [&mirror, &upstream] {
        server.add("app", "v1", &TestImage::small("x"));
    }
    let place = Place::new();
    configure(&place, &[(&mirror, "")], &upstream);
    let images = place.open().await;
    let with = |server: &str| {
        let fields = AuthFields {
            username: "user".into(),
            password: "pw".into(),
            server_address: server.into(),
            ..AuthFields::default()
        };
        PullRequest { credentials: Credentials::from_fields(fields).unwrap(), ..request(REFERENCE) }
    };
    images.pull(with("")).await.unwrap();
    assert!(mirror.log().iter().all(|request| request.authorization().is_none()));
    assert!(upstream.log().iter().all(|request| request.authorization().is_none()), "another name");

    // But it is, when they are said to be for it.
    images.remove(REFERENCE).await.unwrap();
    images.pull(with(&mirror.address)).await.unwrap();
    assert!(mirror.log().iter().any(|request| request.authorization().is_some()));
}

#[tokio::test]
async fn the_configuration_is_read_anew_on_every_pull() {
    let (one, two) = (Server::start().await, Server::start().await);
    two.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    configure(&place, &[], &one);
    let images = place.open().await;
    assert!(matches!(images.pull(request(REFERENCE)).await, Err(Error::NotInRegistry { .. })));
    let path = place.hosts("upstream.invalid/hosts.toml", "server = 5");
    let error = images.pull(request(REFERENCE)).await.unwrap_err();
    assert!(matches!(&error, Error::InvalidHosts { path: p, .. } if *p == path), "{error}");
    configure(&place, &[], &two);
    images.pull(request(REFERENCE)).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_nobody_listens_for_is_unavailable() {
    let place = Place::new();
    place.hosts("upstream.invalid/hosts.toml", "server = \"http://127.0.0.1:1\"");
    let error = place.open().await.pull(request(REFERENCE)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(REFERENCE) && text.contains("refused"), "{text}");
}
