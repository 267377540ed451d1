//! Who is shown which secret.

use berth_imageservice::{AuthFields, Credentials, Error, PullRequest};
use serde_json::json;

use crate::pull::request;
use crate::support::place::assert_clean;
use crate::support::{Place, Reply, Request, Server, TestImage};

const PASSWORD: &str = "hunter2";
/// base64 of `user:hunter2`.
const BASIC: &str = "Basic dXNlcjpodW50ZXIy";

fn fields() -> AuthFields {
    AuthFields { username: "user".into(), password: PASSWORD.into(), ..AuthFields::default() }
}

fn with(reference: &str, fields: AuthFields) -> PullRequest {
    PullRequest { credentials: Credentials::from_fields(fields).unwrap(), ..request(reference) }
}

fn challenge(text: impl Into<String>) -> Option<Reply> {
    Some(Reply::status(401).header("www-authenticate", text))
}

/// A registry that wants the token `T`, from the token server at `realm`.
fn wants_token(request: &Request, realm: &str) -> Option<Reply> {
    if request.authorization() == Some("Bearer T") {
        return None;
    }
    challenge(format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:app:pull\""))
}

/// A token server's good answer.
fn token() -> Reply {
    Reply::ok(json!({ "token": "T", "expires_in": 300 }).to_string())
}

#[tokio::test]
async fn basic_authentication() {
    let server = Server::scripted(|request| match request.authorization() {
        Some(BASIC) => None,
        _ => challenge("Basic realm=\"registry\""),
    });
    let server = server.await;
    let reference = server.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    let images = place.open().await;
    images.pull(with(&reference, fields())).await.unwrap();
    let refused = server.log().iter().filter(|r| r.authorization().is_none()).count();
    assert_eq!(refused, 1, "once challenged, the header is sent at once");
}

#[tokio::test]
async fn bearer_tokens_are_fetched_once_and_kept_for_the_next_pull() {
    let tokens = Server::scripted(|request| {
        let is_complete = request.authorization() == Some(BASIC)
            && request.path.contains("service=reg")
            && request.path.contains("scope=repository%3Aapp%3Apull")
            && request.path.contains("account=user");
        Some(if is_complete { token() } else { Reply::status(400) })
    });
    let tokens = tokens.await;
    let realm = format!("http://{}/token?given=1", tokens.address);
    let server = Server::scripted(move |request| wants_token(request, &realm)).await;
    let one = server.add("app", "one", &TestImage::small("1"));
    let two = server.add("app", "two", &TestImage::small("2"));
    let place = Place::new();
    let images = place.open().await;
    images.pull(with(&one, fields())).await.unwrap();
    images.pull(with(&two, fields())).await.unwrap();
    assert_eq!(tokens.log().len(), 1);
    assert!(tokens.log()[0].path.contains("given=1"));
    assert!(
        server.log().iter().all(|r| r.authorization() != Some(BASIC)),
        "only the token goes here"
    );

    // Another tenant asks for a token of its own.
    let error = images.pull(request(&one)).await.unwrap_err();
    assert_eq!(tokens.log().len(), 2);
    assert!(matches!(error, Error::BadAnswer { .. }), "{error}");
}

