//! What people do with images by `berth`: see what comes, look into them, name them, remove them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use berth_e2e::berth::{self, Berth};
use berth_e2e::client::{container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Compression, Entry, Image, Layer};
use berth_e2e::node::Node;
use berth_e2e::registry::scripted::{Act, Scripted};
use berth_e2e::{place, wait};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);

/// Bytes that no compression makes smaller.
fn noise(length: u32) -> Vec<u8> {
    (0..length / 4)
        .flat_map(|n| n.wrapping_mul(n).wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

fn image(text: &str) -> Result<Image> {
    let layer = Layer::new().with(Entry::file("story", text));
    Image::from_scratch().layer(layer).label("story", text).compression(Compression::None).build()
}

#[test]
fn a_pull_in_flight_shows_how_far_it_is_and_who_waits() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let image =
            Image::from_scratch().layer(Layer::new().with(Entry::file("f", noise(1 << 20))));
        let image = image.compression(Compression::None).build()?;
        let reference = registry.add("app:1", &image)?;
        registry.on(&image.layers[0].digest, Act::Slow(250_000));
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let berth = Berth::of(&daemon)?;
        assert_eq!(berth.json(&["pulls"]).await?, json!([]));

        let one = berth.command(&["pull", "-q", "-o", "json", &reference]).spawn()?;
        let two = berth.command(&["pull", "-q", &reference]).spawn()?;
        let seen = wait::until("bytes come, for two", LONG, async || {
            let pulls = berth.json(&["pulls"]).await?;
            let pull = pulls[0].clone();
            let is_under_way = pull["bytesPerSecond"].as_u64().is_some_and(|rate| rate > 0);
            Ok((is_under_way && pull["waiting"] == 2).then_some(pulls))
        })
        .await?;
        assert_eq!(seen.as_array().map(Vec::len), Some(1), "two clients have one pull: {seen}");
        let pull = &seen[0];
        assert_eq!((&pull["image"], &pull["phase"]), (&json!(reference), &json!("fetching")));
        assert_eq!(pull["layers"]["fetching"], 1);
        assert_eq!(pull["totalBytes"], image.layers[0].bytes.len());
        assert!(pull["etaSeconds"].as_u64().is_some_and(|eta| eta > 0), "{pull}");
        let table = berth.ok(&["pulls"]).await?;
        for said in ["IMAGE", &reference, "fetching", "0 of 1", "/s"] {
            assert!(table.contains(said), "no {said:?} in {table}");
        }
        drop((one, two));
        let outcome = berth.json(&["pull", "-q", &reference]).await?;
        assert_eq!(
            (&outcome["id"], &outcome["image"]),
            (&json!(image.config.digest), &json!(reference))
        );
        assert_eq!(berth.json(&["pulls"]).await?, json!([]));
        Ok(())
    });
}

