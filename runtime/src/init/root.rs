//! The root file system: made as a detached mount, attached where nobody else looks, and
//! pivoted into.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount, mount_change, move_mount, open_tree, unmount,
};

use crate::plan::{Overlay, Root, RootSource};
use crate::protocol::Step;
use crate::sys::mount::{Attributes, set_attributes};

use super::paths::RootDirectory;
use super::{Attempt, Fault};

/// Mounts the root file system at its attachment point.
pub(super) fn attach(root: &Root) -> Result<RootDirectory, Fault> {
    let step = Step::Root;
    match &root.source {
        Some(RootSource::Overlay(overlay)) => mount_overlay(overlay, &root.attach)
            .attempt(step, || format!("mount overlay with upper layer {}", overlay.upper))?,
        Some(RootSource::Empty(bytes)) => {
            mount_empty(*bytes, &root.attach).attempt(step, || "mount an empty root")?;
        }
        Some(RootSource::Directory(path)) => {
            bind(path, &root.attach).attempt(step, || format!("bind {path} as root"))?;
        }
        None => return Err(io::Error::other("no source")).attempt(step, || "mount the root"),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(root.attach.as_str(), flags, Mode::empty());
    Ok(RootDirectory::new(directory.attempt(step, || "open the root")?))
}

/// Moves into the finished root and lets go of the host's.
pub(super) fn finish(root: &Root, directory: &RootDirectory) -> Result<(), Fault> {
    let step = Step::Root;
    if root.read_only {
        let read_only = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
        let set = set_attributes(directory.as_fd(), read_only, false);
        set.attempt(step, || "make the root read-only")?;
    }
    pivot(directory.as_fd()).attempt(step, || "pivot into the root")?;
    if let Some(propagation) = propagation(root.propagation) {
        mount_change("/", propagation).attempt(step, || "set the root's propagation")?;
    }
    rustix::process::chdir("/").attempt(step, || "enter the root")
}

/// `pivot_root(".", ".")`: the old root ends up on top of the new one and is detached from
/// there, so that no directory for it has to exist in the image (`pivot_root(2)`, NOTES).
fn pivot(root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(())
}

fn propagation(bits: u64) -> Option<MountPropagationFlags> {
    let bits = u32::try_from(bits).ok().filter(|bits| *bits != 0)?;
    MountPropagationFlags::from_bits(bits)
}

fn mount_empty(bytes: u64, at: &str) -> io::Result<()> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(fs.as_fd(), "size", bytes.to_string())?;
    fsconfig_set_string(fs.as_fd(), "mode", "0755")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    attach_new(&fs, attributes, at)
}

fn bind(path: &str, at: &str) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, flags)?;
    move_mount(tree.as_fd(), "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// Linux 6.5 takes layer by layer (`lowerdir+`). Before, all options share one page, which the
/// old `mount(2)` fills better than `fsconfig(2)` with its 255 bytes a string: hence the short
/// names relative to the layers' directory.
fn mount_overlay(overlay: &Overlay, at: &str) -> io::Result<()> {
    rustix::process::chdir(overlay.base.as_str())?;
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !takes_layers(&fs) {
        return mount_overlay_at_once(overlay, at);
    }
    for lower in &overlay.lowers {
        fsconfig_set_string(fs.as_fd(), "lowerdir+", lower.as_str())?;
    }
    fsconfig_set_string(fs.as_fd(), "upperdir", overlay.upper.as_str())?;
    fsconfig_set_string(fs.as_fd(), "workdir", overlay.work.as_str())?;
    fsconfig_set_string(fs.as_fd(), "source", "overlay")?;
    if overlay.volatile {
        fsconfig_set_flag(fs.as_fd(), "volatile")?;
    }
    attach_new(&fs, MountAttrFlags::empty(), at)
}

/// A kernel that knows `lowerdir+` looks the layer up at once, and does not find this one. One
/// that does not takes any option as text, and complains in the end, to the kernel's log.
fn takes_layers(fs: &OwnedFd) -> bool {
    let missing = fsconfig_set_string(fs.as_fd(), "lowerdir+", "/proc/self/no-such-layer");
    missing == Err(Errno::NOENT)
}

fn mount_overlay_at_once(overlay: &Overlay, at: &str) -> io::Result<()> {
    let volatile = if overlay.volatile { ",volatile" } else { "" };
    let (lowers, upper, work) = (overlay.lowers.join(":"), &overlay.upper, &overlay.work);
    let options = format!("lowerdir={lowers},upperdir={upper},workdir={work}{volatile}");
    let options = std::ffi::CString::new(options)?;
    mount("overlay", at, "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
    Ok(())
}

fn attach_new(fs: &OwnedFd, attributes: MountAttrFlags, at: &str) -> io::Result<()> {
    fsconfig_create(fs.as_fd())?;
    let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(mount.as_fd(), "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}
