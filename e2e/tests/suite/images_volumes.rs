//! Images and artifacts as volumes (KEP-4639): what is in them, read-only, in a container.

use anyhow::Result;
use berth_e2e::canary::{Canary, UNTOUCHED};
use berth_e2e::client::{Code, assert_refused, container, image_mount, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::image::{Blob, Entry, Image, Layer};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use serde_json::{Value, json};

const FIRST: u32 = 131_072;

async fn node(place: &Place) -> Result<Node> {
    Node::start(place, Engine::Berthd).await
}

/// Two layers: the upper one hides a file of the lower one, and adds to its directory.
fn data() -> Result<Image> {
    let below = Layer::new()
        .with(Entry::dir("data"))
        .with(Entry::file("data/low", "low").owner(7, 8))
        .with(Entry::file("data/gone", "gone"))
        .with(Entry::file("tool", "#!/bin/sh\necho it runs\n").mode(0o4755));
    let above = Layer::new()
        .with(Entry::whiteout("data/gone"))
        .with(Entry::dir("data/sub:1,2"))
        .with(Entry::file("data/sub:1,2/high", "high"))
        .with(Entry::symlink("data/out", "../../../../../.."))
        .with(Entry::symlink("data/here", "sub:1,2"));
    Image::from_scratch().layer(below).layer(above).build()
}

/// What `oras push` would make of files: no rootfs, and layers that are files by their titles.
fn artifact(layers: &[(&str, &str, &str)]) -> Result<Image> {
    let mut image = Image::from_scratch().build()?;
    let blobs: Vec<Blob> = layers
        .iter()
        .map(|(_, _, content)| Blob::new("application/octet-stream", content.as_bytes().to_vec()))
        .collect();
    let described: Vec<Value> = layers
        .iter()
        .zip(&blobs)
        .map(|((title, media_type, _), blob)| {
            let mut layer = blob.descriptor();
            layer["mediaType"] = (*media_type).into();
            layer["annotations"] = json!({ "org.opencontainers.image.title": title });
            layer
        })
        .collect();
    image.layers = blobs;
    image.changed(
        |config| *config = json!({}),
        |manifest| {
            manifest["artifactType"] = "application/vnd.test.model".into();
            manifest["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into();
            manifest["layers"] = described.into();
        },
    )
}

#[test]
fn an_image_is_mounted_read_only_and_stays_while_it_is() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let reference = node.registry.push("data:1", &data()?).await?;
        let audit = node.audit()?;
        let id = node.client.pull(&reference).await?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = container("app")
            .image(&node.image)
            .cmd(["sleep", "inf"])
            .image_mount(image_mount(&id, "/all"))
            .image_mount(
                image_mount(&reference, "/part").sub_path("data/sub:1,2").option("noexec"),
            );
        let app = pod.run(app).await?;
        let told = app.shell("ls /all/data /part; cat /all/data/low /part/high; /all/tool").await?;
        let listed = "/all/data:\nhere\nlow\nout\nsub:1,2\n\n/part:\nhigh\n";
        assert_eq!(told, format!("{listed}lowhighit runs\n"));
        let mounts = app.shell("grep -E ' /(all|part) ' /proc/mounts").await?;
        for (mount, options) in mounts.lines().zip(["ro,nosuid,nodev,", "ro,nosuid,nodev,noexec,"])
        {
            assert!(mount.contains(options), "{mount}");
        }
        for command in ["touch /all/x", "rm /all/tool", "mount -o remount,rw /all"] {
            assert_ne!(app.exec(["sh", "-c", command]).await?.code, 0, "{command}");
        }

        // As of an image that a container runs from, the name goes and the files stay.
        node.client.remove_image(&reference).await?;
        assert!(node.client.image(&reference).await?.is_none());
        assert_eq!(app.shell("cat /all/data/low").await?, "low");
        node.kill_and_restart().await?;
        let (app, pod) = (node.client.container(&app.id), node.client.pod(&pod.id));
        assert_eq!(app.shell("cat /part/high").await?, "high");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// T-ROOT-4, the subtests of containerd's `TestImageVolumeBasic` among them.
#[test]
fn a_sub_path_does_not_leave_its_image() {
    place::native(async |place| {
        let (node, canary) = (node(&place).await?, Canary::new(&place)?);
        let reference = node.registry.push("data:1", &data()?).await?;
        node.client.pull(&reference).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let outside = format!("data/out{}", canary.path().display());
        for (sub_path, words) in [
            ("/data", "path escapes from parent"),
            ("data/../../..", "path escapes from parent"),
            ("..", "path escapes from parent"),
            ("data/out", "symbolic link"),
            ("data/here", "symbolic link"),
            (outside.as_str(), "symbolic link"),
            ("tool", "only directory subpath is supported"),
            ("data/low/x", "only directory subpath is supported"),
            ("data/gone", "no such file or directory"),
            ("nowhere", "no such file or directory"),
        ] {
            let app = container("app").image(&node.image).cmd(["ls", "/m"]);
            let app = app.image_mount(image_mount(&reference, "/m").sub_path(sub_path));
            let refused = pod.create(app).await;
            let words = ["ImageVolumeMountFailed", words, sub_path];
            assert_refused(refused, Code::InvalidArgument, &words);
        }
        let missing = container("app").image(&node.image).image_mount(image_mount("no:1", "/m"));
        let words = ["ImageVolumeMountFailed", "no:1", "pull it first"];
        assert_refused(pod.create(missing).await, Code::NotFound, &words);
        canary.assert_untouched()?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// T-ROOT-5: an image that is full of traps is mounted, and covers a volume that it declares
/// itself: its links lead nowhere but into the container, and its devices are none.
#[test]
fn a_volume_full_of_traps_catches_nobody() {
    place::native(async |place| {
        let (node, canary) = (node(&place).await?, Canary::new(&place)?);
        let here = canary.path().display().to_string();
        let traps = Layer::new()
            .with(Entry::dir("v"))
            .with(Entry::file("v/file", "content"))
            .with(Entry::hardlink("v/hard", "v/file"))
            .with(Entry::symlink("v/absolute", &here))
            .with(Entry::symlink("v/relative", &format!("../../../../../..{here}")))
            .with(Entry::symlink("v/magic", &format!("/proc/1/root{here}")))
            .with(Entry::char_device("v/null", 1, 3).mode(0o666))
            .with(Entry::block_device("v/disk", 8, 0).mode(0o666))
            .with(Entry::fifo("v/fifo"));
        let image = Image::busybox()?.layer(traps).volume("/v").build()?;
        let reference = node.registry.push("traps:1", &image).await?;
        node.client.pull(&reference).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let script = "exec 2> /dev/null; for link in absolute relative magic; do cat $1/$link/untouched; done; \
             cat $1/disk; stat -c %h $1/hard; cat $1/hard; cat $1/null && echo opened";
        for (name, at, opened) in [("own", "/v", "opened\n"), ("mounted", "/m/v", "")] {
            let app = container(name).image(&reference).cmd(["sh", "-c", script, "sh", at]);
            let app = pod.run(app.image_mount(image_mount(&reference, "/m"))).await?;
            app.wait_for_exit().await?;
            let told = app.log_text()?;
            assert!(!told.contains(UNTOUCHED), "{told}");
            // A device of the container's own root is its device rules' to allow.
            assert_eq!(told, format!("2\ncontent{opened}"), "{name}");
        }
        canary.assert_untouched()?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn an_artifact_is_files_by_their_titles() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let image = artifact(&[
            ("weights.bin", "application/vnd.test.weights", "0123456789"),
            ("docs/read me.md", "text/markdown", "# Read me"),
            ("not-a.tar", tar, "no archive at all"),
        ])?;
        let reference = node.registry.push("model:1", &image).await?;
        let id = node.client.pull(&reference).await?;
        assert_eq!(id, image.manifest.digest);
        let known = node.client.image(&id).await?.expect("the artifact");
        assert_eq!((&known.id, &known.repo_tags[..]), (&id, &[reference.clone()][..]));
        // Again: nothing is fetched for it.
        assert_eq!(node.client.pull(&reference).await?, id);

        for users in [None, Some(FIRST)] {
            let spec = pod(&format!("p{}", users.unwrap_or(0)));
            let pod = node.client.run_pod(users.map_or(spec.clone(), |u| spec.users(u))).await?;
            let app = container("app").image(&node.image).cmd(["sleep", "inf"]);
            let app = app
                .image_mount(image_mount(&reference, "/model"))
                .image_mount(image_mount(&id, "/docs").sub_path("docs"));
            let app = pod.run(app).await?;
            let script = "cd /model; cat weights.bin not-a.tar 'docs/read me.md' '/docs/read me.md'; \
                 stat -c ' %a %u:%g' weights.bin";
            let told = app.shell(script).await?;
            assert_eq!(told, "0123456789no archive at all# Read me# Read me 644 0:0\n");
            pod.delete().await?;
        }
        let pod = node.client.run_pod(pod("none").host_network()).await?;
        let root = pod.create(container("app").image(&reference).cmd(["sh"])).await;
        assert_refused(root, Code::FailedPrecondition, &["artifact", "no root file system"]);
        pod.delete().await?;
        node.client.remove_image(&id).await?;
        audit.assert_clean().await
    });
}

/// An archive without a title is a tree, as any layer is; a title that climbs out is refused.
#[test]
fn an_artifact_may_be_a_tree_and_not_a_trap() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let tree = data()?.changed(
            |config| *config = json!({ "some": "document" }),
            |manifest| manifest["config"]["mediaType"] = "application/vnd.test.v1+json".into(),
        )?;
        let reference = node.registry.push("tree:1", &tree).await?;
        let id = node.client.pull(&reference).await?;
        let pod = node.client.run_pod(pod("p").users(FIRST)).await?;
        let app = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let app = pod.run(app.image_mount(image_mount(&id, "/m").sub_path("data"))).await?;
        assert_eq!(
            app.shell("ls /m; stat -c %u:%g /m/low").await?,
            "here\nlow\nout\nsub:1,2\n7:8\n"
        );
        pod.delete().await?;
        node.client.remove_image(&id).await?;

        let trap = artifact(&[("../../evil", "text/plain", "evil")])?;
        let reference = node.registry.push("trap:1", &trap).await?;
        assert_refused(node.client.pull(&reference).await, Code::DataLoss, &["\"..\""]);
        audit.assert_clean().await
    });
}
