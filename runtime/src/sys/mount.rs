//! `mount_setattr(2)` (Linux 5.12), which changes a mount, or a whole tree of them, by descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::check;

/// Mount attributes to set and to clear, as `MOUNT_ATTR_*` bits, and a propagation (`MS_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Bits to set.
    pub(crate) set: u64,
    /// Bits to clear.
    pub(crate) clear: u64,
    /// One of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to leave it.
    pub(crate) propagation: u64,
}

/// Applies `attributes` to the mount that `mount` is open on, and to all below it if `recursive`.
pub(crate) fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    recursive: bool,
) -> io::Result<()> {
    if attributes == Attributes::default() {
        return Ok(());
    }
    let argument = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    set(mount, &argument, recursive)
}

/// Maps the owners of the files of a detached mount, and of all below it if `recursive`, as `users`,
/// a user namespace, maps its ids.
///
/// `EINVAL` if the file system cannot be mapped.
pub(crate) fn map_owners(
    mount: BorrowedFd<'_>,
    users: BorrowedFd<'_>,
    recursive: bool,
) -> io::Result<()> {
    let argument = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(users.as_raw_fd()).map_err(io::Error::other)?,
    };
    set(mount, &argument, recursive)
}

fn set(mount: BorrowedFd<'_>, argument: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a C string, and `argument` is of the size that is told.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(argument),
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}
