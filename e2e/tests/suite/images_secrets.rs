//! T-PULL-3: what a client or an operator entrusts to berth for a registry is shown to that registry
//! and to nobody else: not to clients, not in a log of any level, not in metrics, not on disk.

use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::berth::Berth;
use berth_e2e::client::cri::AuthConfig;
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::place;
use berth_e2e::registry::ALICE;
use berth_e2e::registry::scripted::{Act, Scripted};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const METRICS: &str = "127.0.0.1:9810";
const SIGNATURE: &str = "X-Amz-Signature=a-signed-way-in";
const HEADER: &str = "a-header-of-the-operator";
const IDENTITY: &str = "an-identity-token";
const REGISTRY: &str = "a-registry-token";
/// What the scripted token server gives.
const TOKEN: &str = "a-token-of-the-harness";

fn secrets() -> Vec<String> {
    let basic = format!("{}:{}", ALICE.user, ALICE.password);
    let basic = base64::engine::general_purpose::STANDARD.encode(basic);
    let texts = [ALICE.password, &basic, TOKEN, SIGNATURE, HEADER, IDENTITY, REGISTRY];
    texts.map(str::to_owned).to_vec()
}

/// Every way of saying who one is.
fn credentials() -> Vec<AuthConfig> {
    let basic = AuthConfig {
        username: ALICE.user.to_owned(),
        password: ALICE.password.to_owned(),
        ..Default::default()
    };
    let text = format!("{}:{}", ALICE.user, ALICE.password);
    let auth = base64::engine::general_purpose::STANDARD.encode(text);
    vec![
        basic,
        AuthConfig { auth, ..Default::default() },
        AuthConfig { identity_token: IDENTITY.to_owned(), ..Default::default() },
        AuthConfig { registry_token: REGISTRY.to_owned(), ..Default::default() },
    ]
}

/// Ways to fail, after the client has shown what it has.
fn faults(other: &Scripted) -> Vec<(&'static str, Act)> {
    let said = format!(r#"{{"errors":[{{"code":"DENIED","message":"{}"}}]}}"#, ALICE.password);
    let elsewhere = |url: String| Act::Signed(307, url, SIGNATURE.to_owned());
    vec![
        ("/manifests/", Act::Status(500, Vec::new())),
        ("/manifests/", Act::Say(403, Vec::new(), said.into_bytes())),
        ("/manifests/", Act::Unauthorized),
        ("/blobs/", elsewhere(other.upstream().url)),
        ("/blobs/", elsewhere("http://127.0.0.1:1".to_owned())),
        ("/blobs/", elsewhere(format!("https://{}", other.host()))),
        ("/blobs/", elsewhere("http://user:pass@[".to_owned())),
        ("/blobs/", Act::Reset(10)),
        ("/token", Act::Status(500, Vec::new())),
        ("/token", Act::Say(200, Vec::new(), format!("{{\"token\":\"{TOKEN}\\n\"}}").into_bytes())),
        ("/token", Act::Raw(TOKEN.as_bytes().to_vec())),
    ]
}

/// Everything that is written below a directory.
fn written(dir: &Path, into: &mut Vec<u8>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => written(&path, into),
            Ok(kind) if kind.is_file() => into.extend(std::fs::read(&path).unwrap_or_default()),
            _ => {}
        }
    }
}

async fn metrics() -> Result<String> {
    let mut stream = TcpStream::connect(METRICS).await.context("connect to the metrics")?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context("read the metrics")?;
    Ok(answer)
}

async fn all_that_is_told(daemon: &Daemon) -> Result<Vec<(&'static str, String)>> {
    let (mut state, mut root) = (Vec::new(), Vec::new());
    written(&daemon.dirs().state, &mut state);
    written(&daemon.dirs().root, &mut root);
    let berth = Berth::of(daemon)?;
    Ok(vec![
        ("the log", daemon.log()?),
        ("the metrics", metrics().await?),
        ("the state", String::from_utf8_lossy(&state).into_owned()),
        ("the root", String::from_utf8_lossy(&root).into_owned()),
        ("info", berth.ok(&["info", "-o", "json"]).await?),
    ])
}

