//! What is mounted into the container, and what is hidden in it.
//!
//! A mount is made detached, gets its attributes while nobody can reach it, and is moved onto a
//! target that was opened beneath the root. Mounts of the host and of the pod are opened before
//! the child has a mount namespace of its own: only so can a clone stay a peer or a slave of
//! what it was cloned from.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::plan::{FileSystem, Mount, MountSource, Shared};
use crate::protocol::Step;
use crate::sys::mount::{Attributes, set_attributes};

use super::namespaces::inside_mounts_of;
use super::paths::{Kind, RootDirectory, kind_of};
use super::{Attempt, Fault, Inheritance};

/// Opens the mounts that come from the host or from another process, index for index.
pub(super) fn open_foreign(
    mounts: &[Mount],
    given: &Inheritance<'_>,
) -> Result<Vec<Option<OwnedFd>>, Fault> {
    mounts.iter().map(|mount| open_one_foreign(mount, given)).collect()
}

fn open_one_foreign(mount: &Mount, given: &Inheritance<'_>) -> Result<Option<OwnedFd>, Fault> {
    let tree = match &mount.source {
        Some(MountSource::Bind(bind)) => clone_tree(&bind.path, bind.recursive)
            .attempt(Step::Mount, || format!("open {} for {}", bind.path, mount.destination))?,
        Some(MountSource::Shared(shared)) => open_shared(shared, given)?,
        _ => return Ok(None),
    };
    Ok(Some(tree))
}

/// A detached clone of a mount of another process.
pub(super) fn open_shared(shared: &Shared, given: &Inheritance<'_>) -> Result<OwnedFd, Fault> {
    given
        .handle(shared.of)
        .and_then(|pidfd| inside_mounts_of(pidfd, || clone_tree(&shared.path, false)))
        .attempt(Step::Mount, || format!("open the pod's {}", shared.path))
}

/// Mounts everything, in order.
pub(super) fn mount_all(
    root: &RootDirectory,
    mounts: &[Mount],
    foreign: Vec<Option<OwnedFd>>,
) -> Result<(), Fault> {
    for (mount, foreign) in mounts.iter().zip(foreign) {
        mount_one(root, mount, foreign)
            .attempt(Step::Mount, || format!("mount {}", describe(mount)))?;
    }
    Ok(())
}

fn mount_one(root: &RootDirectory, mount: &Mount, foreign: Option<OwnedFd>) -> io::Result<()> {
    let tree = match (&mount.source, foreign) {
        (Some(MountSource::New(fs)), _) => make(fs, mount.set)?,
        (_, Some(tree)) => {
            dress(&tree, mount)?;
            tree
        }
        (_, None) => return Err(io::Error::other("nothing to mount")),
    };
    let target = target(root, mount, kind_of(tree.as_fd())?)?;
    attach(tree.as_fd(), target.as_fd())
}

/// Gives a cloned tree its propagation, all the way down, and its attributes.
fn dress(tree: &OwnedFd, mount: &Mount) -> io::Result<()> {
    let propagation = match mount.propagation {
        0 => libc::MS_PRIVATE,
        other => other,
    };
    set_attributes(tree.as_fd(), Attributes { propagation, ..Attributes::default() }, true)?;
    let attributes = Attributes { set: mount.set, clear: mount.clear, propagation: 0 };
    set_attributes(tree.as_fd(), attributes, mount.recursive)
}

fn make(fs: &FileSystem, attributes: u64) -> io::Result<OwnedFd> {
    let context = fsopen(fs.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !fs.source.is_empty() {
        fsconfig_set_string(context.as_fd(), "source", fs.source.as_str())?;
    }
    for option in &fs.options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(context.as_fd(), key, value)?,
            None => fsconfig_set_flag(context.as_fd(), option.as_str())?,
        }
    }
    fsconfig_create(context.as_fd())?;
    let attributes = u32::try_from(attributes).ok().and_then(MountAttrFlags::from_bits);
    let attributes = attributes.ok_or_else(|| io::Error::other("unknown mount attributes"))?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn target(root: &RootDirectory, mount: &Mount, kind: Kind) -> io::Result<OwnedFd> {
    let target = root.open_or_make(&mount.destination, kind)?;
    if mount.no_links {
        return root.open_without_links(&mount.destination);
    }
    Ok(target)
}

/// Hides `masked` and protects `read_only`; what does not exist needs neither.
pub(super) fn mask(
    root: &RootDirectory,
    masked: &[String],
    read_only: &[String],
) -> Result<(), Fault> {
    let mut empty = None;
    for path in masked {
        existing(root, path)
            .and_then(|target| target.map_or(Ok(()), |target| hide(&target, &mut empty)))
            .attempt(Step::Mount, || format!("mask {path}"))?;
    }
    for path in read_only {
        existing(root, path)
            .and_then(|target| target.map_or(Ok(()), |target| protect(target.as_fd())))
            .attempt(Step::Mount, || format!("make {path} read-only"))?;
    }
    Ok(())
}

fn existing(root: &RootDirectory, path: &str) -> io::Result<Option<OwnedFd>> {
    match root.open_without_links(path) {
        Ok(target) => Ok(Some(target)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Covers a directory with an empty read-only tmpfs (one for all of them) and anything else
/// with the *host's* `/dev/null`: the container's own could have been replaced by its image
/// (CVE-2025-31133).
fn hide(target: &OwnedFd, empty: &mut Option<OwnedFd>) -> io::Result<()> {
    if kind_of(target.as_fd())? == Kind::File {
        return attach(clone_tree("/dev/null", false)?.as_fd(), target.as_fd());
    }
    let tree = match empty {
        Some(first) => clone_of(first.as_fd(), false)?,
        None => make_empty()?,
    };
    attach(tree.as_fd(), target.as_fd())?;
    empty.get_or_insert(tree);
    Ok(())
}

fn make_empty() -> io::Result<OwnedFd> {
    let options = vec!["size=0".to_owned(), "nr_inodes=1".to_owned(), "mode=0555".to_owned()];
    let fs = FileSystem { kind: "tmpfs".to_owned(), source: String::new(), options };
    make(&fs, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)
}

fn protect(target: BorrowedFd<'_>) -> io::Result<()> {
    let tree = clone_of(target, true)?;
    let read_only = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
    set_attributes(tree.as_fd(), read_only, true)?;
    attach(tree.as_fd(), target)
}

/// Moves a detached mount onto what `target` is open on.
pub(super) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", flags)?)
}

/// A detached clone of what `file` is open on.
pub(super) fn clone_of(file: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(file, "", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

fn clone_tree(path: &str, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, clone_flags(recursive))?)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

fn describe(mount: &Mount) -> String {
    let destination = &mount.destination;
    match &mount.source {
        Some(MountSource::New(fs)) => format!("{} on {destination}", fs.kind),
        Some(MountSource::Bind(bind)) => format!("{} on {destination}", bind.path),
        Some(MountSource::Shared(shared)) => format!("the pod's {} on {destination}", shared.path),
        None => format!("nothing on {destination}"),
    }
}