#[tokio::test]
async fn identity_tokens_are_exchanged_by_post() {
    let tokens = Server::scripted(|request| {
        let body = &request.body;
        let is_right = request.method == "POST"
            && request.authorization().is_none()
            && body.contains("grant_type=refresh_token")
            && body.contains("refresh_token=identity-secret")
            && body.contains("service=reg");
        Some(if is_right { Reply::ok(r#"{"access_token":"T"}"#) } else { Reply::status(400) })
    });
    let tokens = tokens.await;
    let realm = format!("http://{}/oauth2", tokens.address);
    let server = Server::scripted(move |request| wants_token(request, &realm)).await;
    let reference = server.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    let images = place.open().await;
    let fields = AuthFields { identity_token: "identity-secret".into(), ..AuthFields::default() };
    images.pull(with(&reference, fields)).await.unwrap();
}

#[tokio::test]
async fn registry_tokens_go_as_they_are() {
    let server = Server::scripted(|request| match request.authorization() {
        Some("Bearer given") => None,
        _ => challenge("Bearer realm=\"http://127.0.0.1:1/\""),
    });
    let server = server.await;
    let reference = server.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    let images = place.open().await;
    let token = |text: &str| AuthFields { registry_token: text.into(), ..AuthFields::default() };
    images.pull(with(&reference, token("given"))).await.unwrap();
    let error = images.pull(with(&reference, token("other"))).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn anonymous_tokens() {
    let tokens = Server::scripted(|request| {
        Some(if request.authorization().is_none() { token() } else { Reply::status(400) })
    });
    let tokens = tokens.await;
    let realm = format!("http://{}/token", tokens.address);
    let server = Server::scripted(move |request| wants_token(request, &realm)).await;
    let reference = server.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    place.open().await.pull(request(&reference)).await.unwrap();
}

#[tokio::test]
async fn endless_challenges_are_answered_a_few_times() {
    let tokens = Server::scripted(|_| Some(token())).await;
    let realm = format!("http://{}/token", tokens.address);
    let server = Server::scripted(move |_| challenge(format!("Bearer realm=\"{realm}\""))).await;
    let reference = server.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    let images = place.open().await;
    let error = images.pull(with(&reference, fields())).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert!(error.to_string().contains("app:v1"), "{error}");
    assert_eq!(server.log().len(), 3);
    assert_clean(&images).await;
}

#[tokio::test]
async fn a_redirect_to_another_host_loses_every_secret() {
    let image = TestImage::small("x");
    let storage = Server::start().await;
    storage.add("app", "v1", &image);
    let target = format!("http://{}", storage.address);
    let server = Server::scripted(move |request| match request.authorization() {
        Some(BASIC) if request.path.contains("/blobs/") => {
            Some(Reply::redirect(format!("{target}{}?signature=secret", request.path)))
        }
        Some(BASIC) => None,
        _ => challenge("Basic realm=\"registry\""),
    });
    let server = server.await;
    let reference = server.add("app", "v1", &image);
    let place = Place::new();
    let file = format!(
        "[host.\"http://{0}\"]\n[host.\"http://{0}\".header]\nx-secret = \"header\"",
        server.address
    );
    place.hosts(&format!("{}/hosts.toml", server.address), &file);
    place.open().await.pull(with(&reference, fields())).await.unwrap();
    assert!(server.log().iter().all(|request| request.header("x-secret").is_some()));
    assert!(!storage.log().is_empty());
    for request in storage.log() {
        assert!(request.authorization().is_none() && request.header("x-secret").is_none());
    }
}

#[tokio::test]
async fn a_challenge_from_the_target_of_a_redirect_is_not_answered() {
    let thief = Server::scripted(|_| challenge("Basic realm=\"gimme\"")).await;
    let target = format!("http://{}", thief.address);
    let server = Server::scripted(move |request| {
        Some(Reply::redirect(format!("{target}{}?signature=s3cr3t", request.path)))
    });
    let server = server.await;
    let reference = server.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    let images = place.open().await;
    let error = images.pull(with(&reference, fields())).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert_eq!(thief.log().len(), 1);
    assert!(thief.log().iter().all(|request| request.authorization().is_none()));
    let text = format!("{error} {error:?}");
    assert!(!text.contains("s3cr3t") && !text.contains(PASSWORD), "{text}");
}

#[tokio::test]
async fn no_error_repeats_a_secret() {
    let server = Server::scripted(|request| {
        if request.path.contains("/broken/") {
            return Some(Reply::status(500));
        }
        let echo = format!("{:?}", request.headers);
        let body = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": echo }] }).to_string();
        Some(Reply::ok(body).status_of(401).header("www-authenticate", "Basic realm=\"r\""))
    });
    let server = server.await;
    let place = Place::new();
    let images = place.open().await;
    for repository in ["app", "broken/app"] {
        let reference = server.add(repository, "v1", &TestImage::small("x"));
        let request = with(&reference, fields());
        assert!(!format!("{request:?}").contains(PASSWORD));
        let error = images.pull(request).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains(PASSWORD) && !text.contains("dXNlcjpodW50ZXIy"), "{text}");
    }
}

#[tokio::test]
async fn a_token_server_that_fails_is_told() {
    for (reply, is_expected) in [
        (Reply::status(401), (|e| matches!(e, Error::Unauthorized { .. })) as fn(&Error) -> bool),
        (Reply::status(403), |e| matches!(e, Error::Forbidden { .. })),
        (Reply::ok("{}"), |e| matches!(e, Error::BadAnswer { .. })),
        (Reply::ok("no json"), |e| matches!(e, Error::BadAnswer { .. })),
        (Reply::ok(r#"{"token":"a\nb"}"#), |e| matches!(e, Error::BadAnswer { .. })),
        (Reply::redirect("http://127.0.0.1:1/"), |e| matches!(e, Error::BadAnswer { .. })),
    ] {
        let tokens = Server::scripted(move |_| Some(reply.clone())).await;
        let realm = format!("http://{}/token", tokens.address);
        let server = Server::scripted(move |request| wants_token(request, &realm)).await;
        let reference = server.add("app", "v1", &TestImage::small("x"));
        let place = Place::new();
        let images = place.open().await;
        let error = images.pull(with(&reference, fields())).await.unwrap_err();
        assert!(is_expected(&error), "{error}");
        assert!(error.to_string().contains("token for manifest"), "{error}");
    }
}

#[tokio::test]
async fn a_token_server_that_knows_only_the_form_is_asked_by_it() {
    for status in [404, 405] {
        let tokens = Server::scripted(move |request| {
            let body = &request.body;
            let is_right = request.method == "POST"
                && request.authorization().is_none()
                && body.contains("grant_type=password")
                && body.contains("username=user")
                && body.contains(&format!("password={PASSWORD}"))
                && body.contains("scope=repository%3Aapp%3Apull");
            Some(if is_right {
                Reply::ok(r#"{"access_token":"T"}"#)
            } else {
                Reply::status(status)
            })
        });
        let tokens = tokens.await;
        let realm = format!("http://{}/oauth2", tokens.address);
        let server = Server::scripted(move |request| wants_token(request, &realm)).await;
        let reference = server.add("app", "v1", &TestImage::small("x"));
        let place = Place::new();
        place.open().await.pull(with(&reference, fields())).await.unwrap();
        assert_eq!(tokens.log().len(), 2);
    }
}

/// A registry that names the token server and the scope of another one does not get its token.
#[tokio::test]
async fn a_token_is_shown_to_the_host_that_asked_for_it_only() {
    let tokens = Server::scripted(|request| {
        let is_first = request.path.contains("service=reg");
        Some(if is_first { token() } else { Reply::status(400) })
    });
    let tokens = tokens.await;
    let realm = format!("http://{}/token", tokens.address);
    let their_realm = realm.clone();
    let honest = Server::scripted(move |request| wants_token(request, &realm)).await;
    let thief = Server::scripted(move |request| wants_token(request, &their_realm)).await;
    let place = Place::new();
    let images = place.open().await;
    let image = TestImage::small("x");
    for server in [&honest, &thief] {
        let reference = server.add("app", "v1", &image);
        images.pull(with(&reference, fields())).await.unwrap();
    }
    assert_eq!(tokens.log().len(), 2, "one for each, by the credentials for each");
}

/// Challenges of several kinds, in one header or in many, in any case and order.
#[tokio::test]
async fn the_challenge_that_can_be_answered_is_found_among_others() {
    let tokens = Server::scripted(|_| Some(token())).await;
    let bearer = format!("bEaReR realm=\"http://{}/t\",error=\"invalid_token\"", tokens.address);
    for headers in [
        vec![format!("Negotiate, {bearer}")],
        vec!["Digest realm=\"a, b\", nonce=\"Basic\"".to_owned(), bearer.clone()],
        vec![format!("Basic realm=\"x\", {bearer}")],
        vec!["=;garbage".to_owned(), bearer.clone()],
    ] {
        let challenges = headers.clone();
        let server = Server::scripted(move |request| {
            let refusal = || {
                challenges
                    .iter()
                    .fold(Reply::status(401), |reply, text| reply.header("www-authenticate", text))
            };
            (request.authorization() != Some("Bearer T")).then(refusal)
        });
        let server = server.await;
        let reference = server.add("app", "v1", &TestImage::small("x"));
        let place = Place::new();
        let pulled = place.open().await.pull(with(&reference, fields())).await;
        pulled.unwrap_or_else(|error| panic!("{headers:?}: {error}"));
    }
}
