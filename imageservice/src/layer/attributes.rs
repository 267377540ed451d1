//! Owner, mode, times and extended attributes of what a layer brings.
//!
//! The order is chown, xattrs, chmod, times: chown clears setuid bits and `security.capability`,
//! and everything before the last step changes the times.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::pax::Time;
use super::tar::Entry;

/// The longest value of an extended attribute (`XATTR_SIZE_MAX`).
const MAX_XATTR: usize = 64 << 10;
/// The longest name of one (`XATTR_NAME_MAX`).
const MAX_XATTR_NAME: usize = 255;

/// A file to set attributes of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// An open regular file or directory.
    Open(BorrowedFd<'a>),
    /// A name in an open directory: what cannot be opened, or must not be.
    Name { directory: BorrowedFd<'a>, name: &'a [u8], is_symlink: bool },
}

/// Gives a file what its entry says, but for the times of directories, which change until the last
/// of their files is there.
pub(crate) fn set(subject: Subject<'_>, entry: &Entry) -> io::Result<()> {
    set_owner(subject, entry)?;
    for (name, value) in &entry.xattrs {
        set_xattr(subject, name, value)?;
    }
    set_mode(subject, entry)
}

/// Access and modification time, both as the entry has them.
pub(crate) fn set_times(subject: Subject<'_>, time: Time) -> io::Result<()> {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) };
    let times = Timestamps { last_access: time, last_modification: time };
    match subject {
        Subject::Open(fd) => fs::futimens(fd, &times)?,
        Subject::Name { directory, name, .. } => {
            fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

/// Whether an entry's extended attributes can be set at all; what they may say is not asked here.
pub(crate) fn check_xattrs(entry: &Entry) -> Result<(), &'static str> {
    for (name, value) in &entry.xattrs {
        if name.is_empty() || name.len() > MAX_XATTR_NAME || name.contains(&0) {
            return Err("an extended attribute without a proper name");
        }
        if value.len() > MAX_XATTR {
            return Err("an extended attribute of more than 64 KiB");
        }
    }
    Ok(())
}

fn set_owner(subject: Subject<'_>, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    match subject {
        Subject::Open(fd) => fs::fchown(fd, uid, gid)?,
        Subject::Name { directory, name, .. } => {
            fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

fn set_mode(subject: Subject<'_>, entry: &Entry) -> io::Result<()> {
    let mode = Mode::from_raw_mode(entry.mode);
    match subject {
        Subject::Open(fd) => fs::fchmod(fd, mode)?,
        // Symlinks have no mode on Linux, and fchmodat(2) would follow them.
        Subject::Name { is_symlink: true, .. } => {}
        Subject::Name { directory, name, .. } => {
            fs::chmodat(directory, name, mode, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Sets an extended attribute; one that the file system or the kind of file cannot have is left
/// out, as other engines do.
pub(crate) fn set_xattr(subject: Subject<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    let flags = XattrFlags::empty();
    let (result, is_ordinary) = match subject {
        Subject::Open(fd) => (fs::fsetxattr(fd, name, value, flags), true),
        Subject::Name { directory, name: file, .. } => {
            // There is no setxattrat(2) before Linux 6.13. The magic link is ours and leads to a
            // directory that we have open; its last component is not followed.
            let fd = directory.as_fd().as_raw_fd();
            let path = [format!("/proc/self/fd/{fd}/").as_bytes(), file].concat();
            (fs::lsetxattr(path, name, value, flags), false)
        }
    };
    match result {
        Err(Errno::OPNOTSUPP) => tracing::debug!(?subject, "file system without xattrs, ignoring"),
        Err(Errno::PERM) if name.starts_with(b"user.") && !is_ordinary => {
            tracing::debug!(?subject, "user xattr on a special file, ignoring");
        }
        other => other?,
    }
    Ok(())
}
