//! Device nodes and the links beside them.
//!
//! Nobody may make nodes in a user namespace. For a container that lives in one they are made
//! beforehand, with the host's privileges, and mounted: exactly those that it is to have, whatever
//! the host has at the same path.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, makedev, mknodat, openat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::plan::{Device, Link};
use crate::protocol::Step;
use crate::sys::mount::map_owners;

use super::mounts::{attach, clone_of};
use super::paths::RootDirectory;
use super::root::Workshop;
use super::{Attempt, Fault};

const STEP: Step = Step::Device;

/// Makes nodes to be mounted, by device; none for a fifo, which everyone can make.
pub(super) fn make_nodes(
    workshop: &Workshop,
    devices: &[Device],
    users: BorrowedFd<'_>,
) -> Result<Vec<Option<OwnedFd>>, Fault> {
    let nodes = devices.iter().enumerate().map(|(index, device)| {
        if is_fifo(device) {
            return Ok(None);
        }
        make_detached(workshop.directory(), &format!("device{index}"), device, users)
            .attempt(STEP, || format!("make device {}", device.path))
            .map(Some)
    });
    nodes.collect()
}

fn make_detached(
    directory: BorrowedFd<'_>,
    name: &str,
    device: &Device,
    users: BorrowedFd<'_>,
) -> io::Result<OwnedFd> {
    make_in(directory, name, device)?;
    let node = openat(directory, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let tree = clone_of(node.as_fd(), false)?;
    match map_owners(tree.as_fd(), users, false) {
        // Before Linux 6.3 a tmpfs cannot; then they are nobody's, as the host's are.
        Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
        _ => Ok(tree),
    }
}

/// Makes all nodes, or mounts what has been made of them.
pub(super) fn make(
    root: &RootDirectory,
    devices: &[Device],
    made: Vec<Option<OwnedFd>>,
) -> Result<(), Fault> {
    let made = made.into_iter().chain(std::iter::repeat_with(|| None));
    for (device, made) in devices.iter().zip(made) {
        let place = match made {
            Some(node) => mount_node(root, device, &node),
            None => make_node(root, device),
        };
        place.attempt(STEP, || format!("make device {}", device.path))?;
    }
    Ok(())
}

fn make_node(root: &RootDirectory, device: &Device) -> io::Result<()> {
    let (parent, name) = root.parent_of(&device.path)?;
    match make_in(parent.as_fd(), name, device) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            expect_same(parent.as_fd(), name, device)
        }
        made => made,
    }
}

fn make_in(parent: BorrowedFd<'_>, name: &str, device: &Device) -> io::Result<()> {
    let kind = FileType::from_raw_mode(device.mode);
    let mode = Mode::from_raw_mode(device.mode);
    mknodat(parent, name, kind, mode, makedev(device.major, device.minor))?;
    // Both again by name: the mask of the process has no say, and nobody else is here yet.
    chmodat(parent, name, mode, AtFlags::empty())?;
    let (owner, group) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    chownat(parent, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn mount_node(root: &RootDirectory, device: &Device, node: &OwnedFd) -> io::Result<()> {
    let (parent, name) = root.parent_of(&device.path)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(&parent, name, flags, Mode::empty()) {
        Ok(_) => {}
        Err(Errno::EXIST) => expect_same(parent.as_fd(), name, device)?,
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(&parent, name, flags, Mode::empty())?;
    attach(node.as_fd(), target.as_fd())
}

fn expect_same(parent: BorrowedFd<'_>, name: &str, device: &Device) -> io::Result<()> {
    let found = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let same_kind = FileType::from_raw_mode(found.st_mode) == FileType::from_raw_mode(device.mode);
    if same_kind && (is_fifo(device) || found.st_rdev == makedev(device.major, device.minor)) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there"))
}

fn is_fifo(device: &Device) -> bool {
    FileType::from_raw_mode(device.mode) == FileType::Fifo
}

/// Makes all links, where nothing is yet.
pub(super) fn link(root: &RootDirectory, links: &[Link]) -> Result<(), Fault> {
    for link in links {
        make_link(root, link).attempt(STEP, || format!("link {} to {}", link.path, link.target))?;
    }
    Ok(())
}

fn make_link(root: &RootDirectory, link: &Link) -> io::Result<()> {
    let (parent, name) = root.parent_of(&link.path)?;
    // A node of the image would lead to the host's pseudo terminals.
    if link.path == "/dev/ptmx" {
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match symlinkat(link.target.as_str(), &parent, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
