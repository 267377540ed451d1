//! Registries that lie, images that contradict themselves, names that are none, disks that are
//! full: each pull fails with what was wrong, leaves nothing, and the next honest one succeeds.

use anyhow::{Context as _, Result};
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Client, Code, assert_refused, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::fault::SmallDisk;
use berth_e2e::image::{Blob, Entry, Image, Layer};
use berth_e2e::place;
use berth_e2e::registry::scripted::{Act, Scripted};
use serde_json::{Value, json};

fn small() -> Result<Image> {
    let bytes: Vec<u8> = (0..40_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    Image::from_scratch().layer(Layer::new().with(Entry::file("story", bytes))).build()
}

/// No image, no bytes, no file.
async fn nothing_is_here(client: &Client, audit: &Audit) -> Result<()> {
    assert!(client.list_images().await?.is_empty());
    let usage = client.image_fs_info().await?.image_filesystems.remove(0);
    assert_eq!(usage.inodes_used.map(|it| it.value), Some(0));
    audit.assert_clean().await
}

#[test]
fn a_registry_that_lies_is_not_believed() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let image = small()?;
        let reference = registry.add("team/app:1", &image)?;
        let [layer, config] = [&image.layers[0], &image.config].map(|blob| blob.digest.as_str());
        let tag = "/manifests/1";
        let status = |code, headers: &[(&str, &str)]| {
            let owned = headers.iter().map(|(name, value)| (name.to_string(), value.to_string()));
            Act::Status(code, owned.collect())
        };
        let an_hour = [("retry-after", "3600")];
        for (path, act, code, words) in [
            (layer, Act::WrongContent, Code::DataLoss, "layer sha256:"),
            (config, Act::WrongContent, Code::DataLoss, "expected digest sha256:"),
            (tag, Act::WrongContent, Code::DataLoss, "expected digest sha256:"),
            (layer, Act::Short(1_000), Code::Unavailable, "layer sha256:"),
            (layer, Act::Reset(1_000), Code::Unavailable, "layer sha256:"),
            (layer, status(404, &[]), Code::NotFound, "not found in registry"),
            (config, status(404, &[]), Code::NotFound, "not found in registry"),
            (tag, status(404, &[]), Code::NotFound, "team/app:1 not found in registry"),
            (tag, status(403, &[]), Code::PermissionDenied, "denies access: 403"),
            (layer, status(401, &[]), Code::Unauthenticated, "refuses the credentials"),
            (tag, status(429, &an_hour), Code::Unavailable, "429"),
            (layer, status(503, &an_hour), Code::Unavailable, "503"),
            (tag, status(418, &[]), Code::DataLoss, "418"),
            (tag, status(302, &[]), Code::DataLoss, "redirect to nowhere"),
        ] {
            registry.on(path, act.clone());
            let refused = client.pull(&reference).await;
            let message = assert_refused(refused, code, &[&registry.host(), words]);
            nothing_is_here(&client, &audit).await.with_context(|| message)?;
            registry.be_honest();
            assert_eq!(client.pull(&reference).await?, image.config.digest, "after {act:?}");
            client.remove_image(&reference).await?;
        }
        nothing_is_here(&client, &audit).await
    });
}

/// What breaks once may be an accident: it is tried again, and the client never hears of it.
#[test]
fn a_connection_that_breaks_once_is_made_again() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let image = small()?;
        let reference = registry.add("team/app:1", &image)?;
        for act in [Act::Short(1_000), Act::Reset(1_000), Act::Status(503, Vec::new())] {
            registry.on_next(1, "/blobs/", act.clone());
            assert_eq!(client.pull(&reference).await?, image.config.digest, "after {act:?}");
            client.remove_image(&reference).await?;
        }
        nothing_is_here(&client, &audit).await
    });
}

/// Images of which each blob is what its digest says, and which are wrong all the same.
fn contradictions() -> Result<Vec<(Image, Code, &'static str)>> {
    let sized = |change: fn(&mut Value)| small()?.changed(|_| {}, change);
    let resize = |value: &mut Value, by: i64| {
        *value = json!(value.as_i64().unwrap_or_default() + by);
    };
    let other = |config: fn(&mut Value)| small()?.changed(config, |_| {});
    let mut garbage = small()?;
    garbage.layers[0] = Blob::new(garbage.layers[0].media_type, b"neither gzip nor tar".to_vec());
    Ok(vec![
        (sized(|it| it["layers"][0]["size"] = json!(7))?, Code::DataLoss, "expected 7 bytes"),
        (
            small()?.changed(|_| {}, |it| resize(&mut it["layers"][0]["size"], 1))?,
            Code::DataLoss,
            "bytes, got",
        ),
        (
            small()?.changed(|_| {}, |it| resize(&mut it["config"]["size"], -1))?,
            Code::DataLoss,
            "config ",
        ),
        (
            other(|it| it["rootfs"]["diff_ids"][0] = json!(format!("sha256:{:064}", 1)))?,
            Code::DataLoss,
            "diff id of layer sha256:",
        ),
        (other(|it| it["rootfs"]["diff_ids"] = json!([]))?, Code::DataLoss, "layers"),
        (other(|it| *it = json!("no config"))?, Code::DataLoss, "config "),
        (garbage.changed(|_| {}, |_| {})?, Code::DataLoss, "unpack layer sha256:"),
        (
            sized(|it| it["layers"][0]["mediaType"] = json!("application/x-lha"))?,
            Code::FailedPrecondition,
            "application/x-lha",
        ),
        (sized(|it| it["layers"][0]["digest"] = json!("md5:12"))?, Code::DataLoss, "manifest "),
        (sized(|it| it["schemaVersion"] = json!(1))?, Code::FailedPrecondition, "schema"),
        (sized(|it| *it = json!([]))?, Code::DataLoss, "manifest "),
    ])
}

