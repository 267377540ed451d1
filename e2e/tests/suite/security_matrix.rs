//! T-ROOT-1 and T-ROOT-3: root file systems whose own paths are traps for whoever mounts, makes,
//! masks or reads something there. Each is refused, or the container sees an object of its own;
//! nothing of the node is seen, made or changed.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_e2e::canary::{Canary, UNTOUCHED};
use berth_e2e::client::{Output, Pod, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Compression, Entry, Image, Layer};
use berth_e2e::network;
use berth_e2e::node::Node;
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place;
use rustix::fs::{FileType, Mode, makedev, mknodat};
use serde_json::json;

/// Where something is mounted, made or read; the last two are a volume and the working directory.
const PATHS: [&str; 16] = [
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
    "run",
    "run/secrets",
    "var/run/secrets",
    "volume",
    WORK,
];
const WORK: &str = "work";

/// What is there instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trap {
    Link,
    Climbing,
    Dangling,
    Magic,
    Fifo,
    Device,
    File,
}

const TRAPS: [Trap; 7] =
    [Trap::Link, Trap::Climbing, Trap::Dangling, Trap::Magic, Trap::Fifo, Trap::Device, Trap::File];

impl Trap {
    /// Puts itself at a path of the node.
    fn set(self, at: &Path, canary: &Canary) -> Result<()> {
        let here = canary.path().display();
        let link = |target: String| symlink(target, at);
        let node = |kind, device| mknodat(rustix::fs::CWD, at, kind, Mode::RWXU, device);
        match self {
            Self::Link => link(here.to_string())?,
            Self::Climbing => link(format!("../../../../../../../../../../../..{here}"))?,
            Self::Dangling => link(format!("{here}/not-there"))?,
            Self::Magic => link(format!("/proc/1/root{here}"))?,
            Self::Fifo => node(FileType::Fifo, 0)?,
            // A device that no container has.
            Self::Device => node(FileType::CharacterDevice, makedev(10, 237))?,
            Self::File => fs::write(at, "trap")?,
        }
        Ok(())
    }
}

/// Mounts on all of the paths, files and directories, from directories of the node.
fn dressed(bundle: Bundle, sources: &Path) -> Bundle {
    let file = sources.join("file").display().to_string();
    let dir = sources.join("dir").display().to_string();
    let mut bundle = bundle
        .mount("/dev/shm", "tmpfs", "shm", &["nosuid", "nodev", "mode=1777"])
        .mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid"])
        .mount("/run", "tmpfs", "tmpfs", &["nosuid", "nodev"]);
    for path in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/passwd"] {
        bundle = bundle.mount(path, "bind", &file, &["bind", "ro"]);
    }
    for path in ["/run/secrets", "/var/run/secrets", "/volume"] {
        bundle = bundle.mount(path, "bind", &dir, &["rbind", "rw"]);
    }
    bundle.set("/process/cwd", json!(format!("/{WORK}/below")))
}

/// Runs a bundle with a trap in it; answers whether it ran.
async fn spring(
    oci: &Oci,
    bundle: &Bundle,
    path: &str,
    trap: Trap,
    canary: &Canary,
) -> Result<bool> {
    let at = bundle.rootfs().join(path);
    let parent = at.parent().context("a parent")?;
    fs::create_dir_all(parent)?;
    if fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir()) {
        fs::remove_dir_all(&at)?;
    } else {
        fs::remove_file(&at).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
    }
    trap.set(&at, canary)?;
    let look = format!("/bin/busybox ls -lR /{path} /{path}/; echo seen");
    let bundle = bundle.clone().args(&["/bin/busybox", "sh", "-c", &look]);
    let output = tokio::time::timeout(Duration::from_secs(20), oci.run(&bundle)).await;
    let output: Output = output.context("it hangs")??;
    ensure!(!output.stdout.contains(UNTOUCHED), "it saw the node: {output:?}");
    canary.assert_untouched()?;
    let ran = output.stdout.ends_with("seen\n");
    ensure!(ran || output.code != 0 && !output.stderr.is_empty(), "{output:?}");
    Ok(ran)
}

