//! Pulling: every form that an image comes in, from a real registry, and what CRI tells of it.

use anyhow::Result;
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Client, Code, assert_refused, container, pod};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Compression, Entry, Format, Image, ImageBuilder, Index, Layer};
use berth_e2e::place::{self, Place};
use berth_e2e::registry::Registry;
use berth_e2e::registry::scripted::{Act, Scripted};

async fn daemon(place: &Place, registry: &Registry) -> Result<Daemon> {
    let setup = Setup::new(Engine::Berthd).host(registry.host(), registry.upstream());
    setup.start(place).await
}

/// A small image that no other `text` makes.
fn small(text: &str) -> ImageBuilder {
    Image::from_scratch().layer(Layer::new().with(Entry::file("story", text)))
}

async fn remove_all(client: &Client) -> Result<()> {
    for image in client.list_images().await? {
        client.remove_image(&image.id).await?;
    }
    assert!(client.list_images().await?.is_empty());
    Ok(())
}

#[test]
fn every_format_and_compression_is_pulled_by_tag_and_by_digest() {
    const FORMS: [(Format, Compression); 5] = [
        (Format::Oci, Compression::None),
        (Format::Oci, Compression::Gzip),
        (Format::Oci, Compression::Zstd),
        (Format::Docker, Compression::None),
        (Format::Docker, Compression::Gzip),
    ];
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let daemon = daemon(&place, &registry).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let pod = client.run_pod(pod("reader").host_network()).await?;
        for (number, (format, compression)) in FORMS.into_iter().enumerate() {
            let text = format!("{format:?} {compression:?}");
            let layer = Layer::new().with(Entry::file("story", text.as_str()));
            let image = Image::busybox()?.layer(layer).format(format).compression(compression);
            let (image, name) = (image.build()?, format!("form{number}"));
            let by_tag = registry.push(&format!("{name}:1"), &image).await?;
            let by_digest = format!("{}/{name}@{}", registry.host(), image.manifest.digest);

            assert_eq!(client.pull(&by_tag).await?, image.config.digest, "{text}");
            let reader = container(&name).image(&by_tag).cmd(["cat", "/story"]);
            let reader = pod.run(reader).await?;
            assert_eq!(reader.wait_for_exit().await?.exit_code, 0, "{text}");
            assert_eq!(reader.log_text()?.trim_end(), text.trim_end());
            reader.remove().await?;

            client.remove_image(&by_tag).await?;
            assert_eq!(client.pull(&by_digest).await?, image.config.digest, "{text}");
            let status = client.image(&by_digest).await?.expect("it is here");
            assert_eq!((status.repo_tags, status.repo_digests), (vec![], vec![by_digest]));
        }
        pod.delete().await?;
        remove_all(&client).await?;
        audit.assert_clean().await
    });
}

#[test]
fn of_an_index_the_nodes_own_platform_is_taken() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let daemon = daemon(&place, &registry).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        for (name, format) in [("oci", Format::Oci), ("docker", Format::Docker)] {
            let foreign = |architecture, variant| {
                small(architecture).format(format).platform("linux", architecture, variant).build()
            };
            let own = small(name).format(format).build()?;
            let others = [foreign("s390x", None)?, foreign("arm", Some("v6"))?];
            let index = Index::new(format, [&others[..], std::slice::from_ref(&own)].concat())?;
            let reference = registry.push_index(&format!("{name}:1"), &index).await?;
            assert_eq!(client.pull(&reference).await?, own.config.digest);
            let digests = client.image(&reference).await?.expect("it is here").repo_digests;
            assert_eq!(digests, [format!("{}/{name}@{}", registry.host(), index.manifest.digest)]);

            let index = Index::new(format, others.to_vec())?;
            let reference = registry.push_index(&format!("{name}:foreign"), &index).await?;
            let words = [reference.as_str(), "linux/"];
            assert_refused(client.pull(&reference).await, Code::FailedPrecondition, &words);
        }
        remove_all(&client).await?;
        audit.assert_clean().await
    });
}

#[test]
fn what_an_image_is_like_is_told_by_status_and_list() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let daemon = daemon(&place, &registry).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let users = [("", None, ""), ("1000", Some(1000), ""), ("1000:50", Some(1000), "")];
        let users = [&users[..], &[("0", Some(0), ""), ("alice", None, "alice")]].concat();
        for (number, (user, uid, username)) in users.iter().enumerate() {
            let image = small(&"x".repeat(9_000)).user(user).build()?;
            let reference = registry.push(&format!("user{number}:1"), &image).await?;
            client.pull(&reference).await?;
            let status = client.image(&reference).await?.expect("it is here");
            assert_eq!(status.id, image.config.digest);
            assert_eq!(status.repo_tags, [reference.as_str()]);
            let digest = &image.manifest.digest;
            let by_digest = format!("{}/user{number}@{digest}", registry.host());
            assert_eq!(status.repo_digests, [by_digest.as_str()]);
            assert!((9_000..100_000).contains(&status.size), "{}", status.size);
            assert_eq!(status.uid.as_ref().map(|uid| uid.value), *uid, "{user:?}");
            assert_eq!(status.username, *username, "{user:?}");
            let hex = image.config.hex();
            for name in [&by_digest, &image.config.digest, hex, &hex[..12]] {
                let found = client.images_called(name).await?;
                assert_eq!(found, std::slice::from_ref(&status), "{name}");
            }
        }
        assert_eq!(client.list_images().await?.len(), users.len());
        for unknown in ["nobody/has:this", &"0".repeat(64), &format!("a@sha256:{:064}", 0)] {
            assert_eq!(client.image(unknown).await?, None);
            assert!(client.images_called(unknown).await?.is_empty());
        }
        let usage = client.image_fs_info().await?.image_filesystems.remove(0);
        let value = |it: Option<berth_e2e::client::cri::UInt64Value>| it.map_or(0, |it| it.value);
        assert!(value(usage.used_bytes) >= 9_000 && value(usage.inodes_used) >= 2);
        let mountpoint = usage.fs_id.expect("an id").mountpoint;
        assert!(std::path::Path::new(&mountpoint).starts_with(&daemon.dirs().root));
        remove_all(&client).await?;
        let usage = client.image_fs_info().await?.image_filesystems.remove(0);
        assert_eq!((value(usage.used_bytes), value(usage.inodes_used)), (0, 0));
        audit.assert_clean().await
    });
}

