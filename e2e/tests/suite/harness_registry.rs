//! Registries: the real one keeps what is pushed, the scripted one lies as it is told.

use std::time::Duration;

use anyhow::Result;
use berth_e2e::image::{Format, Image, Index};
use berth_e2e::place::{self, Place};
use berth_e2e::registry::scripted::{Act, Scripted};
use berth_e2e::registry::{ALICE, Registry, Setup};
use reqwest::Client;

fn small() -> Result<Image> {
    Image::from_scratch().build()
}

fn http() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let redirects = reqwest::redirect::Policy::none();
    Client::builder().no_proxy().redirect(redirects).build().expect("a client")
}

#[test]
fn what_is_pushed_can_be_pulled() {
    place::native(async |place| pushes_and_pulls(&Registry::start(&place).await?).await);
}

#[test]
fn a_registry_can_speak_tls_and_ask_for_a_password() {
    place::native(async |place| {
        let registry = Setup::default().tls().login(ALICE).start(&place).await?;
        pushes_and_pulls(&registry).await?;

        let pem = std::fs::read(registry.upstream().ca.as_ref().expect("an authority"))?;
        let trusting = Client::builder().no_proxy();
        let trusting = trusting.tls_certs_only([reqwest::Certificate::from_pem(&pem)?]).build()?;
        let url = format!("{}/v2/", registry.upstream().url);
        let answer = trusting.get(&url).basic_auth("alice", Some("wrong")).send().await?;
        assert_eq!(answer.status(), 401);
        let answer = trusting.get(&url).basic_auth(ALICE.user, Some(ALICE.password)).send().await?;
        assert_eq!(answer.status(), 200);
        http().get(&url).send().await.expect_err("nobody else trusts the authority");
        Ok(())
    });
}

async fn pushes_and_pulls(registry: &Registry) -> Result<()> {
    let image = Image::busybox()?.build()?;
    let reference = registry.push("team/app:1", &image).await?;
    assert_eq!(reference, format!("{}/team/app:1", registry.host()));
    assert_eq!(registry.manifest("team/app:1").await?, *image.manifest.bytes);

    let index = Index::new(Format::Oci, vec![image, small()?])?;
    registry.push_index("team/multi:1", &index).await?;
    assert_eq!(registry.manifest("team/multi:1").await?, *index.manifest.bytes);
    Ok(())
}

#[test]
fn a_scripted_registry_is_honest_until_told_otherwise() {
    place::native(async |_: Place| {
        let registry = Scripted::start().await?;
        let image = small()?;
        registry.add("app:1", &image)?;
        let config = format!("/v2/app/blobs/{}", image.config.digest);
        let url = format!("{}{config}", registry.upstream().url);
        let get = async || http().get(&url).send().await;

        assert_eq!(get().await?.bytes().await?, *image.config.bytes);
        let part = http().get(&url).header("Range", "bytes=5-").send().await?;
        assert_eq!(part.status(), 206);
        assert_eq!(part.bytes().await?, image.config.bytes[5..]);

        registry.on_next(1, &config, Act::WrongContent);
        let wrong = get().await?.bytes().await?;
        assert_eq!(wrong.len(), image.config.bytes.len());
        assert_ne!(wrong, *image.config.bytes);
        for act in [Act::Short(3), Act::Reset(3)] {
            registry.on_next(1, &config, act);
            get().await?.bytes().await.expect_err("the connection ends too early");
        }
        registry.on_next(1, &config, Act::Stall(3));
        let stalled = tokio::time::timeout(Duration::from_millis(200), get().await?.bytes()).await;
        stalled.expect_err("nothing more comes");
        registry.on_next(1, &config, Act::Redirect("http://elsewhere.test".to_owned()));
        let redirect = get().await?;
        assert_eq!(redirect.status(), 307);
        assert_eq!(redirect.headers()["location"], format!("http://elsewhere.test{config}"));
        registry.on_next(1, &config, Act::Status(429, vec![("Retry-After".into(), "1".into())]));
        assert_eq!(get().await?.headers()["retry-after"], "1");
        registry.on_next(1, &config, Act::Slow(1_000));
        assert_eq!(get().await?.bytes().await?, *image.config.bytes);
        // Each rule was for one request.
        assert_eq!(get().await?.bytes().await?, *image.config.bytes);
        assert_eq!(registry.seen().len(), 10);
        Ok(())
    });
}

#[test]
fn a_scripted_registry_gives_tokens_to_who_knows_the_password() {
    place::native(async |_: Place| {
        let registry = Scripted::start().await?;
        registry.add("app:1", &small()?)?;
        registry.require_token(ALICE);
        let url = format!("{}/v2/app/manifests/1", registry.upstream().url);
        let refused = http().get(&url).send().await?;
        assert_eq!(refused.status(), 401);
        let challenge = refused.headers()["www-authenticate"].to_str()?;
        let realm = challenge.split('"').nth(1).expect("a realm").to_owned();
        assert_eq!(http().get(&realm).send().await?.status(), 401);

        let token = http().get(&realm).basic_auth(ALICE.user, Some(ALICE.password)).send().await?;
        let token: serde_json::Value = token.json().await?;
        let token = token["token"].as_str().expect("a token");
        assert_eq!(http().get(&url).bearer_auth(token).send().await?.status(), 200);
        let seen = registry.seen();
        let last = seen.last().expect("a request");
        assert_eq!(last.header("authorization"), Some(format!("Bearer {token}").as_str()));

        registry.on("/v2/app/manifests", Act::Unauthorized);
        assert_eq!(http().get(&url).bearer_auth(token).send().await?.status(), 401);
        Ok(())
    });
}
