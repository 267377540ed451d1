//! What is mounted into the container, and what is hidden in it.
//!
//! A mount is made detached, gets its attributes while nobody can reach it, and is moved onto a
//! target that was opened beneath the root. Mounts of the host and of the pod are opened before
//! the child has a mount namespace of its own ([`foreign`]): only so can a clone stay a peer or a
//! slave of what it was cloned from, and only the host's privileges can map its owners.

mod copy_up;
mod dress;
mod filesystem;
mod foreign;
mod guard;
mod hide;
mod mapper;
mod processes;
mod stack;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::plan::{Mount, MountSource};
use crate::protocol::Step;
use crate::sys::mount::{Attributes, set_attributes};

use super::paths::{Kind, RootDirectory, kind_of};
use super::{Attempt, Fault};

pub(super) use dress::explain_mapping;
pub(super) use foreign::{open_foreign, open_shared};
pub(super) use hide::mask;
pub(super) use mapper::Mapper;
pub(super) use stack::make_stacks;

/// Mounts everything, in order.
pub(super) fn mount_all(
    root: &RootDirectory,
    mounts: &[Mount],
    foreign: Vec<Option<OwnedFd>>,
    mapper: Option<&Mapper>,
) -> Result<(), Fault> {
    for (index, (mount, foreign)) in mounts.iter().zip(foreign).enumerate() {
        let inside = || inside(root, index, mount, mapper);
        mount_one(root, mount, foreign, inside)
            .attempt(Step::Mount, || format!("mounts[{index}]: mount {}", describe(mount)))?;
    }
    Ok(())
}

fn mount_one(
    root: &RootDirectory,
    mount: &Mount,
    foreign: Option<OwnedFd>,
    inside: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<()> {
    let tree = match (&mount.source, foreign) {
        (_, Some(tree)) => tree,
        (Some(MountSource::Again(again)), _) => return filesystem::change(root, mount, again),
        (Some(MountSource::New(fs)), _) => filesystem::make(fs, mount, Some(root))?,
        (Some(MountSource::Inside(_)), _) => inside()?,
        (_, None) => return Err(io::Error::other("nothing to mount")),
    };
    let target = target(root, mount, kind_of(tree.as_fd())?)?;
    guard::check(root, mount, tree.as_fd(), target.as_fd())?;
    if mount.copy_up {
        copy_up::copy(root.open_to_read(&mount.destination)?, tree.as_fd())?;
    }
    attach(tree.as_fd(), target.as_fd())?;
    if matches!(mount.source, Some(MountSource::New(_))) {
        // Only what is in a mount namespace can be shared.
        dress::propagate(tree.as_fd(), &mount.propagation)?;
    }
    Ok(())
}

/// A clone of a part of the root, with all that has been mounted in it until now.
fn inside(
    root: &RootDirectory,
    index: usize,
    mount: &Mount,
    mapper: Option<&Mapper>,
) -> io::Result<OwnedFd> {
    let Some(MountSource::Inside(bind)) = &mount.source else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let tree = clone_of(root.open(&bind.path)?.as_fd(), bind.recursive)?;
    dress::dress(&tree, mount)?;
    match mapper {
        Some(mapper) if mount.owners.is_some() => mapper.map(index, tree.as_fd())?,
        _ => dress::map(&tree, mount, None, &mut dress::Known::default())?,
    }
    Ok(tree)
}

fn target(root: &RootDirectory, mount: &Mount, kind: Kind) -> io::Result<OwnedFd> {
    if mount.no_links {
        return guard::directory_without_links(root, mount);
    }
    let target = root.open_or_make(&mount.destination, kind)?;
    match (kind, kind_of(target.as_fd())?) {
        (Kind::Directory, Kind::File) => Err(wrong_kind(libc::ENOTDIR, "a directory", "a file")),
        (Kind::File, Kind::Directory) => Err(wrong_kind(libc::EISDIR, "a file", "a directory")),
        _ => Ok(target),
    }
}

fn wrong_kind(code: i32, source: &str, destination: &str) -> io::Error {
    let words = format!("the source is {source}, and the destination is {destination}");
    io::Error::new(io::Error::from_raw_os_error(code).kind(), words)
}

/// Makes what was made read-only later, now that nothing is made in it any more.
pub(super) fn make_read_only(root: &RootDirectory, mounts: &[Mount]) -> Result<(), Fault> {
    let read_only = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
    let later = mounts.iter().filter(|mount| mount.read_only_later);
    for destination in later.map(|mount| &mount.destination) {
        root.open(destination)
            .and_then(|mount| set_attributes(mount.as_fd(), read_only, false))
            .attempt(Step::Mount, || format!("make {destination} read-only"))?;
    }
    Ok(())
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

/// A detached clone of what is at a path of the host.
pub(super) fn clone_tree(path: &str, recursive: bool) -> io::Result<OwnedFd> {
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
        Some(MountSource::Inside(bind)) => {
            format!("the container's {} on {destination}", bind.path)
        }
        Some(MountSource::Shared(shared)) => format!("the pod's {} on {destination}", shared.path),
        Some(MountSource::Again(_)) => format!("{destination} again"),
        Some(MountSource::Stack(layers)) => {
            let first = layers.lowers.first().map_or("nothing", String::as_str);
            format!("layers from {}/{first} on on {destination}", layers.base)
        }
        None => format!("nothing on {destination}"),
    }
}