#[test]
fn an_image_is_removed_by_any_name_and_stays_for_who_uses_it() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let daemon = daemon(&place, &registry).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let image = Image::busybox()?.build()?;
        let one = registry.push("app:1", &image).await?;
        let two = registry.push("app:2", &image).await?;
        for reference in [&one, &two] {
            assert_eq!(client.pull(reference).await?, image.config.digest);
        }
        let status = client.image(&one).await?.expect("it is here");
        assert_eq!(status.repo_tags, [one.as_str(), &two]);

        let pod = client.run_pod(pod("user").host_network()).await?;
        let user = pod.run(container("user").image(&one).cmd(["sleep", "inf"])).await?;
        for _ in 0..2 {
            client.remove_image(&one).await?;
            assert_eq!(client.image(&two).await?, None, "all names go");
        }
        assert_eq!(user.shell("cat /etc/passwd | head -n 1 | cut -d: -f1").await?, "root\n");
        let refused = pod.create(container("late").image(&one)).await;
        assert_refused(refused, Code::NotFound, &[&one]);
        pod.delete().await?;
        client.remove_image("never/was:here").await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_tag_that_moves_takes_its_name_along() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let daemon = daemon(&place, &registry).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let (old, new) = (small("old").build()?, small("new").build()?);
        let reference = registry.push("app:latest", &old).await?;
        client.pull(&reference).await?;
        registry.push("app:latest", &new).await?;
        assert_eq!(client.image(&reference).await?.expect("still here").id, old.config.digest);
        assert_eq!(client.pull(&reference).await?, new.config.digest);

        assert_eq!(client.image(&reference).await?.expect("the new").id, new.config.digest);
        let left = client.image(&old.config.digest).await?.expect("the old");
        let by_digest = format!("{}/app@{}", registry.host(), old.manifest.digest);
        assert_eq!((left.repo_tags, left.repo_digests), (vec![], vec![by_digest]));
        remove_all(&client).await?;
        audit.assert_clean().await
    });
}

/// Clients that ask for one image at one time share one pull, which goes on without them.
#[test]
fn pulls_of_one_image_join_and_outlive_their_clients() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let image = small("slow").build()?;
        let reference = registry.add("app:1", &image)?;
        registry.on_next(1, &image.layers[0].digest, Act::Slow(400));
        let impatient = std::time::Duration::from_millis(50);
        tokio::time::timeout(impatient, client.pull(&reference)).await.expect_err("it is slow");
        let pull = || client.pull(&reference);
        let (one, two, three) = tokio::join!(pull(), pull(), pull());
        for pulled in [one, two, three] {
            assert_eq!(pulled?, image.config.digest);
        }
        for asked in ["/manifests/", &image.config.digest, &image.layers[0].digest] {
            assert_eq!(registry.gets(asked), 1, "{asked}");
        }
        remove_all(&client).await?;
        audit.assert_clean().await
    });
}

#[test]
fn what_is_here_is_not_fetched_again() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let base = Layer::new().with(Entry::file("base", vec![b'b'; 20_000]));
        let on_base = |text: &str| {
            let image = Image::from_scratch().layer(base.clone());
            image.layer(Layer::new().with(Entry::file("top", text))).build()
        };
        let images = [on_base("one")?, on_base("two")?, on_base("three")?];
        let mut names = Vec::new();
        for (number, image) in images.iter().enumerate() {
            names.push(registry.add(&format!("app{number}:1"), image)?);
        }
        let shared = &images[0].layers[0].digest;
        registry.on_next(1, shared, Act::Slow(100_000));
        let (one, two) = tokio::join!(client.pull(&names[0]), client.pull(&names[1]));
        assert_eq!([one?, two?], [&images[0], &images[1]].map(|image| image.config.digest.clone()));
        client.pull(&names[2]).await?;
        assert_eq!(registry.gets(shared), 1, "by two pulls at one time, and a later one");

        let before = registry.gets("/blobs/");
        client.pull(&names[0]).await?;
        assert_eq!(registry.gets("/blobs/"), before, "an image that is here");
        client.remove_image(&names[0]).await?;
        assert_eq!(client.pull(&names[0]).await?, images[0].config.digest);
        assert_eq!(registry.gets(shared), 1, "others still had it");
        remove_all(&client).await?;
        audit.assert_clean().await
    });
}
