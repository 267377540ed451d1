//! Where images are fetched: every key of `hosts.toml`, `registries.conf` and its drop-ins, which
//! of them counts, and what becomes of mistakes in them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Client, Code, assert_refused};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::place::{self, Place};
use berth_e2e::registry::scripted::Scripted;
use berth_e2e::registry::{self, Registry};

fn small(text: &str) -> Result<Image> {
    Image::from_scratch().layer(Layer::new().with(Entry::file("story", text))).build()
}

/// A daemon that reads a `registries.conf` of the test's own.
struct Node {
    daemon: Daemon,
    client: Client,
    audit: Audit,
    conf: PathBuf,
}

impl Node {
    async fn start(place: &Place) -> Result<Self> {
        let conf = place.dir("containers")?.join("registries.conf");
        let setup = Setup::new(Engine::Berthd);
        let text = format!("[image]\nregistries_conf = \"{}\"\n", conf.display());
        let daemon = setup.config(&text).start(place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        Ok(Self { daemon, client, audit, conf })
    }

    fn set(&self, text: &str) -> Result<()> {
        std::fs::write(&self.conf, text).context("write registries.conf")
    }

    fn set_drop_in(&self, name: &str, text: &str) -> Result<()> {
        let directory = self.conf.with_extension("conf.d");
        std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(directory.join(name), text))
            .with_context(|| format!("write {name}"))
    }

    /// Pulls, and forgets again.
    async fn gets(&self, reference: &str, image: &Image) -> Result<()> {
        let pulled = self.client.pull(reference).await;
        assert_eq!(pulled.as_ref().ok(), Some(&image.config.digest), "{reference}: {pulled:?}");
        self.client.remove_image(&image.config.digest).await?;
        Ok(())
    }

    async fn ends_clean(self) -> Result<()> {
        for image in self.client.list_images().await? {
            self.client.remove_image(&image.id).await?;
        }
        self.audit.assert_clean().await
    }
}

#[test]
fn every_key_of_hosts_toml_does_what_it_does_in_containerd() {
    place::native(async |place| {
        let (plain, secure) =
            (Scripted::start().await?, registry::Setup::default().tls().start(&place).await?);
        let node = Node::start(&place).await?;
        let image = small("hosts")?;
        plain.add("team/app:1", &image)?;
        plain.add("api/team/app:1", &image)?;
        secure.push("team/app:1", &image).await?;
        let (http, https) = (&plain.upstream().url, &secure.upstream().url);
        let ca = secure.upstream().ca.clone().context("an authority")?;
        let ca = ca.display();
        let below = |settings: &str| format!("[host.\"{https}\"]\n{settings}\n");
        for (case, text) in [
            ("server", format!("server = \"{http}\"")),
            ("ca", format!("server = \"{https}\"\nca = \"{ca}\"")),
            ("ca of a list", below(&format!("ca = [\"{ca}\"]"))),
            ("skip_verify", below("skip_verify = true")),
            (
                "capabilities",
                below("capabilities = [\"pull\", \"resolve\", \"push\"]\nskip_verify = true"),
            ),
            ("dial_timeout", format!("[host.\"{http}\"]\ndial_timeout = \"1m30s\"")),
            ("path", format!("[host.\"{http}/v2\"]")),
            ("override_path", format!("[host.\"{http}/v2/api\"]\noverride_path = true")),
            ("unknown keys", format!("server = \"{http}\"\nfrom_the_future = true")),
        ] {
            node.daemon.set_hosts("registry.test", &text)?;
            node.gets("registry.test/team/app:1", &image).await.context(case)?;
        }
        assert!(plain.gets("/v2/api/team/app/manifests/1") == 1, "override_path");
        assert!(node.daemon.log()?.contains("line 2: from_the_future"), "unknown keys are named");

        let text =
            format!("[host.\"{http}\"]\n[host.\"{http}\".header]\nx-one = \"1\"\nx-many = [\"2\"]");
        node.daemon.set_hosts("registry.test", &text)?;
        node.gets("registry.test/team/app:1", &image).await?;
        let last = plain.seen().pop().context("a request")?;
        assert_eq!((last.header("x-one"), last.header("x-many")), (Some("1"), Some("2")));

        // Which directory is whose.
        let server = format!("server = \"{http}\"");
        for (directory, reference) in [
            ("port.test_5000_", "port.test:5000/team/app:1"),
            ("port.test:5001", "port.test:5001/team/app:1"),
            ("_default", "any.test/team/app:1"),
        ] {
            node.daemon.set_hosts(directory, &server)?;
            node.gets(reference, &image).await?;
        }
        node.daemon.set_hosts("registry.test", "server = \"https://a.test\"\nca = 7\n")?;
        let refused = node.client.pull("registry.test/team/app:1").await;
        assert_refused(refused, Code::FailedPrecondition, &["registry.test/hosts.toml", "line 2"]);
        node.gets("any.test/team/app:1", &image).await?;
        node.ends_clean().await
    });
}

