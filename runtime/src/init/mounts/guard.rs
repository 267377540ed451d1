//! What may not be mounted, wherever symbolic links lead: anything but the real `/proc` on `/proc`,
//! and anything in it, since runtimes and libraries trust it (CVE-2019-16884, CVE-2019-19921,
//! CVE-2023-27561).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, PROC_SUPER_MAGIC, StatxFlags, fstatfs, statx};

use crate::plan::Mount;
use crate::spec::may_be_below_proc;

use super::super::paths::{Kind, RootDirectory, kind_of};

/// Refuses to mount `tree` on `target` if that would hide or forge the container's `/proc`.
pub(super) fn check(
    root: &RootDirectory,
    mount: &Mount,
    tree: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
) -> io::Result<()> {
    let place = Place::of(target)?;
    if place == Place::of(root.as_fd())? {
        return refuse("it is the root");
    }
    if may_be_below_proc(&mount.destination) {
        return Ok(());
    }
    if mount.destination.starts_with("/proc/") {
        return refuse("it is inside /proc");
    }
    let Ok(proc) = root.open("/proc") else {
        return Ok(());
    };
    let proc_place = Place::of(proc.as_fd())?;
    if place == proc_place {
        return if is_proc(tree)? { Ok(()) } else { refuse("only the real /proc may be there") };
    }
    if place.mount == proc_place.mount && is_proc(proc.as_fd())? {
        return refuse("it is inside /proc");
    }
    Ok(())
}

/// The target of `/proc` and `/sys`, which no symbolic link of an image may move.
pub(super) fn directory_without_links(root: &RootDirectory, mount: &Mount) -> io::Result<OwnedFd> {
    let path = &mount.destination;
    let target = match root.open_without_links(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            root.open_or_make(path, Kind::Directory)?;
            root.open_without_links(path)
        }
        found => found,
    };
    match target {
        Ok(target) if kind_of(target.as_fd())? == Kind::Directory => Ok(target),
        Err(error) if error.raw_os_error() != Some(libc::ELOOP) => Err(error),
        _ => Err(io::Error::other("it must be mounted on ordinary directory")),
    }
}

fn is_proc(file: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(fstatfs(file)?.f_type == PROC_SUPER_MAGIC)
}

/// Where something is: which file, in which mount.
#[derive(PartialEq, Eq)]
struct Place {
    device: (u32, u32),
    inode: u64,
    mount: u64,
}

impl Place {
    fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        let about = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::MNT_ID)?;
        let device = (about.stx_dev_major, about.stx_dev_minor);
        Ok(Self { device, inode: about.stx_ino, mount: about.stx_mnt_id })
    }
}

fn refuse(why: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}
