//! T-ROOT-2: somebody swaps directories for links to the node while a container is made of them.
//! Natively, and by a thread that does nothing else: faster than any container could.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use berth_e2e::canary::{Canary, UNTOUCHED};
use berth_e2e::oci::Oci;
use berth_e2e::place;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

const ROUNDS: usize = 100;

/// Swaps two paths for as long as it lives.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn begin(one: PathBuf, other: PathBuf) -> Self {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&swaps));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // There and back, and then nothing for about as long as a look-up takes: who looks
                // once sees either, and who looks a few times seldom sees the same.
                for _ in 0..2 {
                    if renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                for _ in 0..2000 {
                    std::hint::spin_loop();
                }
            }
        });
        Self { stop, swaps, thread: Some(thread) }
    }

    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
        self.swaps.load(Ordering::Relaxed)
    }
}

/// A directory and a link to the canary, which change places.
fn pair(dir: &Path, name: &str, canary: &Canary) -> Result<Swapper> {
    let (real, link) = (dir.join(name), dir.join(format!("{name}.other")));
    fs::create_dir_all(&real)?;
    symlink(canary.path(), &link)?;
    Ok(Swapper::begin(real, link))
}

/// Mount points, masks and the working directory lie in a volume that another one changes.
#[test]
fn a_volume_that_changes_leads_nobody_astray() {
    place::native(async |place| {
        let (oci, canary) = (Oci::begin(&place)?, Canary::new(&place)?);
        let (shared, data) = (place.dir("shared")?, place.dir("data")?);
        fs::write(data.join("file"), "data")?;
        let text = |path: &Path| path.display().to_string();
        let bundle = oci
            .bundle("a")?
            .mount("/shared", "bind", &text(&shared), &["rbind", "rw"])
            .mount("/shared/a/tmp", "tmpfs", "tmpfs", &["nosuid"])
            .mount("/shared/a/deep/er", "bind", &text(&data), &["rbind", "rw"])
            .mount("/shared/a/file", "bind", &text(&data.join("file")), &["bind"])
            .set("/linux/maskedPaths", json!(["/shared/a/untouched", "/shared/a/file"]))
            .set("/linux/readonlyPaths", json!(["/shared/a/tmp", "/proc/sys"]))
            .set("/process/cwd", json!("/shared/a/work"))
            .script("find . /shared -name untouched; stat -f -c %T /proc; echo ran");
        let swapper = pair(&shared, "a", &canary)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let (mut ran, mut refused) = (0, 0);
        for round in 0..ROUNDS {
            let output = oci.run(&bundle).await?;
            let told = || format!("round {round}: {output:?}");
            ensure!(!output.stdout.contains(UNTOUCHED), told());
            canary.assert_untouched().with_context(told)?;
            if output.code == 0 {
                ensure!(output.stdout.ends_with("ran\n"), told());
                ran += 1;
            } else {
                ensure!(!output.stderr.is_empty() && output.stdout.is_empty(), told());
                refused += 1;
            }
        }
        let swaps = swapper.end();
        assert!(swaps > ROUNDS, "{swaps} swaps: this was no race");
        // Where the link was followed, it led to a place of the container's own.
        let inside = canary.path().strip_prefix("/").context("an absolute path")?;
        let fooled = bundle.rootfs().join(inside).exists();
        assert!(ran > 0 && (refused > 0 || fooled), "{ran} ran, {refused} were refused");
        assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, mounts);
        oci.assert_clean().await
    });
}

/// CVE-2019-19921: procfs itself is mounted on what changes.
#[test]
fn a_root_that_changes_has_procfs_or_is_refused() {
    place::native(async |place| {
        let (oci, canary) = (Oci::begin(&place)?, Canary::new(&place)?);
        let bundle = oci.bundle("a")?;
        fs::remove_dir_all(bundle.rootfs().join("proc"))?;
        fs::remove_dir_all(bundle.rootfs().join("etc"))?;
        let swappers =
            [pair(&bundle.rootfs(), "proc", &canary)?, pair(&bundle.rootfs(), "etc", &canary)?];
        let file = place.scratch().join("hosts");
        fs::write(&file, "of the engine\n")?;
        let look = "stat -f -c %T /proc; cat /proc/self/comm; cat /etc/hosts; ls /etc; echo ran";
        let bundle =
            bundle.mount("/etc/hosts", "bind", &file.display().to_string(), &["bind"]).script(look);
        let (mut ran, mut refused) = (0, 0);
        for round in 0..ROUNDS {
            let output = oci.run(&bundle).await?;
            let told = || format!("round {round}: {output:?}");
            ensure!(!output.stdout.contains(UNTOUCHED), told());
            canary.assert_untouched().with_context(told)?;
            if output.stdout.is_empty() {
                ensure!(output.code != 0 && !output.stderr.is_empty(), told());
                refused += 1;
            } else {
                // What it sees may change again under its eyes.
                ensure!(output.stdout.ends_with("ran\n"), told());
                ran += 1;
            }
        }
        let swaps: usize = swappers.into_iter().map(Swapper::end).sum();
        assert!(swaps > ROUNDS, "{swaps} swaps: this was no race");
        assert!(ran > 0 && refused > 0, "{ran} ran, {refused} were refused");
        oci.assert_clean().await
    });
}