#[test]
fn registries_conf_says_where_images_are() {
    place::native(async |place| {
        let (mirror, hub) = (Scripted::start().await?, Registry::start(&place).await?);
        let node = Node::start(&place).await?;
        let (image, rare) = (small("mirrored")?, small("rare")?);
        mirror.add("hub/team/app:1", &image)?;
        hub.push("theirs/app:1", &image).await?;
        hub.push("theirs/rare:1", &rare).await?;
        let (at_mirror, at_hub) = (mirror.host(), hub.host().to_owned());
        let text = format!(
            "[[registry]]\nprefix = \"*.example.test\"\nlocation = \"{at_hub}/theirs\"\ninsecure = true\n\
             [[registry]]\nprefix = \"x.example.test/team\"\nlocation = \"{at_hub}/theirs\"\n\
             insecure = true\n[[registry.mirror]]\nlocation = \"{at_mirror}/hub/team\"\n\
             insecure = true\n[[registry]]\nlocation = \"bad.test\"\nblocked = true\n"
        );
        node.set(&text)?;
        node.gets("x.example.test/team/app:1", &image).await?;
        assert_eq!(mirror.gets("/v2/hub/team/app/manifests/1"), 1);
        assert!(mirror.seen().iter().all(|request| !request.path.contains("ns=")));
        node.client.pull("x.example.test/team/rare:1").await?;
        let status =
            node.client.image("x.example.test/team/rare:1").await?.context("it is here")?;
        assert_eq!(status.repo_tags, ["x.example.test/team/rare:1"], "its name, not its place");
        node.client.remove_image(&status.id).await?;
        node.gets("y.example.test/rare:1", &rare).await?;
        let blocked = node.client.pull("bad.test/app:1").await;
        assert_refused(blocked, Code::PermissionDenied, &["bad.test/app:1", "registries.conf:12"]);
        let blocked = format!("server = \"{}\"", mirror.upstream().url);
        node.daemon.set_hosts("bad.test", &blocked)?;
        let blocked = node.client.pull("bad.test/app:1").await;
        assert_refused(blocked, Code::PermissionDenied, &["bad.test/app:1"]);

        // By tag the mirror is not asked, by digest it is.
        let only =
            text.replace("/hub/team\"\n", "/hub/team\"\npull-from-mirror = \"digest-only\"\n");
        node.set(&only)?;
        let asked = mirror.seen().len();
        node.gets("x.example.test/team/app:1", &image).await?;
        assert_eq!(mirror.seen().len(), asked);
        node.gets(&format!("x.example.test/team/app@{}", image.manifest.digest), &image).await?;
        assert!(mirror.seen().len() > asked);

        // A drop-in counts from the next pull on, and so does a mistake, for whom it concerns.
        node.set_drop_in("50.conf", "[[registry]]\nprefix = \"*.example.test\"\nblocked = true\n")?;
        let blocked = node.client.pull("y.example.test/rare:1").await;
        assert_refused(blocked, Code::PermissionDenied, &["50.conf:1"]);
        node.set_drop_in(
            "50.conf",
            "[[registry]]\nprefix = \"*.example.test\"\nblocked = \"no\"\n",
        )?;
        let refused = node.client.pull("y.example.test/rare:1").await;
        assert_refused(refused, Code::FailedPrecondition, &["50.conf: line 3: expected true"]);
        node.set_drop_in("50.conf", "# *.example.test\n[[registry\n")?;
        let refused = node.client.pull("y.example.test/rare:1").await;
        assert_refused(refused, Code::FailedPrecondition, &["50.conf: line 2"]);
        node.set_drop_in("50.conf", "# something else\n[[registry\n")?;
        node.gets("y.example.test/rare:1", &rare).await?;
        node.ends_clean().await
    });
}

#[test]
fn a_location_that_need_not_be_secure_is_asked_in_the_way_that_it_answers() {
    place::native(async |place| {
        let secure = registry::Setup::default().tls().start(&place).await?;
        let node = Node::start(&place).await?;
        let image = small("unverified")?;
        secure.push("team/app:1", &image).await?;
        let host = secure.host();
        node.set(&format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n"))?;
        node.gets(&format!("{host}/team/app:1"), &image).await?;
        let missing = node.client.pull(&format!("{host}/team/none:1")).await;
        assert_refused(missing, Code::NotFound, &["team/none:1"]);
        node.set(&format!("[[registry]]\nprefix = \"r.test\"\nlocation = \"{host}\"\n"))?;
        let ca = secure.upstream().ca.clone().context("an authority")?;
        let certs = node.daemon.dirs().certs.join(host);
        std::fs::create_dir_all(&certs)?;
        std::fs::copy(ca, certs.join("ca.crt"))?;
        node.gets("r.test/team/app:1", &image).await?;
        node.ends_clean().await
    });
}

#[test]
fn short_names_are_what_the_node_says() {
    place::native(async |place| {
        let (one, two) = (Scripted::start().await?, Scripted::start().await?);
        let node = Node::start(&place).await?;
        let (image, other) = (small("alias")?, small("second")?);
        let reference = one.add("team/app:1", &image)?;
        two.add("other:1", &other)?;
        let (first, second) = (one.host(), two.host());
        let search = format!("unqualified-search-registries = [\"{first}\", \"{second}\"]\n");
        node.set(&format!("{search}[aliases]\n\"app\" = \"{first}/team/app\"\n"))?;
        assert_eq!(node.client.pull("app:1").await?, image.config.digest);
        let status = node.client.image("app:1").await?.context("by its short name")?;
        assert_eq!(status.repo_tags, [reference]);
        assert_eq!(node.client.images_called("app:1").await?.len(), 1);
        node.client.remove_image("app:1").await?;
        assert!(node.client.list_images().await?.is_empty());

        // The first that has it, and nobody if that is not allowed.
        assert_eq!(node.client.pull("other:1").await?, other.config.digest);
        let status = node.client.image("other:1").await?.context("by its short name")?;
        assert_eq!(status.repo_tags, [format!("{second}/other:1")]);
        node.client.remove_image("other:1").await?;
        node.set(&format!("{search}short-name-mode = \"enforcing\"\n"))?;
        let refused = node.client.pull("other:1").await;
        assert_refused(refused, Code::FailedPrecondition, &["registries.conf: line 1", "other"]);
        node.ends_clean().await
    });
}