/// All 7 traps at some of the paths; answers how many containers ran nevertheless.
fn spring_all(paths: &'static [&'static str], at_least: usize) {
    place::native(async |place| {
        let (oci, canary) = (Oci::begin(&place)?, Canary::new(&place)?);
        let sources = place.dir("sources")?;
        fs::write(sources.join("file"), "of the engine\n")?;
        fs::create_dir(sources.join("dir"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut ran = 0;
        for path in paths {
            for trap in TRAPS {
                let id = format!("{}-{trap:?}", path.replace(['/', '.'], "-"));
                let bundle = dressed(oci.bundle(&id)?, &sources);
                let sprung = spring(&oci, &bundle, path, trap, &canary).await;
                ran += usize::from(sprung.with_context(|| format!("{trap:?} at {path}"))?);
                assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, mounts, "{id}");
                fs::remove_dir_all(&bundle.dir)?;
            }
        }
        let left: Vec<_> = fs::read_dir(sources.join("dir"))?.collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(fs::read_to_string(sources.join("file"))?, "of the engine\n");
        assert!(ran >= at_least, "only {ran} of {} ran", paths.len() * TRAPS.len());
        oci.assert_clean().await
    });
}

/// What the kernel shows and the devices: few of these can run.
#[test]
fn traps_under_the_kernels_file_systems_catch_nobody() {
    let (kernel, _) = PATHS.split_at(6);
    spring_all(kernel, 1);
}

/// What an engine binds, or reads.
#[test]
fn traps_under_files_of_the_engine_catch_nobody() {
    let (_, rest) = PATHS.split_at(6);
    let (etc, _) = rest.split_at(5);
    spring_all(etc, 5);
}

/// Volumes, and where the program works.
#[test]
fn traps_under_volumes_and_working_directories_catch_nobody() {
    let (_, volumes) = PATHS.split_at(11);
    spring_all(volumes, 5);
}

/// The same by the way of an image: what `security_root` does not have.
#[test]
fn traps_of_an_image_catch_nobody() {
    place::native(async |place| {
        let network = network::bridge(1).install(&place)?;
        let setup = Setup::new(Engine::Berthd).network(&network);
        let (node, canary) = (Node::start_with(&place, setup).await?, Canary::new(&place)?);
        let here = canary.path().display();
        let host = place.dir("volume")?;
        let mut images = Vec::new();
        for path in ["run/secrets", "var/run/secrets", "volume", "etc/hosts", "dev"] {
            let traps = [
                Entry::symlink(path, &here.to_string()),
                Entry::symlink(path, &format!("{here}/not-there")),
                Entry::char_device(path, 10, 237),
                Entry::file(path, "trap"),
            ];
            for (number, trap) in traps.into_iter().enumerate() {
                let mut builder = Image::busybox()?.compression(Compression::None);
                if path == "dev" {
                    builder = builder.layer(Layer::new().with(Entry::whiteout(path)));
                }
                let image = builder.layer(Layer::new().with(trap)).volume("/volume").build()?;
                let name = format!("{}-{number}:1", path.replace('/', "-"));
                let image = node.registry.push(&name, &image).await?;
                node.client.pull(&image).await?;
                images.push((path, image));
            }
        }
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let mut ran = 0;
        for (path, image) in &images {
            let told = run(&pod, path, image, &host).await?;
            assert!(!told.contains(UNTOUCHED), "{image} saw the node: {told}");
            canary.assert_untouched().with_context(|| image.clone())?;
            ran += usize::from(told.ends_with("seen\n"));
        }
        assert!(ran > 0, "none of {} ran", images.len());
        assert_eq!(fs::read_dir(&host)?.count(), 0);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Runs an image that looks at its own trap, below a mount of the client; answers what it saw, or
/// why it did not run.
async fn run(pod: &Pod, path: &str, image: &str, host: &Path) -> Result<String> {
    let name = image.rsplit('/').next().unwrap_or_default().replace(':', "-");
    let look = format!("/bin/busybox ls -lR /{path}/ /{path}; echo seen");
    let spec = container(&name).image(image).cmd(["/bin/busybox", "sh", "-c", &look]);
    let target = if path.starts_with("etc") || path == "dev" { "other" } else { path };
    let spec = spec.mount(&host.to_string_lossy(), &format!("/{target}"), false);
    let started = match pod.create(spec).await {
        Ok(app) => app.start().await.map(|()| app),
        Err(refused) => Err(refused),
    };
    match started {
        Ok(app) => {
            app.wait_for_exit().await?;
            app.log_text()
        }
        Err(refused) => Ok(refused.message().to_owned()),
    }
}

/// T-ROOT-3.
#[test]
fn masks_hide_and_protect() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        let root = bundle.rootfs();
        fs::create_dir_all(root.join("hidden/below"))?;
        fs::create_dir_all(root.join("fixed/below"))?;
        for file in ["hidden/below/secret", "secret", "fixed/below/file", "fixed-file"] {
            fs::write(root.join(file), "secret\n")?;
        }
        let masked = ["/hidden", "/secret", "/not/there", "/secret/below", "/proc/kcore"];
        let fixed = ["/fixed", "/fixed-file", "/not/there", "/proc/sys"];
        let bundle = bundle
            .set("/linux/maskedPaths", json!(masked))
            .set("/linux/readonlyPaths", json!(fixed));
        let script = "ls -A /hidden; cat /secret /proc/kcore; \
                      echo x > /hidden/new; mkdir /hidden/new; echo x >> /secret; rm /secret; \
                      rm -r /hidden; mv /hidden /elsewhere; umount /secret; \
                      echo x > /fixed/new; echo x > /fixed/below/file; rm /fixed/below/file; \
                      echo x > /fixed-file; echo 1 > /proc/sys/net/ipv4/ip_forward; \
                      cat /fixed/below/file /fixed-file";
        let output = oci.run(&bundle.clone().script(&format!("({script}) 2>/dev/null"))).await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "secret\nsecret\n"), "{output:?}");
        assert_eq!(fs::read_to_string(root.join("secret"))?, "secret\n");
        oci.assert_clean().await
    });
}

