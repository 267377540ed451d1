//! Credentials of the node: files of `docker login`, helpers, the kubelet's providers. Against a
//! registry with a password, and a mirror that wants another one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Client, Code, assert_refused};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::place::{self, Place};
use berth_e2e::registry::scripted::Scripted;
use berth_e2e::registry::{self, ALICE, MALLORY, Registry};
use serde_json::json;

fn small(text: &str) -> Result<Image> {
    Image::from_scratch().layer(Layer::new().with(Entry::file("story", text))).build()
}

/// A daemon whose node has credentials.
struct Node {
    daemon: Daemon,
    client: Client,
    audit: Audit,
    dir: PathBuf,
}

impl Node {
    async fn start(place: &Place) -> Result<Self> {
        let dir = place.dir("credentials")?;
        for name in ["auth.d", "bin"] {
            std::fs::create_dir(dir.join(name))?;
        }
        let at = dir.display();
        let text = format!(
            "[credentials]\nauth_dirs = [\"{at}/auth.d\"]\nhelper_dirs = [\"{at}/bin\"]\n\
             provider_config = \"{at}/providers.yaml\"\nprovider_dirs = [\"{at}/bin\"]\n\
             timeout = \"1s\"\n"
        );
        let daemon = Setup::new(Engine::Berthd).config(&text).start(place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        Ok(Self { daemon, client, audit, dir })
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.dir.join(path);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        let mode =
            std::fs::Permissions::from_mode(if text.starts_with("#!") { 0o755 } else { 0o600 });
        std::fs::set_permissions(&path, mode).context("change a mode")
    }

    fn remove(&self, path: &str) -> Result<()> {
        std::fs::remove_file(self.dir.join(path)).with_context(|| format!("remove {path}"))
    }

    async fn gets(&self, reference: &str, image: &Image) -> Result<()> {
        let pulled = self.client.pull(reference).await;
        assert_eq!(pulled.as_ref().ok(), Some(&image.config.digest), "{reference}: {pulled:?}");
        self.client.remove_image(&image.config.digest).await?;
        Ok(())
    }

    async fn ends_clean(self) -> Result<()> {
        let log = self.daemon.log()?;
        for secret in [ALICE.password, MALLORY.password] {
            assert!(!log.contains(secret), "a password in the log");
        }
        self.audit.assert_clean().await
    }
}

fn auths(entries: &[(&str, registry::Login)]) -> String {
    let entry =
        |login: &registry::Login| json!({"username": login.user, "password": login.password});
    let entries = entries.iter().map(|(key, login)| ((*key).to_owned(), entry(login)));
    json!({ "auths": entries.collect::<serde_json::Map<_, _>>() }).to_string()
}

#[test]
fn files_of_a_login_are_found_by_host_and_path_and_read_anew() {
    place::native(async |place| {
        let registry = registry::Setup::default().login(ALICE).start(&place).await?;
        let node = Node::start(&place).await?;
        let image = small("secret")?;
        let reference = registry.push("team/app:1", &image).await?;
        let host = registry.host();
        let nobody = node.client.pull(&reference).await;
        assert_refused(nobody, Code::Unauthenticated, &[host]);
        node.write("auth.d/10.json", &auths(&[(host, ALICE)]))?;
        node.gets(&reference, &image).await?;
        // What is longer counts, and what a client sends counts more.
        let team = format!("{host}/team");
        node.write("auth.d/20.json", &auths(&[(&team, MALLORY)]))?;
        let wrong = node.client.pull(&reference).await;
        assert_refused(wrong, Code::Unauthenticated, &[host]);
        assert_eq!(node.client.pull_as(&reference, ALICE).await?, image.config.digest);
        node.client.remove_image(&reference).await?;
        node.remove("auth.d/20.json")?;
        let wrong = node.client.pull_as(&reference, MALLORY).await;
        assert_refused(wrong, Code::Unauthenticated, &[host]);
        // A broken file is named and passed over; one that is open to all is told of.
        node.write("auth.d/05.json", "{\"auths\": \"secret\"")?;
        let open = node.dir.join("auth.d/10.json");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644))?;
        node.gets(&reference, &image).await?;
        let log = node.daemon.log()?;
        assert!(log.contains("05.json: line 1"), "the broken file is named");
        assert!(log.contains("10.json can be read by every user"), "the open file is named");
        node.ends_clean().await
    });
}