#[test]
fn an_image_that_contradicts_itself_is_refused() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        for (image, code, words) in contradictions()? {
            let reference = registry.add("team/app:1", &image)?;
            let refused = client.pull(&reference).await;
            let message = assert_refused(refused, code, &[words]);
            nothing_is_here(&client, &audit).await.with_context(|| message)?;
        }
        let image = small()?;
        assert_eq!(client.pull(&registry.add("team/app:1", &image)?).await?, image.config.digest);
        client.remove_image(&image.config.digest).await?;
        nothing_is_here(&client, &audit).await
    });
}

#[test]
fn what_is_no_reference_is_refused_before_anybody_is_asked() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let [long_tag, long_name] = ["t".repeat(129), "n".repeat(1 << 20)];
        let long_tag = format!("app:{long_tag}");
        for odd in [
            "team/Upper",
            "with space",
            "http://registry.test/app",
            "app@sha256:1234",
            "../app",
            "-app",
            "app:",
            "app:-x",
            "app@",
            "a\nb",
            "a\0b",
            "app::1",
            "registry.test//app",
            &long_tag,
            &long_name,
            &"0".repeat(64),
        ] {
            let message = assert_refused(client.pull(odd).await, Code::InvalidArgument, &[]);
            assert!(message.contains("reference") && message.len() < 2_000, "{message}");
        }
        for odd in ["team/Upper", "app:-x"] {
            assert_refused(client.image(odd).await, Code::InvalidArgument, &[odd]);
            assert_refused(client.remove_image(odd).await, Code::InvalidArgument, &[odd]);
        }
        assert_refused(client.pull("").await, Code::InvalidArgument, &["image.image is missing"]);
        assert_refused(client.image("").await, Code::InvalidArgument, &["image.image is missing"]);
        nothing_is_here(&client, &audit).await
    });
}

#[test]
fn a_full_disk_is_said_and_left_as_it_was() {
    place::native(async |place| {
        let disk = SmallDisk::tmpfs(&place, 4 << 20)?;
        let registry = Scripted::start().await?;
        let daemon = Setup::new(Engine::Berthd).root(disk.dir()).start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let huge = Layer::new().with(Entry::file("huge", vec![1; 5 << 20]));
        let huge = registry.add("huge:1", &Image::from_scratch().layer(huge).build()?)?;
        let fitting = registry.add("fitting:1", &Image::busybox()?.build()?)?;
        let before = disk.free()?;
        for _ in 0..2 {
            let refused = client.pull(&huge).await;
            assert_refused(refused, Code::ResourceExhausted, &["layer sha256:", "no space left"]);
            nothing_is_here(&client, &audit).await?;
            assert_eq!(disk.free()?, before);
        }
        disk.fill(0)?;
        let refused = client.pull(&fitting).await;
        assert_refused(refused, Code::ResourceExhausted, &["no space left"]);
        disk.relieve()?;
        nothing_is_here(&client, &audit).await?;

        client.pull(&fitting).await?;
        let pod = client.run_pod(pod("fits").host_network()).await?;
        let ended = pod.run(container("fits").image(&fitting).cmd(["true"])).await?;
        assert_eq!(ended.wait_for_exit().await?.exit_code, 0);
        pod.delete().await?;
        client.remove_image(&fitting).await?;
        nothing_is_here(&client, &audit).await
    });
}

/// As a file system becomes after an error of its disk.
#[test]
fn a_disk_that_cannot_be_written_is_said() {
    place::native(async |place| {
        let disk = SmallDisk::tmpfs(&place, 12 << 20)?;
        let registry = Scripted::start().await?;
        let daemon = Setup::new(Engine::Berthd).root(disk.dir()).start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let reference = registry.add("app:1", &small()?)?;
        disk.set_read_only(true)?;
        let root = disk.dir().to_string_lossy().into_owned();
        let refused = client.pull(&reference).await;
        assert_refused(refused, Code::Internal, &[&root, "Read-only file system"]);
        disk.set_read_only(false)?;
        nothing_is_here(&client, &audit).await?;
        client.pull(&reference).await?;
        client.remove_image(&reference).await?;
        nothing_is_here(&client, &audit).await
    });
}