/// CVE-2025-31133, CVE-2025-52565: what covers a path is the null device, whatever the root has.
#[test]
fn what_covers_a_masked_file_is_not_of_the_containers_making() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        for (number, target) in ["/proc/sys/kernel/core_pattern", "/secret"].iter().enumerate() {
            let bundle = oci.bundle(&format!("c{number}"))?;
            fs::create_dir_all(bundle.rootfs().join("dev"))?;
            let null = bundle.rootfs().join("dev/null");
            fs::remove_file(&null).ok();
            symlink(target, &null)?;
            fs::write(bundle.rootfs().join("secret"), "secret\n")?;
            // Without a /dev of its own the root's is used; ours come first in the list.
            let bundle = bundle
                .set("/mounts", json!([{"destination": "/proc", "type": "proc", "source": "proc"}]))
                .set("/linux/maskedPaths", json!(["/proc/kcore", "/proc/keys"]))
                .set("/linux/readonlyPaths", json!([]));
            let script = "stat -c '%t:%T %F' /proc/kcore /proc/keys; cat /proc/kcore | wc -c";
            let output = oci.run(&bundle.script(script)).await?;
            let expected = "1:3 character special file\n1:3 character special file\n0\n";
            let ran = output.code == 0 && output.stdout == expected;
            assert!(ran || output.code != 0 && output.stdout.is_empty(), "{output:?}");
        }
        assert!(fs::metadata("/dev/null")?.file_type().is_char_device());
        oci.assert_clean().await
    });
}

/// CVE-2023-27561, CVE-2025-54867: security is found by way of /proc and /sys.
#[test]
fn proc_and_sys_are_where_they_are_said_to_be() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        for name in ["proc", "sys"] {
            for (number, target) in ["elsewhere", "/elsewhere", "."].iter().enumerate() {
                let bundle = oci.bundle(&format!("{name}{number}"))?;
                fs::remove_dir(bundle.rootfs().join(name))
                    .or_else(|_| fs::remove_dir_all(bundle.rootfs().join(name)))?;
                fs::create_dir(bundle.rootfs().join("elsewhere"))?;
                symlink(target, bundle.rootfs().join(name))?;
                let refused = oci.run(&bundle.script("echo ran")).await?;
                assert!(refused.code != 0 && refused.stdout.is_empty(), "{name}: {refused:?}");
                assert!(refused.stderr.contains(&format!("/{name}")), "{refused:?}");
            }
        }
        oci.assert_clean().await
    });
}
