//! Where images come from: names in short, mirrors, authorities, passwords and tokens.

use std::time::Duration;

use anyhow::Result;
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Client, Code, assert_refused};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::registry::scripted::{Act, Scripted};
use berth_e2e::registry::{self, ALICE, MALLORY, Registry};
use berth_e2e::{place, wait};

fn small(text: &str) -> Result<Image> {
    Image::from_scratch().layer(Layer::new().with(Entry::file("story", text))).build()
}

async fn ends_clean(client: &Client, audit: &Audit) -> Result<()> {
    for image in client.list_images().await? {
        client.remove_image(&image.id).await?;
    }
    audit.assert_clean().await
}

async fn begin(daemon: &Daemon) -> Result<(Client, Audit)> {
    Ok((daemon.client().await?, Audit::begin(Scope::of(daemon))?))
}

#[test]
fn a_short_name_is_docker_hubs() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let setup = Setup::new(Engine::Berthd).host("docker.io", registry.upstream());
        let daemon = setup.start(&place).await?;
        let (client, audit) = begin(&daemon).await?;
        let image = small("hub")?;
        registry.push("library/app:latest", &image).await?;
        registry.push("team/app:1.0", &image).await?;
        let pinned = format!("app:latest@{}", image.manifest.digest);
        let digest = format!("docker.io/library/app@{}", image.manifest.digest);
        for (short, tags) in [
            ("app", vec!["docker.io/library/app:latest"]),
            ("docker.io/app:latest", vec!["docker.io/library/app:latest"]),
            ("index.docker.io/library/app", vec!["docker.io/library/app:latest"]),
            ("team/app:1.0", vec!["docker.io/team/app:1.0"]),
            (&pinned, vec![]),
        ] {
            assert_eq!(client.pull(short).await?, image.config.digest, "{short}");
            let status = client.image(short).await?.expect("it is here");
            assert_eq!(status.repo_tags, tags, "{short}");
            client.remove_image(short).await?;
        }
        client.pull("app").await?;
        assert_eq!(client.image(&digest).await?.expect("by digest").id, image.config.digest);
        ends_clean(&client, &audit).await
    });
}

/// The order of `hosts.toml`: one that is down, one that lacks the image, one that has it, and
/// the registry itself last.
#[test]
fn mirrors_are_asked_in_order_and_the_registry_last() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let (empty, full) = (Registry::start(&place).await?, Scripted::start().await?);
        let origin = Scripted::start().await?;
        let (client, audit) = begin(&daemon).await?;
        let (mirrored, only_there) = (small("mirrored")?, small("only at the origin")?);
        full.add("team/app:1", &mirrored)?;
        origin.add("team/app:1", &small("never asked for")?)?;
        origin.add("team/rare:1", &only_there)?;
        let hosts = ["http://127.0.0.1:1", &empty.upstream().url, &full.upstream().url];
        let mirrors = hosts.map(|host| format!("[host.\"{host}\"]\n"));
        let text = format!("server = \"{}\"\n{}", origin.upstream().url, mirrors.concat());
        daemon.set_hosts("registry.test", &text)?;

        assert_eq!(client.pull("registry.test/team/app:1").await?, mirrored.config.digest);
        assert!(origin.seen().is_empty());
        assert!(full.seen().iter().all(|request| request.path.contains("ns=registry.test")));
        assert_eq!(client.pull("registry.test/team/rare:1").await?, only_there.config.digest);
        let tags = client.image("registry.test/team/rare:1").await?.expect("it is here").repo_tags;
        assert_eq!(tags, ["registry.test/team/rare:1"], "a mirror's name is nowhere");
        let missing = client.pull("registry.test/team/none:1").await;
        assert_refused(missing, Code::NotFound, &["registry.test/team/none:1"]);

        // Read anew at every pull, mistakes included.
        daemon.set_hosts("registry.test", "server = 7\n")?;
        let refused = client.pull("registry.test/team/app:1").await;
        assert_refused(refused, Code::FailedPrecondition, &["registry.test/hosts.toml: line 1"]);
        ends_clean(&client, &audit).await
    });
}

