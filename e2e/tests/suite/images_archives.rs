//! Images to and from other tools: what berth saves loads in skopeo, umoci and podman, and what
//! these and buildah write loads and runs here. An image keeps its id on every way.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use berth_e2e::berth::{self, Berth};
use berth_e2e::daemon::Engine;
use berth_e2e::image::{Entry, Format, Image, Index, Layer};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use serde_json::Value;
use tokio::process::Command;

/// Other people's tools, with all that they keep in one directory.
struct Tools {
    dir: PathBuf,
}

impl Tools {
    fn new(place: &Place) -> Result<Self> {
        Ok(Self { dir: place.dir("tools")? })
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    async fn run<S: AsRef<OsStr>>(&self, program: &str, words: &[S]) -> Result<String> {
        let mut command = Command::new(place::needs::program(program)?);
        command.env("TMPDIR", &self.dir).env("HOME", &self.dir).args(words);
        let done = berth::output(command).await?;
        ensure!(done.code == 0, "{program}: {done:?}");
        Ok(done.stdout)
    }

    async fn skopeo(&self, words: &[&str]) -> Result<String> {
        self.run("skopeo", &[&["--insecure-policy"], words].concat()).await
    }

    /// podman or buildah, which share their options and their storage.
    async fn storage(&self, program: &str, words: &[&str]) -> Result<String> {
        let (root, run) = (self.path("root"), self.path("run"));
        let own = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
        self.run(program, &[&own, words].concat()).await
    }

    /// The tree of the image in a layout, unpacked by umoci, as one line for each file.
    async fn tree(&self, layout: &str, tag: &str) -> Result<String> {
        let image = format!("{}:{tag}", self.path(layout));
        let bundle = self.path(&format!("{layout}-bundle"));
        self.run("umoci", &["unpack", "--image", &image, &bundle]).await?;
        // Directories that no entry describes have the time at which they were unpacked.
        let script = "cd $0/rootfs && find . -type d -printf '%P %y %m %U:%G\\n' -o \
                      -printf '%P %y %m %U:%G %n %T@ %l ' \
                      \\( -type f -exec md5sum {} \\; -o -printf '\\n' \\) | sort";
        self.run("sh", &["-c", script, &bundle]).await
    }
}

/// Two layers with all that trees consist of.
fn rich() -> Result<Image> {
    let long = format!("opt/{}/file", "long-name/".repeat(20));
    let layer = Layer::new()
        .with(Entry::dir("opt").mode(0o1777))
        .with(Entry::file("opt/one", "1".repeat(100_000)).owner(7, 8))
        .with(Entry::hardlink("opt/two", "opt/one"))
        .with(Entry::symlink("opt/link", "one"))
        .with(Entry::file("opt/setuid", "s").mode(0o4755))
        .with(Entry::file(&long, "long"))
        .with(Entry::file("opt/empty", ""))
        .with(Entry::fifo("opt/fifo"))
        .with(Entry::file("opt/user", "x").xattr("user.story", "told"));
    let upper = Layer::new().with(Entry::whiteout("opt/one")).with(Entry::file("story", "told"));
    Image::busybox()?.layer(layer).layer(upper).cmd(["cat", "/story"]).build()
}

#[test]
fn what_berth_saves_loads_in_skopeo_umoci_and_podman() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let (berth, tools) = (Berth::of(&node.daemon)?, Tools::new(&place)?);
        let image = rich()?;
        let id = image.config.digest.as_str();
        let reference = node.registry.push("team/app:1", &image).await?;
        berth.ok(&["pull", "-q", &reference]).await?;

        let origin = format!("docker://{reference}");
        let copy = ["copy", "--src-tls-verify=false"];
        let layout = |name: &str| format!("oci:{}:1", tools.path(name));
        tools.skopeo(&[&copy[..], &[&origin, &layout("origin")]].concat()).await?;
        let expected = tools.tree("origin", "1").await?;
        for (format, transport) in [("oci-archive", ":1"), ("docker-archive", "")] {
            let file = tools.path(&format!("{format}.tar"));
            berth.ok(&["save", "--format", format, "-o", &file, &reference]).await?;
            let mut piped = berth.command(&["image", "save", "--format", format, &reference]);
            piped.stdout(fs::File::create(tools.path("piped"))?);
            assert!(piped.spawn()?.wait().await?.success());
            assert!(fs::read(&file)? == fs::read(tools.path("piped"))?, "the same by a pipe");

            let from = format!("{format}:{file}{transport}");
            tools.skopeo(&["copy", &from, &layout(format)]).await?;
            // On the way from docker's format to OCI's skopeo makes a new configuration.
            let manifest = tools.skopeo(&["inspect", "--raw", &from]).await?;
            let manifest: Value = serde_json::from_str(&manifest)?;
            assert_eq!(manifest["config"]["digest"], id, "skopeo, {format}");
            assert_eq!(tools.tree(format, "1").await?, expected, "umoci, {format}");

            tools.storage("podman", &["load", "-i", &file]).await?;
            let there = ["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"];
            let there = tools.storage("podman", &there).await?;
            assert_eq!(there, format!("{id} {reference}\n"), "podman, {format}");
            tools.storage("podman", &["rmi", "-a"]).await?;
        }
        let many = tools.path("many.tar");
        berth.ok(&["tag", &reference, "other/name:2"]).await?;
        berth.ok(&["save", "-o", &many, &reference, "other/name:2", &node.image]).await?;
        for image in [&reference, "other/name:2", &node.image] {
            berth.ok(&["rmi", image]).await?;
        }
        let loaded = berth.ok(&["load", "-i", &many]).await?;
        for image in [&reference, "docker.io/other/name:2", &node.image] {
            assert!(loaded.contains(&format!("Loaded image: {image}\n")), "{loaded}");
        }
        assert_eq!(berth.ok(&["run", "--rm", "other/name:2"]).await?, "told");
        let audit = berth.ok(&["audit"]).await?;
        assert!(audit.contains("no strays"), "{audit}");
        Ok(())
    });
}

