//! Which images may be here and run: signatures in a real registry, verifier programs that agree,
//! refuse, hang and crash, and policies that change under images that are here already.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Client, Code, Status, assert_refused, container, image_mount, pod};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Blob, Entry, Image, Index, Layer};
use berth_e2e::place::{self, Place};
use berth_e2e::registry::Registry;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};
use serde_json::{Value, json};

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const FAILED: &str = "SignatureValidationFailed: image ";

/// A daemon with a policy of the test's own.
struct Node {
    daemon: Daemon,
    client: Client,
    audit: Audit,
    dir: PathBuf,
}

impl Node {
    async fn start(place: &Place, more: &str) -> Result<Self> {
        let dir = place.dir("trust")?;
        let at = dir.display();
        let text = format!(
            "[trust]\npolicy_file = \"{at}/policy.toml\"\n{}",
            more.replace("DIR", &at.to_string())
        );
        let daemon = Setup::new(Engine::Berthd).config(&text).start(place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        Ok(Self { daemon, client, audit, dir })
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().context("a directory")?)?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .context("change a mode")
    }

    /// Rules of scope and requirement, in this order.
    fn policy(&self, rules: &[(&str, &str)]) -> Result<()> {
        let rule = |(scope, rest): &(&str, &str)| {
            format!("[[image_policy]]\nscope = \"{scope}\"\nrequire = {rest}\n")
        };
        self.write("policy.toml", &rules.iter().map(rule).collect::<String>())
    }

    /// Makes a container of an image that is here, and throws it away.
    async fn runs(&self, image: &str) -> Result<(), Status> {
        let pod = self.client.run_pod(pod("trusting").host_network()).await?;
        let created = pod.create(container("trusted").image(image)).await;
        pod.delete().await.map_err(|error| Status::internal(error.to_string()))?;
        created.map(drop)
    }

    async fn ends_clean(self) -> Result<()> {
        for image in self.client.list_images().await? {
            self.client.remove_image(&image.id).await?;
        }
        self.audit.assert_clean().await
    }
}

fn app(text: &str) -> Result<Image> {
    Image::busybox()?.layer(Layer::new().with(Entry::file("story", text))).build()
}

fn says(repository: &str, digest: &str) -> Value {
    json!({"critical": {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }, "optional": {"creator": "berth-e2e"}})
}

/// What cosign attaches: payloads, each with a signature.
fn attached(signed: &[(Vec<u8>, Vec<u8>)]) -> Result<Image> {
    let mut image = Image::from_scratch().build()?;
    image.layers = signed.iter().map(|(it, _)| Blob::new(PAYLOAD, it.clone())).collect();
    image.changed(
        |_| {},
        |manifest| {
            for (layer, (_, signature)) in signed.iter().enumerate() {
                manifest["layers"][layer]["annotations"] =
                    json!({"dev.cosignproject.cosign/signature": STANDARD.encode(signature)});
            }
        },
    )
}

fn sign(key: &KeyPair, payload: &Value) -> Result<(Vec<u8>, Vec<u8>)> {
    let payload = serde_json::to_vec(payload)?;
    let signature = key.sign(&payload)?;
    Ok((payload, signature))
}

fn tag(repository: &str, digest: &str) -> String {
    format!("{repository}:{}.sig", digest.replace(':', "-"))
}

