//! T-ROOT: images whose own paths are traps for whoever prepares their root. Each is refused or
//! sees its own object; nothing on the node is read, made or changed.

use std::path::Path;

use anyhow::{Context as _, Result};
use berth_e2e::canary::{Canary, UNTOUCHED};
use berth_e2e::client::{Code, Pod, assert_refused, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Compression, Entry, Image, ImageBuilder, Layer};
use berth_e2e::network;
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};

/// Where the runtime mounts, writes or reads something of its own.
const PATHS: [&str; 12] = [
    "proc",
    "sys",
    "dev",
    "dev/pts",
    "dev/shm",
    "dev/mqueue",
    "etc",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/hostname",
    "etc/passwd",
    "work",
];
const IN_BASE: [&str; 5] = ["proc", "sys", "dev", "etc", "etc/passwd"];

/// What a hostile image has at a path: links to the canary in three ways, and what is no
/// directory.
fn traps(canary: &Canary, path: &str) -> [Entry; 4] {
    let here = canary.path().display();
    [
        Entry::symlink(path, &here.to_string()),
        Entry::symlink(path, &format!("../../../../../../../../../..{here}")),
        Entry::symlink(path, &format!("/proc/1/root{here}")),
        Entry::fifo(path),
    ]
}

/// Busybox with `trap` in place of what is at `path`.
fn trapped(path: &str, trap: Entry) -> Result<ImageBuilder> {
    let mut builder = Image::busybox()?;
    if IN_BASE.contains(&path) {
        builder = builder.layer(Layer::new().with(Entry::whiteout(path)));
    }
    let builder = builder.compression(Compression::None);
    Ok(builder.layer(Layer::new().with(trap)).workdir("/work/below"))
}

async fn node(place: &Place) -> Result<Node> {
    let network = network::bridge(1).install(place)?;
    Node::start_with(place, Setup::new(Engine::Berthd).network(&network)).await
}

#[test]
fn no_path_of_an_image_leads_the_runtime_out_of_it() {
    place::native(async |place| {
        let (node, canary) = (node(&place).await?, Canary::new(&place)?);
        let mut images = Vec::new();
        // The plain link everywhere, and one of the others.
        for (place, path) in PATHS.into_iter().enumerate() {
            for (number, trap) in traps(&canary, path).into_iter().enumerate() {
                if number == 0 || number == 1 + place % 3 {
                    let image = trapped(path, trap)?.build()?;
                    let name = format!("{}-{number}:1", path.replace(['/', '.'], "-"));
                    let image = node.registry.push(&name, &image).await?;
                    node.client.pull(&image).await?;
                    images.push((path, image));
                }
            }
        }
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        for (path, image) in &images {
            let told = run(&pod, path, image).await?;
            assert!(!told.contains(UNTOUCHED), "{image} saw the node: {told}");
            canary.assert_untouched().with_context(|| image.clone())?;
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Runs an image that looks at its own trap; answers what it saw, or why it did not run.
async fn run(pod: &Pod, path: &str, image: &str) -> Result<String> {
    let name = image.rsplit('/').next().unwrap_or_default().replace(':', "-");
    let spec = container(&name).image(image);
    let look = format!("/bin/busybox ls -R /{path}/ /{path} /work/; echo seen");
    let app = match pod.create(spec.cmd(["/bin/busybox", "sh", "-c", &look])).await {
        Ok(app) => app,
        Err(refused) => return Ok(refused.message().to_owned()),
    };
    if let Err(refused) = app.start().await {
        return Ok(refused.message().to_owned());
    }
    app.wait_for_exit().await?;
    let told = app.log_text()?;
    assert!(told.ends_with("seen\n"), "{image}: {told}");
    Ok(told)
}

/// A user is looked up in the image, and not where the image points.
#[test]
fn no_user_comes_from_a_file_of_the_node() {
    place::native(async |place| {
        let (node, canary) = (node(&place).await?, Canary::new(&place)?);
        let passwd = canary.path().join("passwd").display().to_string();
        let mut images = Vec::new();
        for (number, target) in [
            passwd.clone(),
            format!("../../../../../../..{passwd}"),
            format!("/proc/1/root{passwd}"),
            format!("/proc/self/cwd/../../..{passwd}"),
        ]
        .iter()
        .enumerate()
        {
            let image = trapped("etc/passwd", Entry::symlink("etc/passwd", target))?.build()?;
            let image = node.registry.push(&format!("user-{number}:1"), &image).await?;
            node.client.pull(&image).await?;
            images.push(image);
        }
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        for image in &images {
            let spec = container("app").image(image).cmd(["/bin/busybox", "id"]);
            let evil = spec.security(|security| security.run_as_username = "evil".to_owned());
            assert_refused(pod.create(evil).await, Code::InvalidArgument, &["evil"]);
        }
        assert!(Path::new(&passwd).exists());
        pod.delete().await?;
        audit.assert_clean().await
    });
}
