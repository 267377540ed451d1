//! The cgroup of a place: made outside, the root of all that the inside sees, removed outside.
//!
//! Processes of a place live in the leaf `harness`, because a cgroup that hands controllers to
//! its children may hold no process itself (cgroup-v2.rst, "No Internal Process Constraint").

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, mount};

/// Where cgroup v2 is mounted in every place.
pub(super) const MOUNT: &str = "/sys/fs/cgroup";
/// The leaf for the processes of the harness and the daemons that it starts.
const LEAF: &str = "harness";
/// How long the kernel may take to let go of a cgroup whose processes have died.
const SETTLE: Duration = Duration::from_secs(5);

/// The controllers that this machine itself hands on, in cgroup v2.
pub(super) fn offered() -> Vec<String> {
    words(&Path::new(MOUNT).join("cgroup.subtree_control"))
}

/// True if this machine itself offers what resource limits need.
pub(super) fn machine_has_controllers() -> bool {
    let offered = offered();
    ["cpu", "memory", "pids"].iter().all(|needed| offered.iter().any(|c| c == needed))
}

/// The controllers that the cgroup `dir` may use.
pub(super) fn controllers(dir: &Path) -> Vec<String> {
    words(&dir.join("cgroup.controllers"))
}

/// Mounts the whole cgroup v2 hierarchy that this process may see.
pub(super) fn mount_whole() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("cgroup2", MOUNT, "cgroup2", flags, None) {
        // The very same is mounted there already.
        Err(rustix::io::Errno::BUSY) => Ok(()),
        mounted => Ok(mounted?),
    }
}

/// Moves this process into the cgroup `name` and into a mount and a cgroup namespace of its
/// own, whose cgroup root is that cgroup. The mount of the hierarchy is left to the caller.
pub(super) fn confine_to(name: &str) -> Result<()> {
    join(name)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)
        .context("unshare mount and cgroup namespaces")
}

/// Moves this process out of the root of its hierarchy, then hands every controller on.
pub(super) fn settle() -> Result<()> {
    let root = Path::new(MOUNT);
    let leaf = root.join(LEAF);
    fs::create_dir(&leaf).with_context(|| format!("make cgroup {}", leaf.display()))?;
    enter(&leaf)?;
    let enable: Vec<_> = controllers(root).iter().map(|name| format!("+{name}")).collect();
    let file = root.join("cgroup.subtree_control");
    fs::write(&file, enable.join(" ")).with_context(|| format!("enable {enable:?}"))
}

/// Moves this process into the cgroup `name`, and leaves its view of the hierarchy as it is.
pub(super) fn join(name: &str) -> Result<()> {
    enter(&Path::new(MOUNT).join(name))
}

fn enter(dir: &Path) -> Result<()> {
    fs::write(dir.join("cgroup.procs"), "0")
        .with_context(|| format!("join cgroup {}", dir.display()))
}

fn words(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// The cgroup that holds all of one place.
pub(super) struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    pub(super) fn make(name: &str) -> Result<Self> {
        let cgroup = Self::left_by(name);
        fs::create_dir(&cgroup.dir)
            .with_context(|| format!("make cgroup {}", cgroup.dir.display()))?;
        Ok(cgroup)
    }

    /// The cgroup of the place `name`, which may or may not exist.
    pub(super) fn left_by(name: &str) -> Self {
        Self { dir: Path::new(MOUNT).join(name) }
    }

    /// Kills what lives in it, then removes it and all below it. Gone already is success.
    pub(super) fn remove(&self) -> Result<()> {
        if !self.dir.exists() {
            return Ok(());
        }
        fs::write(self.dir.join("cgroup.kill"), "1")
            .and_then(|()| self.wait_until_empty())
            .and_then(|()| remove_tree(&self.dir))
            .with_context(|| format!("remove cgroup {}", self.dir.display()))
    }

    fn wait_until_empty(&self) -> io::Result<()> {
        let path = self.dir.join("cgroup.events");
        let events = fs::File::open(&path)?;
        let timeout = Timespec { tv_sec: SETTLE.as_secs().cast_signed(), tv_nsec: 0 };
        while fs::read_to_string(&path)?.contains("populated 1") {
            let mut fds = [PollFd::new(&events, PollFlags::PRI)];
            if poll(&mut fds, Some(&timeout))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}
