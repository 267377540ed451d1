//! New instances of file systems, and those that change.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{
    AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, XattrFlags, fsetxattr, openat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};

use crate::plan::{Again, FileSystem, Mount};
use crate::sys::mount::{Attributes, set_attributes};

use super::super::paths::RootDirectory;
use super::dress;

/// Makes a file system for `mount`, detached. A tmpfs has the mode of what it covers in `root`, if
/// nothing else is said.
pub(super) fn make(
    fs: &FileSystem,
    mount: &Mount,
    root: Option<&RootDirectory>,
) -> io::Result<OwnedFd> {
    let mut options = fs.options.clone();
    if fs.kind == "tmpfs"
        && !options.iter().any(|option| option.starts_with("mode="))
        && let Some(Ok(covered)) = root.map(|root| root.open(&mount.destination))
    {
        let mode = Mode::from_raw_mode(rustix::fs::fstat(covered)?.st_mode);
        options.insert(0, format!("mode={:04o}", mode.bits()));
    }
    let attributes = mount.set | mount.deep_set;
    let made = match instance(fs, &options, attributes) {
        // A group that the user namespace does not have.
        Err(error) if fs.kind == "devpts" && error == Errno::INVAL => {
            options.retain(|option| !option.starts_with("gid="));
            instance(fs, &options, attributes)?
        }
        made => made?,
    };
    if !fs.label.is_empty() {
        label(&made, &fs.label)?;
    }
    Ok(made)
}

/// Labels the root of a file system as a file is labelled.
fn label(tree: &OwnedFd, label: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(tree, ".", flags, Mode::empty())?;
    Ok(fsetxattr(root, "security.selinux", label.as_bytes(), XattrFlags::empty())?)
}

fn instance(fs: &FileSystem, options: &[String], attributes: u64) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(fs.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    finish(&context, fs, options, attributes)
}

/// Makes the file system that `context` has been opened for, detached.
pub(super) fn finish(
    context: &OwnedFd,
    fs: &FileSystem,
    options: &[String],
    attributes: u64,
) -> rustix::io::Result<OwnedFd> {
    if !fs.source.is_empty() {
        fsconfig_set_string(context.as_fd(), "source", fs.source.as_str())?;
    }
    configure(context, options)?;
    fsconfig_create(context.as_fd())?;
    let attributes = u32::try_from(attributes).ok().and_then(MountAttrFlags::from_bits);
    let attributes = attributes.ok_or(Errno::INVAL)?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn configure(context: &OwnedFd, options: &[String]) -> rustix::io::Result<()> {
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(context.as_fd(), key, value)?,
            None => fsconfig_set_flag(context.as_fd(), option.as_str())?,
        }
    }
    Ok(())
}

/// Changes what is mounted at the destination of `mount`.
pub(super) fn change(root: &RootDirectory, mount: &Mount, again: &Again) -> io::Result<()> {
    let target = root.open(&mount.destination)?;
    let about = rustix::fs::statx(&target, "", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    if !about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "nothing is mounted there"));
    }
    if !again.options.is_empty() {
        let context =
            fspick(&target, "", FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC)?;
        configure(&context, &again.options)?;
        fsconfig_reconfigure(context.as_fd())?;
    }
    dress::propagate(target.as_fd(), &mount.propagation)?;
    let own = Attributes { set: mount.set, clear: mount.clear, propagation: 0 };
    set_attributes(target.as_fd(), own, false)?;
    let deep = Attributes { set: mount.deep_set, clear: mount.deep_clear, propagation: 0 };
    set_attributes(target.as_fd(), deep, true)
}