#[test]
fn only_what_a_known_key_has_signed_is_pulled() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let node = Node::start(&place, "").await?;
        let (key, other) = (KeyPair::generate()?, KeyPair::generate_for(&PKCS_ED25519)?);
        node.write("key.pem", &key.public_key_pem())?;
        node.write("other.pem", &other.public_key_pem())?;
        let team = format!("{}/team", registry.host());
        node.policy(&[("*", "\"accept\""), (&team, "\"signature\"\nkeys = [\"key.pem\"]")])?;
        let image = app("signed")?;
        let reference = registry.push("team/app:1", &image).await?;
        let digest = &image.manifest.digest;
        let repository = registry.reference("team/app");
        let good = sign(&key, &says(&repository, digest))?;
        let mut tampered = good.clone();
        tampered.0.push(b' ');
        let a = format!("{:0>64}", 'a');
        let foreign = sign(&key, &says(&repository, &format!("sha256:{a}")))?;
        let elsewhere = sign(&key, &says("registry.test/other", digest))?;
        for (case, signatures, reason) in [
            ("none", None, "no signature"),
            ("empty", Some(vec![]), "no signature"),
            (
                "another key",
                Some(vec![sign(&other, &says(&repository, digest))?]),
                "none of the keys",
            ),
            ("tampered", Some(vec![tampered.clone()]), "none of the keys"),
            ("another image", Some(vec![foreign.clone()]), "another image"),
            ("another name", Some(vec![elsewhere]), "another name"),
        ] {
            if let Some(signatures) = signatures {
                registry.push(&tag("team/app", digest), &attached(&signatures)?).await?;
            }
            let refused = node.client.pull(&reference).await;
            let message = assert_refused(refused, Code::Unknown, &[&reference, reason]);
            assert!(message.starts_with(FAILED), "{case}: {message}");
            assert!(node.client.list_images().await?.is_empty(), "{case}");
        }
        // A good one among bad ones, and another name that asks for nothing.
        let all = attached(&[tampered, foreign, good])?;
        registry.push(&tag("team/app", digest), &all).await?;
        assert_eq!(node.client.pull(&reference).await?, image.config.digest);
        node.runs(&reference).await?;
        node.client.remove_image(&reference).await?;
        let free = registry.push("free/app:1", &image).await?;
        node.client.pull(&free).await?;
        node.runs(&free).await?;
        // By any of several keys, of any of the kinds.
        node.policy(&[("*", "\"signature\"\nkeys = [\"key.pem\", \"other.pem\"]")])?;
        let by_other = sign(&other, &says(&registry.reference("free/app"), digest))?;
        assert_refused(node.runs(&free).await, Code::Unknown, &[&free, "no signature"]);
        registry.push(&tag("free/app", digest), &attached(&[by_other])?).await?;
        node.runs(&free).await?;
        node.client.pull(&free).await?;
        node.runs(&free).await?;
        node.ends_clean().await
    });
}

#[test]
fn an_image_of_several_platforms_is_signed_as_a_whole() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let node = Node::start(&place, "").await?;
        let key = KeyPair::generate()?;
        node.write("key.pem", &key.public_key_pem())?;
        node.policy(&[(
            "*",
            "\"signature\"\nkeys = [\"key.pem\"]\nidentity = \"build.test/app\"",
        )])?;
        let image = app("indexed")?;
        let index = Index::new(berth_e2e::image::Format::Oci, vec![image.clone()])?;
        let reference = registry.push_index("team/app:1", &index).await?;
        assert_refused(node.client.pull(&reference).await, Code::Unknown, &["no signature"]);
        let digest = &index.manifest.digest;
        let signed = attached(&[sign(&key, &says("build.test/app", digest))?])?;
        registry.push(&tag("team/app", digest), &signed).await?;
        assert_eq!(node.client.pull(&reference).await?, image.config.digest);
        for name in [&reference, &image.config.digest] {
            node.runs(name).await?;
        }
        node.ends_clean().await
    });
}

#[test]
fn a_policy_counts_for_images_that_are_here_already() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let mut node = Node::start(&place, "").await?;
        let (key, other) = (KeyPair::generate()?, KeyPair::generate()?);
        let image = app("pulled before")?;
        let reference = registry.push("team/app:1", &image).await?;
        let digest = &image.manifest.digest;
        let signed = sign(&key, &says(&registry.reference("team/app"), digest))?;
        registry.push(&tag("team/app", digest), &attached(&[signed])?).await?;
        node.client.pull(&reference).await?;
        node.runs(&reference).await?;
        node.policy(&[(registry.host(), "\"reject\"")])?;
        let message = assert_refused(
            node.runs(&reference).await,
            Code::Unknown,
            &[&reference, "policy.toml:1"],
        );
        assert!(message.starts_with(FAILED), "{message}");
        assert_refused(node.runs(&image.config.digest).await, Code::Unknown, &["policy.toml:1"]);
        assert_refused(node.client.pull(&reference).await, Code::Unknown, &["policy.toml:1"]);

        // Signatures that nobody asked for at the pull are looked for, and kept: then no registry
        // need be there.
        node.write("key.pem", &key.public_key_pem())?;
        node.policy(&[("*", "\"signature\"\nkeys = [\"key.pem\"]")])?;
        let hosts = format!("server = \"{}\"\n", registry.upstream().url);
        node.daemon.set_hosts(registry.host(), "server = \"http://127.0.0.1:1\"\n")?;
        assert_refused(node.runs(&reference).await, Code::Unknown, &["no signature"]);
        node.daemon.set_hosts(registry.host(), &hosts)?;
        node.runs(&reference).await?;
        node.daemon.kill().await?;
        node.daemon.set_hosts(registry.host(), "server = \"http://127.0.0.1:1\"\n")?;
        node.daemon.start().await?;
        node.client = node.daemon.client().await?;
        node.runs(&reference).await?;
        node.write("key.pem", &other.public_key_pem())?;
        assert_refused(node.runs(&reference).await, Code::Unknown, &["none of the keys"]);

        // A policy that is wrong accepts nothing.
        node.daemon.set_hosts(registry.host(), &hosts)?;
        for (text, reason) in [
            ("[[image_policy]]\nscope = \"*\"\nrequire = \"accept\"\nkey = \"x\"\n", "line 4"),
            (
                "[[image_policy]]\nscope = \"*\"\nrequire = \"signature\"\nkeys = [\"gone\"]\n",
                "gone",
            ),
        ] {
            node.write("policy.toml", text)?;
            assert_refused(node.runs(&reference).await, Code::Unknown, &[reason]);
            assert_refused(node.client.pull(&reference).await, Code::Unknown, &[reason]);
        }
        node.policy(&[])?;
        node.runs(&reference).await?;
        node.ends_clean().await
    });
}

