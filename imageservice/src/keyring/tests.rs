//! Files, helpers and providers, and which of them counts.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;
use url::Url;

use super::*;
use crate::credentials::Secret;

/// A node's files.
struct Node {
    directory: TempDir,
    config: NodeCredentials,
    keyring: Keyring,
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let config = NodeCredentials {
            auth_dirs: vec![directory.path().join("missing"), dir("auth.d")],
            helper_dirs: vec![dir("helpers")],
            provider_config: Some(directory.path().join("providers.yaml")),
            provider_dirs: vec![dir("providers")],
            timeout: Duration::from_secs(20),
        };
        Self { directory, config, keyring: Keyring::default() }
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        std::fs::write(self.directory.path().join(path), text).unwrap();
        self
    }

    fn program(&self, path: &str, script: &str) -> &Self {
        self.write(path, &format!("#!/bin/sh\n{script}\n"));
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.directory.path().join(path), mode).unwrap();
        self
    }

    /// What the node has for a repository, as `user:password` or the kind of a token.
    async fn find(&self, base: &str, repository: &str) -> Option<String> {
        let place = Place::new(&Url::parse(base).unwrap(), repository);
        let tasks = TaskTracker::new();
        let found = self.keyring.find(&self.config, &place, &tasks).await?;
        assert!(found.belong_to(&Url::parse(base).unwrap(), "elsewhere.test"), "{base}");
        assert!(!found.belong_to(&Url::parse("https://elsewhere.test").unwrap(), "elsewhere.test"));
        Some(match found.secret {
            Secret::Basic { username, password } => format!("{username}:{password}"),
            Secret::IdentityToken(token) => format!("identity {token}"),
            Secret::RegistryToken(token) => format!("registry {token}"),
        })
    }
}