#[test]
fn what_cannot_be_saved_is_said_and_leaves_no_file() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let (berth, tools) = (Berth::of(&node.daemon)?, Tools::new(&place)?);
        let twice = Layer::new().with(Entry::file("f", "one")).with(Entry::file("f", "two"));
        let twice = Image::from_scratch().layer(twice).build()?;
        let twice = node.registry.push("twice:1", &twice).await?;
        berth.ok(&["pull", "-q", &twice]).await?;
        let file = tools.path("x.tar");
        for (words, said) in [
            (&["save", "-o", &file, "no/thing:1"][..], "image no/thing:1 not found"),
            (&["save", "-o", &file, &node.image, &twice], "\"f\" more than once"),
            (&["save", "-o", "/no/such/dir/x.tar", &node.image], "/no/such/dir/x.tar"),
        ] {
            let refused = berth.run(words).await?;
            assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{words:?}");
            assert!(refused.stderr.contains(said), "{words:?}: {}", refused.stderr);
        }
        for words in [&["save"][..], &["save", "--format", "zip", &node.image]] {
            assert_eq!(berth.run(words).await?.code, 2, "{words:?}");
        }
        assert!(!Path::new(&file).exists());
        assert!(!Path::new(&format!("{file}.part")).exists());
        Ok(())
    });
}

#[test]
fn what_skopeo_podman_and_buildah_write_loads_and_runs() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let (berth, tools, audit) = (Berth::of(&node.daemon)?, Tools::new(&place)?, node.audit()?);
        let image = rich()?;
        let foreign = Image::from_scratch().platform("linux", "s390x", None).build()?;
        let index = Index::new(Format::Oci, vec![foreign, image.clone()])?;
        let reference = node.registry.push_index("team/app:1", &index).await?;
        let origin = format!("docker://{reference}");
        let copy = ["copy", "--src-tls-verify=false"];
        for (name, options, target) in [
            ("gzip", &[][..], "oci-archive"),
            ("zstd", &["--dest-compress-format", "zstd", "--dest-compress-level", "3"], "oci"),
            ("all", &["--all"], "oci"),
            ("docker", &[], "docker-archive"),
        ] {
            let path = tools.path(name);
            let target = format!("{target}:{path}:localhost/app:{name}");
            tools.skopeo(&[&copy[..], options, &[&origin, &target]].concat()).await?;
            let loaded = berth.ok(&["load", "-i", &path]).await?;
            assert_eq!(loaded, format!("Loaded image: localhost/app:{name}\n"));
            let id = berth.ok(&["images", "-q", &format!("localhost/app:{name}")]).await?;
            assert_eq!(id.trim_end(), image.config.digest, "{name}");
            berth.ok(&["rmi", "-f", id.trim_end()]).await?;
        }
        for format in ["oci-archive", "docker-archive"] {
            tools.storage("podman", &["load", "-i", &tools.path("docker")]).await?;
            let file = tools.path(&format!("podman-{format}"));
            let save = ["save", "--format", format, "-o", &file, "localhost/app:docker"];
            tools.storage("podman", &save).await?;
            berth.ok(&["load", "-i", &file]).await?;
            assert_eq!(berth.ok(&["run", "--rm", "localhost/app:docker"]).await?, "told");
            berth.ok(&["rmi", "localhost/app:docker"]).await?;
        }
        let base = format!("docker-archive:{}", tools.path("docker"));
        let built = tools.storage("buildah", &["from", "--name", "built", &base]).await?;
        let story = tools.path("story");
        fs::write(&story, "built")?;
        tools.storage("buildah", &["copy", built.trim_end(), &story, "/story"]).await?;
        let (path, name) = (tools.path("buildah"), "localhost/built:1");
        let target = format!("oci-archive:{path}:{name}");
        tools.storage("buildah", &["commit", "built", &target]).await?;
        berth.ok(&["load", "-i", &path]).await?;
        assert_eq!(berth.ok(&["run", "--rm", name]).await?, "built");
        berth.ok(&["rmi", name]).await?;
        audit.assert_clean().await
    });
}

#[test]
fn what_umoci_and_skopeo_push_is_pulled_and_runs() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let (berth, tools) = (Berth::of(&node.daemon)?, Tools::new(&place)?);
        let reference = node.registry.push("team/app:1", &rich()?).await?;
        let (origin, layout) = (format!("docker://{reference}"), tools.path("layout"));
        let (from, to) = ("--src-tls-verify=false", "--dest-tls-verify=false");
        let local = format!("oci:{layout}:1");
        tools.skopeo(&["copy", from, &origin, &local]).await?;
        let (story, image) = (tools.path("story"), format!("{layout}:1"));
        fs::write(&story, "umoci")?;
        tools.run("umoci", &["insert", "--image", &image, &story, "/story"]).await?;
        for (name, options) in [
            ("oci", &["--format", "oci"][..]),
            ("docker", &["--format", "v2s2"]),
            ("zstd", &["--dest-compress-format", "zstd", "--format", "oci"]),
        ] {
            let reference = node.registry.reference(&format!("umoci/{name}:1"));
            let target = format!("docker://{reference}");
            tools.skopeo(&[&["copy", to], options, &[&local, &target]].concat()).await?;
            berth.ok(&["pull", "-q", &reference]).await?;
            assert_eq!(berth.ok(&["run", "--rm", &reference]).await?, "umoci", "{name}");
            berth.ok(&["rmi", &reference]).await?;
        }
        Ok(())
    });
}