#[test]
fn an_image_is_inspected_named_listed_and_removed() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let (berth, audit) = (Berth::of(&node.daemon)?, node.audit()?);
        let told = image("told")?;
        let reference = node.registry.push("team/told:1", &told).await?;
        berth.ok(&["pull", "-q", &reference]).await?;
        let id = told.config.digest.as_str();

        let inspected: Value =
            serde_json::from_str(&berth.ok(&["image", "inspect", &id[7..19]]).await?)?;
        assert_eq!((&inspected[0]["id"], &inspected[0]["tags"]), (&json!(id), &json!([reference])));
        assert_eq!(inspected[0]["config"]["config"]["Labels"]["story"], "told");
        assert_eq!(
            inspected[0]["layers"][0]["diffId"].as_str(),
            Some(told.layers[0].digest.as_str())
        );
        let raw = berth.ok(&["image", "inspect", "--raw", id]).await?;
        assert_eq!(raw.as_bytes(), *told.config.bytes, "the very bytes");
        let history = berth.json(&["history", &reference]).await?;
        assert_eq!(history[0]["diffId"], inspected[0]["layers"][0]["diffId"]);

        let verified = berth.ok(&["image", "verify", id, &node.image]).await?;
        assert!(verified.starts_with(&format!("{id}: verified, ")), "{verified}");
        assert_eq!(verified.lines().count(), 2, "{verified}");
        let missing = berth.run(&["image", "verify", "no/thing:1", &reference]).await?;
        assert_eq!((missing.code, missing.stdout.lines().count()), (1, 1), "{missing:?}");

        berth.ok(&["tag", &reference, "local/told", "busybox:mine"]).await?;
        let names = berth.json(&["images", "told", "--filter", "reference=local/*"]).await?;
        assert_eq!(names, json!([]), "the repository told is another one");
        let local = berth.json(&["images", "local/told"]).await?;
        assert_eq!(local[0]["id"], id);
        assert_eq!(local[0]["tags"].as_array().map(Vec::len), Some(3));
        assert_eq!(berth.ok(&["images", "-q", "busybox:mine"]).await?, format!("{id}\n"));
        let digests = berth.ok(&["images", "--digests", "*/team/told"]).await?;
        assert!(digests.contains(&told.manifest.digest), "{digests}");
        node.daemon.client().await?.image("local/told:latest").await?.context("by its new name")?;

        let several = berth.run(&["rmi", id]).await?;
        assert_eq!(several.code, 1);
        assert!(several.stderr.contains("several repositories"), "{}", several.stderr);
        let untagged = berth.ok(&["rmi", "busybox:mine"]).await?;
        assert_eq!(untagged, "Untagged: docker.io/library/busybox:mine\n");
        let gone = berth.ok(&["rmi", "-f", id]).await?;
        assert!(gone.ends_with(&format!("Deleted: {id}\n")), "{gone}");
        assert_eq!(berth.run(&["image", "inspect", id]).await?.code, 1);
        audit.assert_clean().await
    });
}

#[test]
fn a_name_moves_and_what_is_left_without_is_pruned_unless_it_is_used() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let (berth, audit) = (Berth::of(&node.daemon)?, node.audit()?);
        let (old, new) = (image("old")?, image("new")?);
        for (name, image) in [("app:old", &old), ("app:new", &new)] {
            let reference = node.registry.push(name, image).await?;
            berth.ok(&["pull", "-q", &reference]).await?;
            berth.ok(&["tag", &image.config.digest, "x/moving:1"]).await?;
        }
        let id = async || Ok::<_, anyhow::Error>(berth.ok(&["images", "-q", "x/moving:1"]).await?);
        assert_eq!(id().await?, format!("{}\n", new.config.digest));

        let used = pod("used").host_network();
        let used = node.client.run_pod(used).await?;
        used.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let refused = berth.run(&["rmi", &node.image]).await?;
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("is used by container"), "{}", refused.stderr);

        assert_eq!(berth.run(&["image", "prune"]).await?.code, 2, "nobody was there to ask");
        let none = berth.ok(&["image", "prune", "--force"]).await?;
        assert_eq!(none, "Total reclaimed space: 0 B\n");
        berth.ok(&["rmi", &node.registry.reference("app:old")]).await?;
        let all = berth.ok(&["image", "prune", "--all", "--force"]).await?;
        assert!(all.contains(&format!("Deleted: {}\n", new.config.digest)), "{all}");
        let left = berth.json(&["images"]).await?;
        assert_eq!(left.as_array().map(Vec::len), Some(1), "what a container uses: {left}");
        assert_eq!(left[0]["tags"], json!([node.image]));
        used.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn an_archive_is_loaded_as_other_engines_load_it() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let berth = Berth::of(&node.daemon)?;
        let path = place.dir("archives")?.join("app.tar");
        let told = image("loaded")?;
        std::fs::write(&path, berth_e2e::image::archive::docker("localhost/app:1", &told)?)?;
        let mut stdin = berth.command(&["load"]);
        stdin.stdin(std::fs::File::open(&path)?);
        let path = path.display().to_string();
        for command in [berth.command(&["load", "-i", &path]), stdin] {
            let loaded = berth::output(command).await?;
            assert_eq!(
                (loaded.code, loaded.stdout.as_str()),
                (0, "Loaded image: localhost/app:1\n")
            );
        }
        let refused = berth.run(&["load", "-i", "/no/such/file"]).await?;
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("/no/such/file"), "{}", refused.stderr);
        Ok(())
    });
}