#[tokio::test]
async fn the_longest_key_of_all_files_counts() {
    let node = Node::new();
    node.write(
        "auth.d/10.json",
        r#"{"auths": {"r.test": {"auth": "aG9zdDp4"}, "r.test/team/app": {"username": "app", "password": "x"},
            "t.test": {"identitytoken": "it", "auth": "aG9zdDp4"}, "u.test": {"registrytoken": "rt"},
            "empty.test": {}, "https://index.docker.io/v1/": {"auth": "aHViOng="}}}"#,
    )
    .write(
        "auth.d/20.json",
        r#"{"auths": {"r.test/team": {"username": "team", "password": "x"},
            "r.test": {"username": "late", "password": "x"}, "m.test:5000": {"auth": "bWlycm9yOng="}}}"#,
    )
    .write("auth.d/30.json", "{broken")
    .write("auth.d/.40.json", r#"{"auths": {"hidden.test": {"auth": "aG9zdDp4"}}}"#)
    .write("auth.d/50.json.bak", r#"{"auths": {"hidden.test": {"auth": "aG9zdDp4"}}}"#);
    for (base, repository, expected) in [
        ("https://r.test/v2/", "other/app", Some("host:x")),
        ("https://r.test/v2/", "team/web", Some("team:x")),
        ("https://r.test/v2/", "team/app", Some("app:x")),
        ("https://r.test/v2/", "team/apple", Some("team:x")),
        ("https://r.test:5000/v2/", "team/app", None),
        ("http://m.test:5000/v2/", "team/app", Some("mirror:x")),
        ("https://t.test/v2/", "team/app", Some("identity it")),
        ("https://u.test/v2/", "team/app", Some("registry rt")),
        ("https://empty.test/v2/", "team/app", None),
        ("https://hidden.test/v2/", "team/app", None),
        ("https://registry-1.docker.io/v2/", "library/app", Some("hub:x")),
    ] {
        assert_eq!(node.find(base, repository).await.as_deref(), expected, "{base} {repository}");
    }
    // Read anew.
    node.write("auth.d/05.json", r#"{"auths": {"r.test": {"username": "new", "password": "x"}}}"#);
    assert_eq!(node.find("https://r.test/v2/", "other/app").await.as_deref(), Some("new:x"));
}

#[tokio::test]
async fn helpers_are_asked_for_what_is_theirs() {
    let node = Node::new();
    let say =
        r#"read -r it; echo "{\"ServerURL\":\"$it\",\"Username\":\"$1\",\"Secret\":\"$it\"}""#;
    node.program("helpers/docker-credential-say", say)
        .program(
            "helpers/docker-credential-token",
            "echo '{\"Username\":\"<token>\",\"Secret\":\"it\"}'",
        )
        .program(
            "helpers/docker-credential-none",
            "echo credentials not found in native keychain; exit 1",
        )
        .program("helpers/docker-credential-bad", "echo secret; echo secret >&2; exit 2");
    let absolute = node.directory.path().join("helpers/docker-credential-say");
    let file = format!(
        r#"{{"auths": {{"none.test": {{"auth": "aG9zdDp4"}}, "bad.test": {{"auth": "aG9zdDp4"}}}},
            "credHelpers": {{"say.test": "say", "absolute.test": "{}", "token.test": "token",
            "none.test": "none", "bad.test": "bad", "gone.test": "gone", "up.test": "../say"}}}}"#,
        absolute.display()
    );
    node.write("auth.d/10.json", &file);
    for (host, expected) in [
        ("say.test", Some("get:say.test")),
        ("absolute.test", Some("get:absolute.test")),
        ("token.test", Some("identity it")),
        ("none.test", Some("host:x")),
        ("bad.test", Some("host:x")),
        ("gone.test", None),
        ("up.test", None),
        ("other.test", None),
    ] {
        let found = node.find(&format!("https://{host}/v2/"), "app").await;
        assert_eq!(found.as_deref(), expected, "{host}");
    }
    node.write("auth.d/20.json", r#"{"credsStore": "say", "auths": {"other.test": {}}}"#);
    for (base, expected) in [
        ("https://other.test:5000/v2/", "get:other.test:5000"),
        ("https://registry-1.docker.io/v2/", "get:https://index.docker.io/v1/"),
    ] {
        assert_eq!(node.find(base, "app").await.as_deref(), Some(expected));
    }
}

const PROVIDERS: &str = r#"
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: crash
    matchImages: ["*.test"]
    defaultCacheDuration: 1h
    apiVersion: credentialprovider.kubelet.k8s.io/v1
  - name: count
    matchImages:
      - "*.count.test"
      - "count.test:5000/team"
    defaultCacheDuration: "12h"
    apiVersion: credentialprovider.kubelet.k8s.io/v1
    args: [TYPE]
    env:
      - name: USER_NAME
        value: robot
  - name: wrong
    matchImages: ["*"]
    defaultCacheDuration: 1h
    apiVersion: credentialprovider.kubelet.k8s.io/v9
"#;

const COUNT: &str = r#"
cd "$(dirname "$0")"
cat >> asked; echo >> asked
count=$(wc -l < asked)
echo "{\"kind\":\"CredentialProviderResponse\",\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",
\"cacheKeyType\":\"$1\",\"auth\":{\"*.count.test\":{\"username\":\"$USER_NAME\",\"password\":\"$count\"},
\"*.count.test/team\":{\"username\":\"team\",\"password\":\"$count\"},
\"count.test:5000\":{\"username\":\"port\",\"password\":\"$count\"}}DURATION}"
"#;

#[tokio::test]
async fn providers_are_asked_once_for_what_they_let_be_remembered() {
    let x = "https://x.count.test/v2/";
    let y = "https://y.count.test/v2/";
    for (kind, expected) in [
        ("Image", ["robot:1", "robot:1", "robot:2", "robot:3", "team:4"]),
        ("Registry", ["robot:1", "robot:1", "robot:1", "robot:2", "team:1"]),
        ("Global", ["robot:1", "robot:1", "robot:1", "robot:1", "team:1"]),
    ] {
        let node = Node::new();
        node.write("providers.yaml", &PROVIDERS.replace("TYPE", kind))
            .program("providers/crash", "kill -9 $$")
            .program("providers/count", &COUNT.replace("DURATION", ""));
        let asked = [(x, "a"), (x, "a"), (x, "b"), (y, "b"), (x, "team/a")];
        for ((base, repository), expected) in asked.into_iter().zip(expected) {
            let found = node.find(base, repository).await;
            assert_eq!(found.as_deref(), Some(expected), "{kind} {base} {repository}");
        }
        let log = std::fs::read_to_string(node.directory.path().join("providers/asked")).unwrap();
        let request: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        assert_eq!(
            request,
            serde_json::json!({
                "kind": "CredentialProviderRequest",
                "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
                "image": "x.count.test/a",
            })
        );
        assert_eq!(node.find("https://count.test/v2/", "team/a").await, None);
        assert_eq!(node.find("https://count.test:5000/v2/", "other").await, None);
        let found = node.find("https://count.test:5000/v2/", "team/a").await.unwrap();
        assert!(found.starts_with("port:"), "{found}");
    }
    let node = Node::new();
    node.write("providers.yaml", &PROVIDERS.replace("TYPE", "Global")).program(
        "providers/count",
        &COUNT.replace("DURATION", ",\\\"cacheDuration\\\":\\\"0s\\\""),
    );
    for expected in ["robot:1", "robot:2"] {
        assert_eq!(node.find(x, "a").await.as_deref(), Some(expected));
    }
    // A file counts before any provider, and a provider that hangs is given up.
    node.write("auth.d/a.json", r#"{"auths": {"x.count.test": {"auth": "aG9zdDp4"}}}"#);
    assert_eq!(node.find(x, "a").await.as_deref(), Some("host:x"));
    let mut node = Node::new();
    node.config.timeout = Duration::from_millis(300);
    node.write("providers.yaml", &PROVIDERS.replace("TYPE", "Global"))
        .program("providers/crash", "sleep 600")
        .program("providers/count", "sleep 600");
    assert_eq!(node.find(x, "a").await, None);
}

#[test]
fn images_match_part_by_part() {
    use super::provider_config::{duration, matches_image};
    for (pattern, name, expected) in [
        ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu.amazonaws.com/a", true),
        ("*.io", "x.k8s.io/a", false),
        ("k8s.*", "k8s.io/a", true),
        ("app*.k8s.io", "app7.k8s.io/a", true),
        ("r.io:8080/path", "r.io:8080/path/a", true),
        ("r.io:8080/path", "r.io/path/a", false),
        ("r.io", "r.io:8080/a", false),
        ("r.io/b", "r.io/a", false),
        ("*", "r.io/a", false),
        ("R.io", "r.io/a", true),
    ] {
        assert_eq!(matches_image(pattern, name), expected, "{pattern} {name}");
    }
    assert_eq!(duration("1h30m0s"), Some(Duration::from_secs(5400)));
    assert_eq!((duration("0s"), duration("0")), (Some(Duration::ZERO), Some(Duration::ZERO)));
    assert_eq!((duration(""), duration("1"), duration("1d")), (None, None, None));
}

#[tokio::test]
async fn what_is_open_to_all_is_warned_of_once() {
    let node = Node::new();
    node.write("auth.d/a.json", "{}").write("auth.d/b.json", "{}");
    let path = node.directory.path().join("auth.d/b.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let place = Place::new(&Url::parse("https://r.test/v2/").unwrap(), "app");
    let (_, exposed) = read_all(&node.config.auth_dirs, &place);
    assert_eq!(exposed, [node.directory.path().join("auth.d/a.json")]);
    node.keyring.warn(exposed.clone());
    node.keyring.warn(exposed);
    assert_eq!(node.keyring.warned.lock().unwrap().len(), 1);
}

#[test]
fn no_mistake_repeats_a_secret() {
    for text in ["{\"auths\": {\"a\": \"secret\"}}", "{secret", "{\"auths\": \"secret\"}"] {
        let error = AuthFile::parse(text.as_bytes()).err().unwrap();
        assert!(!error.contains("secret") && error.contains("line 1"), "{error}");
    }
}