#[test]
fn no_secret_of_a_registry_is_told_to_anybody() {
    place::native(async |place| {
        let (registry, other) = (Scripted::start().await?, Scripted::start().await?);
        let layer = Layer::new().with(Entry::file("story", "told"));
        let image = Image::from_scratch().layer(layer).build()?;
        let reference = registry.add("team/app:1", &image)?;
        registry.require_token(ALICE);
        // All that its libraries have to say, too.
        let daemon = Setup::new(Engine::Berthd)
            .env("BERTH_LOG", "trace")
            .config(&format!("version = 1\n[metrics]\nlisten = \"{METRICS}\"\n"))
            .start(&place)
            .await?;
        let url = registry.upstream().url;
        let hosts = format!("[host.\"{url}\"]\n[host.\"{url}\".header]\nx-team = \"{HEADER}\"\n");
        daemon.set_hosts(&registry.host(), &hosts)?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);

        let mut messages = String::new();
        for (path, act) in faults(&other) {
            // A busy registry is asked five times, which one kind of credentials is enough for.
            let is_slow = matches!(act, Act::Status(500, _) | Act::Reset(_) | Act::Raw(_));
            for auth in credentials().into_iter().take(if is_slow { 1 } else { 4 }) {
                registry.be_honest();
                registry.on(path, act.clone());
                if let Err(status) = client.pull_with(&reference, Some(auth)).await {
                    messages += &format!("{status:?}\n");
                }
                client.remove_image(&reference).await?;
            }
        }
        registry.be_honest();
        client.pull_as(&reference, ALICE).await?;

        let seen = |text: &str| registry.seen().iter().any(|it| format!("{it:?}").contains(text));
        for shown in [TOKEN, HEADER, REGISTRY] {
            assert!(seen(shown), "the registry itself is shown {shown}");
        }
        assert!(other.seen().iter().any(|it| it.path.contains(SIGNATURE)), "the way was taken");
        assert!(daemon.log()?.contains(" TRACE "), "libraries have their say");
        let mut told = all_that_is_told(&daemon).await?;
        told.push(("the messages", messages));
        for (place, text) in told {
            assert!(!text.is_empty(), "{place} is empty");
            for secret in secrets() {
                let at = text.find(&secret).map(|at| at.saturating_sub(200));
                let around = at.map(|at| text.get(at..at + 400).unwrap_or_default());
                assert_eq!(around, None, "{secret} in {place}");
            }
        }
        client.remove_image(&reference).await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_proxy_is_used_where_it_should_be() {
    place::native(async |place| {
        let (proxy, direct) = (Scripted::start().await?, Scripted::start().await?);
        let layer = Layer::new().with(Entry::file("story", "told"));
        let image = Image::from_scratch().layer(layer).build()?;
        let near = direct.add("team/app:1", &image)?;
        let user = format!("http://proxy-user:{}@{}", ALICE.password, proxy.host());
        let daemon = Setup::new(Engine::Berthd)
            .env("HTTP_PROXY", &user)
            .env("HTTPS_PROXY", &user)
            .env("NO_PROXY", "near.test,10.0.0.0/8")
            .start(&place)
            .await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);

        // A proxy is asked for whole URLs; this one answers 404 to all of them.
        daemon.set_hosts("far.test", "server = \"http://far.test\"\n")?;
        client.pull("far.test/team/app:1").await.expect_err("nothing is there");
        let asked = proxy.seen();
        assert!(asked[0].path.starts_with("http://far.test/v2/team/app/manifests/1"), "{asked:?}");
        assert!(asked[0].header("proxy-authorization").is_some());
        assert_eq!(asked.len(), 1);

        // Over TLS it is asked for a tunnel, without a word of what goes through it.
        client.pull("secure.test/team/app:1").await.expect_err("nothing is there");
        let asked = proxy.seen().split_off(1);
        assert!(asked.iter().all(|it| it.method == "CONNECT" && it.path == "secure.test:443"));
        assert!(!asked.is_empty());

        // Neither this machine nor what is excepted goes through it.
        let before = proxy.seen().len();
        assert_eq!(client.pull(&near).await?, image.config.digest);
        daemon.set_hosts("near.test", "server = \"http://near.test\"\n")?;
        client.pull("near.test/team/app:1").await.expect_err("nobody knows that name");
        assert_eq!(proxy.seen().len(), before);
        assert!(!daemon.log()?.contains(ALICE.password), "the proxy's password in the log");
        client.remove_image(&near).await?;
        audit.assert_clean().await
    });
}