#[test]
fn a_registry_over_https_wants_an_authority_and_a_password() {
    place::native(async |place| {
        let registry = registry::Setup::default().tls().login(ALICE).start(&place).await?;
        let (host, upstream) = (registry.host().to_owned(), registry.upstream().clone());
        let daemon = Setup::new(Engine::Berthd).host(&host, &upstream).start(&place).await?;
        let (client, audit) = begin(&daemon).await?;
        let image = small("secret")?;
        let reference = registry.push("team/app:1", &image).await?;

        let nobody = client.pull(&reference).await;
        assert_refused(nobody, Code::Unauthenticated, &[&reference, &host]);
        let wrong = client.pull_as(&reference, MALLORY).await;
        let message = assert_refused(wrong, Code::Unauthenticated, &[&reference, &host]);
        assert!(!message.contains(MALLORY.password), "{message}");
        assert_eq!(client.pull_as(&reference, ALICE).await?, image.config.digest);
        // What one client may see, another still may not.
        let nobody = client.pull(&reference).await;
        assert_refused(nobody, Code::Unauthenticated, &[&host]);

        let untrusted = registry::Upstream { ca: None, ..upstream };
        daemon.set_hosts(&host, &untrusted.hosts_toml())?;
        let refused = client.pull_as(&reference, ALICE).await;
        assert_refused(refused, Code::FailedPrecondition, &[&reference, &host, "certificate"]);
        assert!(!daemon.log()?.contains(ALICE.password), "a password in the log");
        ends_clean(&client, &audit).await
    });
}

#[test]
fn a_token_is_fetched_for_who_knows_the_password() {
    place::native(async |place| {
        let (registry, store) = (Scripted::start().await?, Scripted::start().await?);
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let (client, audit) = begin(&daemon).await?;
        let image = small("secret")?;
        let (reference, host) = (registry.add("team/app:1", &image)?, registry.host());
        store.add("team/app:1", &image)?;
        registry.require_token(ALICE);
        let nobody = client.pull(&reference).await;
        assert_refused(nobody, Code::Unauthenticated, &[&reference, &host]);
        let wrong = client.pull_as(&reference, MALLORY).await;
        assert_refused(wrong, Code::Unauthenticated, &[&reference, &host]);

        // Large registries keep their blobs elsewhere, and sign the way there.
        registry.on("/blobs/", Act::Redirect(store.upstream().url));
        assert_eq!(client.pull_as(&reference, ALICE).await?, image.config.digest);
        assert_eq!(store.gets("/blobs/"), 2);
        let shown = store.seen().iter().any(|seen| seen.header("authorization").is_some());
        assert!(!shown, "the token is the registry's alone");

        registry.on("/manifests/", Act::Status(403, Vec::new()));
        client.remove_image(&reference).await?;
        let denied = client.pull_as(&reference, ALICE).await;
        assert_refused(denied, Code::PermissionDenied, &[&reference, &host]);
        ends_clean(&client, &audit).await
    });
}

/// Who asks for what somebody else is just getting does not share it, but is asked who they are.
#[test]
fn a_pull_is_shared_only_with_the_same_credentials() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let (client, audit) = begin(&daemon).await?;
        let image = small("secret")?;
        let (reference, host) = (registry.add("team/app:1", &image)?, registry.host());
        registry.require_token(ALICE);
        let layer = &image.layers[0].digest;
        registry.on_next(1, layer, Act::Slow(200));
        let others = async {
            wait::until("the layer is under way", Duration::from_secs(10), async || {
                Ok((registry.gets(layer) > 0).then_some(()))
            })
            .await?;
            let nobody = client.pull(&reference).await;
            assert_refused(nobody, Code::Unauthenticated, &[&reference, &host]);
            let wrong = client.pull_as(&reference, MALLORY).await;
            assert_refused(wrong, Code::Unauthenticated, &[&reference, &host]);
            Ok::<_, anyhow::Error>(())
        };
        let (pulled, others) = tokio::join!(client.pull_as(&reference, ALICE), others);
        others?;
        assert_eq!(pulled?, image.config.digest);
        ends_clean(&client, &audit).await
    });
}
