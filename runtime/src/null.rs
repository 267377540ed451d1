//! The host's null device, for others to use and not to change.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, makedev, open};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::sys::mount::{Attributes, set_attributes};

const PATH: &str = "/dev/null";

/// `/dev/null` through a read-only mount of its own, which belongs to no mount namespace: it can
/// be written to, as devices can, but neither its mode nor its owner can be changed.
///
/// To let go of a mount waits for the kernel's readers (milliseconds on a busy machine). Who
/// needs it often keeps it.
#[derive(Debug)]
pub(crate) struct ReadOnlyNull {
    _mount: OwnedFd,
    stream: OwnedFd,
}

impl ReadOnlyNull {
    /// Opens it, for reading and writing.
    pub(crate) fn open() -> io::Result<Self> {
        let mount = clone_mount()?;
        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
        let stream = open(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?;
        if !is_null(stream.as_fd()) {
            return Err(io::Error::other("it is not the null device"));
        }
        Ok(Self { _mount: mount, stream })
    }

    /// What can be given to a process.
    pub(crate) fn stream(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Keeps the device alone.
    pub(crate) fn into_stream(self) -> OwnedFd {
        self.stream
    }
}

/// A detached, read-only mount of nothing but `/dev/null`.
pub(crate) fn clone_mount() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, PATH, flags)?;
    let read_only = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
    set_attributes(mount.as_fd(), read_only, false)?;
    Ok(mount)
}

/// Whether it is the null device, by its number.
pub(crate) fn is_null(file: BorrowedFd<'_>) -> bool {
    fstat(file).is_ok_and(|found| {
        let device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
        device && found.st_rdev == makedev(1, 3)
    })
}

/// Whether it is a null device whose mode and owner can be changed.
pub(crate) fn is_exposed(file: BorrowedFd<'_>) -> bool {
    let read_only = || fstatvfs(file).map(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    is_null(file) && !read_only().unwrap_or(false)
}
