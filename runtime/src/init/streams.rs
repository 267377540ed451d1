//! The three standard streams, none of which is the host's `/dev/null` as everybody has it.
//!
//! Who holds a descriptor of it can change its mode and owner, for the whole host: all it takes
//! is to be root in a container. In its place comes the null device of the container's own
//! `/dev` or, where there is none (any more), the host's through a read-only mount.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FileType, Gid, OFlags, Uid, fchown, fstat};
use rustix::io::Errno;

use crate::null::{ReadOnlyNull, is_exposed, is_null};
use crate::protocol::Step;
use crate::sys::fds;

use super::paths::RootDirectory;
use super::users::Owner;
use super::{Attempt, Fault, Inheritance};

/// Makes the given streams 0, 1 and 2 of a new container's first process.
pub(super) fn install(given: &Inheritance<'_>, root: &RootDirectory) -> Result<(), Fault> {
    install_or(given, Some(root), |given| last_resort(given).map(Some))
}

/// Makes the given streams 0, 1 and 2 of a foreign runtime, which passes them on.
pub(super) fn install_here(given: &Inheritance<'_>) -> Result<(), Fault> {
    install_or(given, None, |given| last_resort(given).map(Some))
}

/// The host's null device, opened before a container is entered; nothing if no stream needs it.
pub(super) fn prepare(given: &Inheritance<'_>) -> Result<Option<OwnedFd>, Fault> {
    let needed = given.streams.iter().any(|stream| stream.is_none_or(is_exposed));
    needed.then(|| last_resort(given)).transpose().attempt(Step::Streams, || "open /dev/null")
}

/// Makes the given streams 0, 1 and 2 of a process that has entered a container.
pub(super) fn install_inside(
    given: &Inheritance<'_>,
    prepared: Option<OwnedFd>,
) -> Result<(), Fault> {
    let root = RootDirectory::own().attempt(Step::Streams, || "open the container's root")?;
    install_or(given, Some(&root), |_| Ok(prepared))
}

/// Gives the pipes and sockets among the streams to a user of the host and its group: what is of
/// somebody whom a user namespace does not know can be given to nobody in there, and could not be
/// opened again as `/dev/stdout` and the like.
pub(super) fn give(given: &Inheritance<'_>, (uid, gid): Owner) -> Result<(), Fault> {
    for (number, stream) in (0..).zip(given.streams) {
        let Some(stream) = stream else { continue };
        let attempt = || format!("give stream {number} to user {uid} of the host");
        let status = fstat(stream).attempt(Step::Streams, attempt)?;
        let kind = FileType::from_raw_mode(status.st_mode);
        if !matches!(kind, FileType::Fifo | FileType::Socket)
            || (status.st_uid, status.st_gid) == (uid, gid)
        {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
            // A caller's, that is on a file system without owners, or not ours to give.
            Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::ROFS | Errno::OVERFLOW) => {}
            Err(error) => return Err(error).attempt(Step::Streams, attempt),
        }
    }
    Ok(())
}

fn install_or(
    given: &Inheritance<'_>,
    root: Option<&RootDirectory>,
    fallback: impl FnOnce(&Inheritance<'_>) -> io::Result<Option<OwnedFd>>,
) -> Result<(), Fault> {
    let kept = given.streams.map(|stream| stream.filter(|stream| !is_exposed(*stream)));
    let replacement = if kept.iter().all(Option::is_some) {
        None
    } else {
        let found = root.and_then(own).map_or_else(|| fallback(given), |own| Ok(Some(own)));
        found.attempt(Step::Streams, || "open /dev/null")?
    };
    let replacement = replacement.as_ref().map(OwnedFd::as_fd);
    for (number, stream) in (0..).zip(kept) {
        let stream = stream.or(replacement).ok_or(io::ErrorKind::NotFound);
        stream
            .map_err(io::Error::from)
            .and_then(|stream| fds::install(stream, number))
            .attempt(Step::Streams, || format!("install stream {number}"))?;
    }
    Ok(())
}

/// The container's own null device, if that is what it has there.
fn own(root: &RootDirectory) -> Option<OwnedFd> {
    // Looked at before it is opened, which may block, and afterwards, when nobody can change it.
    root.open("/dev/null").ok().filter(|found| is_null(found.as_fd()))?;
    let opened = root.open_with("/dev/null", OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK);
    opened.ok().filter(|opened| is_null(opened.as_fd()))
}

fn last_resort(given: &Inheritance<'_>) -> io::Result<OwnedFd> {
    match given.null {
        Some(null) => null.try_clone_to_owned(),
        None => Ok(ReadOnlyNull::open()?.into_stream()),
    }
}
