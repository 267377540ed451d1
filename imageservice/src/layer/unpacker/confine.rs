//! Giving up everything that unpacking a layer does not take.
//!
//! Afterwards the process sees nothing but the working directory that it was started in, mounted
//! such that device nodes in it are no devices; keeps the capabilities to make any file with any
//! owner and mode, and no other; and is the first to be killed when memory runs out.

use std::fs;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_remount,
    unmount,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, chdir, chroot, pivot_root, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};

/// What it takes to give files owners, modes with setuid, device numbers and file capabilities.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP);

/// Limits of the process: bytes of memory of its own (the largest window of zstd is 128 MiB), and
/// open files (the directories that are kept open, and a few).
const MEMORY: u64 = 256 << 20;
const FILES: u64 = 256;

/// A step that failed.
pub(super) type Failed = (&'static str, io::Error);

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, Failed> {
        self.map_err(|error| (step, error.into()))
    }
}

/// Confines the calling process, which has one thread, to its working directory.
pub(super) fn confine() -> Result<(), Failed> {
    // Whoever comes after a berthd that has crashed tidies up here.
    set_parent_process_death_signal(Some(Signal::KILL)).step("ask for a signal at berthd's end")?;
    fs::write("/proc/self/oom_score_adj", "1000").step("be the first to be killed")?;
    // Modes are those of the archive, from the first moment on.
    umask(Mode::empty());
    let limits = [(Resource::Core, 0), (Resource::Data, MEMORY), (Resource::Nofile, FILES)];
    for (resource, limit) in limits {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .step("limit resources")?;
    }
    enter_working_directory()?;
    clear_ambient_capability_set().step("drop ambient capabilities")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("be closed to others")?;
    let (effective, inheritable) = (CAPABILITIES, CapabilitySet::empty());
    set_capabilities(None, CapabilitySets { effective, permitted: CAPABILITIES, inheritable })
        .step("drop capabilities")?;
    set_no_new_privs(true).step("renounce new privileges")
}

/// Makes the working directory the root of all that there is, in mounts of this process's own.
fn enter_working_directory() -> Result<(), Failed> {
    let here = std::env::current_dir().step("look where this is")?;
    unshare(CloneFlags::CLONE_NEWNS).step("leave the mounts of the node")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step("keep mounts private")?;
    mount_bind(&here, &here).step("mount the layer's directory")?;
    let flags = MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_remount(&here, flags, c"").step("mount without devices")?;
    chdir(&here).step("enter the layer's directory")?;
    pivot(Path::new("."))
}

fn pivot(root: &Path) -> Result<(), Failed> {
    match pivot_root(root, root) {
        Ok(()) => unmount(root, UnmountFlags::DETACH).step("leave the node's files")?,
        // From an initramfs there is no pivoting. What remains mounted cannot be reached: leaving
        // takes CAP_SYS_CHROOT or an open directory outside.
        Err(Errno::INVAL) => chroot(root).step("leave the node's files")?,
        Err(error) => return Err(error).step("make the layer's directory the root"),
    }
    chdir("/").step("enter the root")
}
