//! Device nodes and the links beside them.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat, statat, symlinkat,
};
use rustix::io::Errno;

use crate::plan::{Device, Link};
use crate::protocol::Step;

use super::paths::RootDirectory;
use super::{Attempt, Fault};

/// Makes all nodes and links.
pub(super) fn make(root: &RootDirectory, devices: &[Device], links: &[Link]) -> Result<(), Fault> {
    for device in devices {
        make_node(root, device).attempt(Step::Device, || format!("make device {}", device.path))?;
    }
    for link in links {
        make_link(root, link)
            .attempt(Step::Device, || format!("link {} to {}", link.path, link.target))?;
    }
    Ok(())
}

fn make_node(root: &RootDirectory, device: &Device) -> io::Result<()> {
    let (parent, name) = root.parent_of(&device.path)?;
    let kind = FileType::from_raw_mode(device.mode);
    let number = makedev(device.major, device.minor);
    let mode = Mode::from_raw_mode(device.mode);
    match mknodat(&parent, name, kind, mode, number) {
        Err(Errno::EXIST) => return expect_same(std::os::fd::AsFd::as_fd(&parent), name, device),
        made => made?,
    }
    // Both again by name: the mask of the process has no say, and nobody else is here yet.
    chmodat(&parent, name, mode, AtFlags::empty())?;
    let (owner, group) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    chownat(&parent, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn expect_same(parent: BorrowedFd<'_>, name: &str, device: &Device) -> io::Result<()> {
    let found = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let same_kind = FileType::from_raw_mode(found.st_mode) == FileType::from_raw_mode(device.mode);
    if same_kind && found.st_rdev == makedev(device.major, device.minor) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there"))
}

fn make_link(root: &RootDirectory, link: &Link) -> io::Result<()> {
    let (parent, name) = root.parent_of(&link.path)?;
    match symlinkat(link.target.as_str(), &parent, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