#[test]
fn a_policy_counts_for_volumes_too() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let node = Node::start(&place, "").await?;
        let app = registry.push("team/app:1", &app("of volumes")?).await?;
        let data = registry.push("data/model:1", &self::app("of data")?).await?;
        for image in [&app, &data] {
            node.client.pull(image).await?;
        }
        node.policy(&[(&format!("{}/data", registry.host()), "\"reject\"")])?;
        let pod = node.client.run_pod(pod("p").host_network()).await?;
        let mounting = || container("c").image(&app).image_mount(image_mount(&data, "/data"));
        let message = assert_refused(
            pod.create(mounting()).await,
            Code::Unknown,
            &["data/model", "policy.toml:1"],
        );
        assert!(message.starts_with(FAILED), "{message}");
        node.policy(&[])?;
        pod.create(mounting()).await?;
        pod.delete().await?;
        node.ends_clean().await
    });
}

const VERIFIERS: &str =
    "verifier_dir = \"DIR/verifiers\"\nverifier_timeout = \"1s\"\nmax_verifiers = 2\n";
const AGREES: &str =
    "#!/bin/sh\necho \"$@\" >> \"${0%/*}/../asked\"\ncat >> \"${0%/*}/../asked\"\n";

#[test]
fn verifiers_have_to_agree_all_of_them() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let node = Node::start(&place, VERIFIERS).await?;
        let image = app("verified")?;
        let reference = registry.push("team/app:1", &image).await?;
        let refused = node.client.pull(&reference).await;
        assert_refused(refused, Code::Unknown, &[FAILED, "verifiers: No such file"]);
        node.write("verifiers/10-agrees", AGREES)?;
        for (script, reason) in [
            ("#!/bin/sh\necho not on a Friday; exit 1\n", "not on a Friday"),
            ("#!/bin/sh\nkill -9 $$\n", "signal: 9"),
            ("#!/bin/sh\nsleep 600\n", "has not ended within 1s"),
            ("#!/nowhere/at/all\n", "start "),
        ] {
            node.write("verifiers/20-other", script)?;
            let refused = node.client.pull(&reference).await;
            assert_refused(refused, Code::Unknown, &[FAILED, "20-other", reason]);
            assert!(node.client.list_images().await?.is_empty(), "{reason}");
        }
        node.write("verifiers/20-other", "#!/bin/sh\nyes | head -c 1000000\n")?;
        node.client.pull(&reference).await?;
        let asked = std::fs::read_to_string(node.dir.join("asked"))?;
        let (digest, size) = (&image.manifest.digest, image.manifest.bytes.len());
        let last = asked.lines().last().context("a call")?;
        let call = format!(
            "-name {reference} -digest {digest} -stdin-media-type application/vnd.oci.descriptor.v1+json"
        );
        assert!(asked.lines().any(|line| line.ends_with(&call)), "{asked}");
        let descriptor = last.split("-name").next().unwrap_or_default();
        let descriptor: Value = serde_json::from_str(descriptor).context("a descriptor")?;
        assert_eq!((&descriptor["digest"], &descriptor["size"]), (&json!(digest), &json!(size)));

        // A yes is remembered, until the verifiers are others.
        node.runs(&reference).await?;
        node.client.pull(&reference).await?;
        assert_eq!(std::fs::read_to_string(node.dir.join("asked"))?, asked);
        node.write("verifiers/20-other", "#!/bin/sh\necho no more; exit 1\n")?;
        assert_refused(node.runs(&reference).await, Code::Unknown, &[FAILED, "no more"]);
        node.write("verifiers/30-third", AGREES)?;
        assert_refused(node.runs(&reference).await, Code::Unknown, &["3 image verifiers"]);
        node.ends_clean().await
    });
}
