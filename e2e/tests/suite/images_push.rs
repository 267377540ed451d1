//! Pushing: what berth sends to a registry is there for everybody, with the same id, and what the
//! registry has already is not sent.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::berth::{self, Berth};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Entry, Format, Image, Layer};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use berth_e2e::registry::{self, ALICE, MALLORY, Registry};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Bytes that no compression makes much smaller.
fn noise(length: u64) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length / 8).flat_map(next).collect()
}

/// A layer of more than one chunk, and a small one.
fn large(format: Format) -> Result<Image> {
    let large = Layer::new().with(Entry::file("large", noise(20 << 20)));
    let small = Layer::new().with(Entry::file("story", "told"));
    Image::busybox()?.layer(large).layer(small).cmd(["cat", "/story"]).format(format).build()
}

async fn skopeo_id(place: &Place, words: &[&str]) -> Result<String> {
    let mut command = Command::new(place::needs::program("skopeo")?);
    command.env("TMPDIR", place.dir("skopeo")?).args(["--insecure-policy", "inspect", "--raw"]);
    let done = berth::output({
        command.args(words);
        command
    })
    .await?;
    ensure!(done.code == 0, "{done:?}");
    let manifest: Value = serde_json::from_str(&done.stdout)?;
    Ok(manifest["config"]["digest"].as_str().context("a configuration")?.to_owned())
}

#[test]
fn what_is_pushed_is_there_for_everybody_with_the_same_id() {
    place::native(async |place| {
        let (node, other) =
            (Node::start(&place, Engine::Berthd).await?, Registry::start(&place).await?);
        let (berth, audit) = (Berth::of(&node.daemon)?, node.audit()?);
        for (format, tag) in [(Format::Oci, "oci"), (Format::Docker, "docker")] {
            let image = large(format)?;
            let id = image.config.digest.as_str();
            let origin = node.registry.push(&format!("team/app:{tag}"), &image).await?;
            berth.ok(&["pull", "-q", &origin]).await?;

            // To another repository of the same registry: nothing is sent, the manifest is the same.
            let beside = node.registry.reference(&format!("copies/app:{tag}"));
            let pushed = berth.json(&["push", "-q", &origin, &beside]).await?;
            assert_eq!(
                (&pushed["digest"], &pushed["sentBytes"]),
                (&image.manifest.digest.as_str().into(), &0.into())
            );
            let there = node.registry.manifest(&format!("copies/app:{tag}")).await?;
            assert!(there == *image.manifest.bytes, "the very manifest");

            // To another registry: all is sent, and the id is the same.
            let name = format!("new/app:{tag}");
            let target = other.reference(&name);
            berth.ok(&["tag", id, &target]).await?;
            let told = berth.run(&["push", &target]).await?;
            assert_eq!(told.code, 0, "{told:?}");
            for said in [format!("pushing {target}: 3 layers"), format!("pushed {target}: ")] {
                assert!(told.stderr.contains(&said), "no {said:?} in {}", told.stderr);
            }
            let by_digest = told.stdout.trim_end();
            assert!(
                by_digest.starts_with(&format!("{}/new/app@sha256:", other.host())),
                "{by_digest}"
            );
            let found = format!("docker://{by_digest}");
            let found = skopeo_id(&place, &["--tls-verify=false", &found]).await?;
            assert_eq!(found, id, "skopeo");
            let again = berth.json(&["push", "-q", &target]).await?;
            assert!(by_digest.ends_with(again["digest"].as_str().context("a digest")?));

            berth.ok(&["rmi", "-f", id]).await?;
            assert_eq!(berth.ok(&["pull", "-q", by_digest]).await?.trim_end(), id);
            assert_eq!(berth.ok(&["run", "--rm", by_digest]).await?, "told");
            berth.ok(&["rmi", "-f", id]).await?;
        }
        audit.assert_clean().await?;
        let containerd = Setup::new(Engine::Containerd).host(other.host(), other.upstream());
        let containerd = containerd.start(&place).await?;
        let id = containerd.client().await?.pull(&other.reference("new/app:oci")).await?;
        assert_eq!(id, large(Format::Oci)?.config.digest, "containerd");
        Ok(())
    });
}

