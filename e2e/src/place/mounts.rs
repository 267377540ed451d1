//! What a place sees of the file system: fresh kernel file systems, memory where the machine
//! keeps its state, and everything else as it is.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

use super::cgroup;

/// The scratch directory of a test. Short, because unix socket paths end at 107 bytes.
pub(super) const SCRATCH: &str = "/run/e2e";
/// Temporary files of the test and of what it starts, below its scratch directory.
pub(super) const TEMPORARY: &str = "tmp";
/// Where security modules take their policies.
const SECURITY: &str = "/sys/kernel/security";
/// Where writes to overlaid directories of the machine go.
const OVERLAYS: &str = "/run/e2e-overlay";
/// Directories that programs write to whatever their configuration says.
const PRIVATE: [&str; 2] = ["/var/lib/cni", "/var/log/pods"];

/// Mounts proc, sysfs and cgroup2 anew, for the namespaces that this process is in. What the
/// machine has mounted below them goes out of sight.
pub(super) fn kernel_file_systems() -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (path, kind) in [("/proc", "proc"), ("/sys", "sysfs")] {
        // Not mounted yet is as good, as in a guest that has just booted.
        let _ = unmount(path, UnmountFlags::DETACH);
        mount(kind, path, kind, flags, None).with_context(|| format!("mount {path}"))?;
    }
    cgroup::mount_whole().context("mount cgroup2")?;
    // A kernel without any module that wants it has no place for it.
    if Path::new(SECURITY).is_dir() {
        mount("securityfs", SECURITY, "securityfs", flags, None).context("mount securityfs")?;
    }
    Ok(())
}

/// Mounts memory over the places where daemons keep state, and makes [`SCRATCH`]; then gives all
/// mounts the propagation that they have on a node.
pub(super) fn private_state() -> Result<()> {
    let resolv = ResolvConf::save();
    tmpfs("/run", c"mode=755")?;
    tmpfs("/dev/shm", c"mode=1777")?;
    resolv.restore()?;
    for path in PRIVATE {
        private_dir(Path::new(path))?;
    }
    temporary(Path::new(SCRATCH))?;
    shared()
}

/// Makes a scratch directory, and the one for temporary files in it.
pub(super) fn temporary(scratch: &Path) -> Result<()> {
    let dir = scratch.join(TEMPORARY);
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))
}

/// Gives all mounts the propagation that they have on a node.
pub(super) fn shared() -> Result<()> {
    // As on any node that systemd has booted; the peer group does not reach out of the place.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .context("make the mounts shared")
}

/// Mounts an empty file system in memory.
pub(super) fn tmpfs(path: &str, options: &CStr) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", path, "tmpfs", flags, options).with_context(|| format!("mount tmpfs on {path}"))
}

/// Makes `path` an empty directory in memory without making anything on the machine's disk:
/// where it does not exist, its nearest ancestor becomes an overlay.
fn private_dir(path: &Path) -> Result<()> {
    if !path.exists() {
        let ancestor = path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
        overlay(ancestor).with_context(|| format!("overlay {}", ancestor.display()))?;
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    }
    tmpfs(&path.to_string_lossy(), c"mode=755")
}

fn overlay(dir: &Path) -> io::Result<()> {
    let [upper, work] = ["upper", "work"].map(|part| {
        let name = dir.to_string_lossy().replace('/', "-");
        Path::new(OVERLAYS).join(name).join(part)
    });
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        dir.display(),
        upper.display(),
        work.display()
    );
    let options = CString::new(options)?;
    Ok(mount("overlay", dir, "overlay", MountFlags::empty(), options.as_c_str())?)
}

/// The machine's resolver configuration, which may be a symlink into /run.
struct ResolvConf(Option<(PathBuf, Vec<u8>)>);

impl ResolvConf {
    fn save() -> Self {
        let target = fs::canonicalize("/etc/resolv.conf").ok();
        let in_run = target.filter(|path| path.starts_with("/run"));
        Self(in_run.and_then(|path| Some((path.clone(), fs::read(path).ok()?))))
    }

    fn restore(self) -> Result<()> {
        let Some((path, content)) = self.0 else {
            return Ok(());
        };
        let dir = path.parent().unwrap_or(Path::new("/run"));
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&path, content))
            .with_context(|| format!("restore {}", path.display()))
    }
}
