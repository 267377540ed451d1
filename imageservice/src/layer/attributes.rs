//! Owner, mode, times and extended attributes of what a layer brings.
//!
//! The order is chown, xattrs, chmod, times: chown clears setuid bits and `security.capability`,
//! and everything before the last step changes the times.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::pax::Time;
use super::seal;
use super::tar::Entry;

/// The longest value of an extended attribute (`XATTR_SIZE_MAX`).
const MAX_XATTR: usize = 64 << 10;
/// The longest name of one (`XATTR_NAME_MAX`).
const MAX_XATTR_NAME: usize = 255;
/// Bits of `st_mode` that an entry sets.
const PERMISSIONS: u32 = 0o7777;

/// A file to set attributes of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// An open regular file or directory.
    Open(BorrowedFd<'a>),
    /// A name in an open directory: what cannot be opened, or must not be.
    Name { directory: BorrowedFd<'a>, name: &'a [u8], is_symlink: bool },
}

/// Gives a file what its entry says, but for the times of directories, which change until the last
/// of their files is there, and for extended attributes that are not for us to set. Looking is much
/// cheaper than setting, which is a transaction of the file system.
pub(crate) fn set(subject: Subject<'_>, entry: &Entry) -> io::Result<()> {
    let stat = subject.stat()?;
    let has_owner = (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid);
    if !has_owner {
        set_owner(subject, entry)?;
    }
    if let Subject::Open(fd) = subject {
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| seal::is_ordinary(name)) {
            set_xattr(fd, name, value)?;
        }
    }
    match subject {
        Subject::Open(_) if has_owner && stat.st_mode & PERMISSIONS == entry.mode => Ok(()),
        Subject::Open(fd) => Ok(fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?),
        // Symlinks have no mode on Linux, and fchmodat(2) would follow them.
        Subject::Name { is_symlink: true, .. } => Ok(()),
        Subject::Name { directory, name, .. } => {
            Ok(fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?)
        }
    }
}

/// Makes a new directory root's, with mode 0755: below a directory with the setgid bit it is born
/// with another group and mode.
pub(crate) fn set_plain(directory: impl AsFd) -> io::Result<()> {
    const MODE: u32 = 0o755;
    let stat = fs::fstat(&directory)?;
    if (stat.st_uid, stat.st_gid) != (0, 0) {
        fs::fchown(&directory, Some(Uid::ROOT), Some(Gid::ROOT))?;
    }
    if stat.st_mode & PERMISSIONS != MODE {
        fs::fchmod(&directory, Mode::from_raw_mode(MODE))?;
    }
    Ok(())
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

/// Sets an extended attribute; one that the file system cannot have is left out, as other engines
/// do.
fn set_xattr(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    match fs::fsetxattr(fd, name, value, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        done => Ok(done?),
    }
}

impl Subject<'_> {
    fn stat(self) -> io::Result<Stat> {
        Ok(match self {
            Self::Open(fd) => fs::fstat(fd)?,
            Self::Name { directory, name, .. } => {
                fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?
            }
        })
    }
}