#[test]
fn a_push_shows_its_credentials_over_tls_and_login_keeps_them() {
    place::native(async |place| {
        let private = registry::Setup::default().tls().login(ALICE).start(&place).await?;
        let auth = place.dir("auth")?;
        let config = format!("version = 1\n[credentials]\nauth_dirs = [\"{}\"]\n", auth.display());
        let setup = Setup::new(Engine::Berthd).host(private.host(), private.upstream());
        let setup = setup.config(&config);
        let node = Node::start_with(&place, setup).await?;
        let berth = Berth::of(&node.daemon)?;
        let target = private.reference("team/app:1");
        let push = async |login: Option<registry::Login>| {
            let mut command = berth.command(&["push", "-q", &node.image, &target]);
            if let Some(login) = login {
                command.env("BERTH_CREDS", format!("{}:{}", login.user, login.password));
            }
            berth::output(command).await
        };
        for login in [None, Some(MALLORY)] {
            let refused = push(login).await?;
            assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
            assert!(refused.stderr.contains("berth: push "), "{}", refused.stderr);
            assert!(refused.stderr.contains("refuses the credentials"), "{}", refused.stderr);
            assert!(!refused.stderr.contains(MALLORY.password), "{}", refused.stderr);
        }
        let pushed = push(Some(ALICE)).await?;
        assert_eq!(pushed.code, 0, "{pushed:?}");

        let file = auth.join("berth-login.json");
        let login = async |user: registry::Login| {
            let words = ["login", "-u", user.user, "--password-stdin"];
            let mut command = berth.command(&[&words[..], &[private.host()]].concat());
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let line = format!("{}\n", user.password);
            child.stdin.take().context("its input")?.write_all(line.as_bytes()).await?;
            Ok::<_, anyhow::Error>(child.wait_with_output().await?)
        };
        let refused = login(MALLORY).await?;
        assert_eq!(refused.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(stderr.contains("log in to "), "{stderr}");
        assert!(!file.exists(), "nothing is kept of what is refused");
        let taken = login(ALICE).await?;
        assert_eq!(taken.stdout, b"Login Succeeded\n", "{taken:?}");
        let kept: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        assert!(kept["auths"][private.host()]["auth"].is_string());
        // Now nobody needs to say who this node is.
        berth.ok(&["pull", "-q", &target]).await?;
        berth.ok(&["push", "-q", &target]).await?;
        let logout = berth.ok(&["logout", private.host()]).await?;
        assert_eq!(logout, format!("Removed login credentials for {}\n", private.host()));
        assert_eq!(push(None).await?.code, 1, "it is forgotten");
        let twice = berth.ok(&["logout", private.host()]).await?;
        assert_eq!(twice, format!("Not logged in to {}\n", private.host()));
        for words in [&["login", "--password-stdin", "x.test"][..], &["login", "x.test"], &["push"]]
        {
            assert_eq!(berth.run(words).await?.code, 2, "{words:?}");
        }
        Ok(())
    });
}

#[test]
fn what_cannot_be_pushed_is_said() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let berth = Berth::of(&node.daemon)?;
        let twice = Layer::new().with(Entry::file("f", "one")).with(Entry::file("f", "two"));
        let twice = Image::from_scratch().layer(twice).build()?;
        let twice = node.registry.push("twice:1", &twice).await?;
        berth.ok(&["pull", "-q", &twice]).await?;
        let other = Registry::start(&place).await?;
        let elsewhere = other.reference("twice:1");
        for (words, said) in [
            (&["push", "no/thing:1"][..], "no image \"no/thing:1\" is on this node"),
            (&["push", &node.image, "127.0.0.1:1/app:1"], "127.0.0.1:1 is unavailable"),
            (&["push", &node.image, "Not/A/Name"], "invalid image reference"),
            (&["push", &twice, &elsewhere], "\"f\" more than once"),
        ] {
            let refused = berth.run(words).await?;
            assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{words:?}");
            assert!(refused.stderr.contains(said), "{words:?}: {}", refused.stderr);
        }
        // Where its layers are already, it can be pushed as it was pulled.
        berth.ok(&["push", "-q", &twice, &node.registry.reference("copy:1")]).await?;
        Ok(())
    });
}