#[test]
fn a_mirror_is_shown_what_is_filed_for_it_alone() {
    place::native(async |place| {
        let (mirror, origin) = (Scripted::start().await?, Scripted::start().await?);
        let node = Node::start(&place).await?;
        let image = small("mirrored")?;
        mirror.add("team/app:1", &image)?;
        mirror.require_token(ALICE);
        let urls = (origin.upstream().url, mirror.upstream().url);
        node.daemon
            .set_hosts("r.test", &format!("server = \"{}\"\n[host.\"{}\"]\n", urls.0, urls.1))?;
        node.write("auth.d/10.json", &auths(&[(&origin.host(), ALICE), ("r.test", ALICE)]))?;
        assert!(node.client.pull("r.test/team/app:1").await.is_err());
        assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_none()));
        node.write("auth.d/20.json", &auths(&[(&mirror.host(), ALICE)]))?;
        node.gets("r.test/team/app:1", &image).await?;
        node.ends_clean().await
    });
}

const HELPER: &str = "#!/bin/sh\nread -r it\ntest \"$1 $it\" = \"get HOST\" || exit 1\n\
                      echo '{\"ServerURL\":\"\",\"Username\":\"USER\",\"Secret\":\"PASSWORD\"}'\n";

fn filled(text: &str, registry: &Registry) -> String {
    let text = text.replace("HOST", registry.host());
    text.replace("USER", ALICE.user).replace("PASSWORD", ALICE.password)
}

#[test]
fn helpers_of_docker_are_asked() {
    place::native(async |place| {
        let registry = registry::Setup::default().login(ALICE).start(&place).await?;
        let node = Node::start(&place).await?;
        let image = small("secret")?;
        let reference = registry.push("team/app:1", &image).await?;
        let file = json!({"credHelpers": {registry.host(): "test"}}).to_string();
        node.write("auth.d/10.json", &file)?;
        let nobody = node.client.pull(&reference).await;
        assert_refused(nobody, Code::Unauthenticated, &[registry.host()]);
        for script in ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho garbage\n", "#!/bin/sh\nsleep 600\n"]
        {
            node.write("bin/docker-credential-test", script)?;
            let nobody = node.client.pull(&reference).await;
            assert_refused(nobody, Code::Unauthenticated, &[registry.host()]);
        }
        assert!(node.daemon.log()?.contains("docker-credential-test has not ended within 1s"));
        node.write("bin/docker-credential-test", &filled(HELPER, &registry))?;
        node.gets(&reference, &image).await?;
        node.write("auth.d/10.json", "{\"credsStore\": \"test\"}")?;
        node.gets(&reference, &image).await?;
        node.ends_clean().await
    });
}

const PROVIDER: &str = "#!/bin/sh\ncat >> \"$(dirname \"$0\")/asked\"\n\
    test \"$1 $GREETING\" = \"--now hello\" || exit 1\n\
    echo '{\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Registry\",\
    \"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\"cacheDuration\":\"1h\",\
    \"auth\":{\"HOST\":{\"username\":\"USER\",\"password\":\"PASSWORD\"}}}'\n";

#[test]
fn the_kubelets_credential_providers_are_asked_in_their_order() {
    place::native(async |place| {
        let registry = registry::Setup::default().login(ALICE).start(&place).await?;
        let node = Node::start(&place).await?;
        let image = small("secret")?;
        let reference = registry.push("team/app:1", &image).await?;
        let provider = |name: &str, more: &str| {
            format!(
                "- name: {name}\n  matchImages: [\"127.0.*.*:{}\"]\n  defaultCacheDuration: 0s\n  \
                 apiVersion: credentialprovider.kubelet.k8s.io/v1\n{more}",
                registry.host().rsplit(':').next().unwrap_or_default()
            )
        };
        let file = format!(
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n{}{}{}",
            provider("crashes", ""),
            provider("missing", ""),
            provider("works", "  args: [\"--now\"]\n  env: [{name: GREETING, value: hello}]\n"),
        );
        node.write("bin/crashes", "#!/bin/sh\nkill -9 $$\n")?;
        node.write("bin/works", &filled(PROVIDER, &registry))?;
        let nobody = node.client.pull(&reference).await;
        assert_refused(nobody, Code::Unauthenticated, &[registry.host()]);
        node.write("providers.yaml", &file)?;
        node.gets(&reference, &image).await?;
        node.gets(&reference, &image).await?;
        let asked = std::fs::read_to_string(node.dir.join("bin/asked"))?;
        assert_eq!(asked.matches("CredentialProviderRequest").count(), 1, "{asked}");
        assert!(asked.contains(&format!("{}/team/app", registry.host())), "{asked}");
        let log = node.daemon.log()?;
        assert!(log.contains("credential provider crashes") && log.contains("provider missing"));
        node.ends_clean().await
    });
}
