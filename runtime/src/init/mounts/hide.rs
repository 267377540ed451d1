//! Paths of the container that read as empty, and those that cannot be written to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::null;
use crate::plan::{FileSystem, Mount};
use crate::protocol::Step;
use crate::sys::mount::{Attributes, set_attributes};

use super::super::paths::{Kind, RootDirectory, kind_of};
use super::super::{Attempt, Fault};
use super::{attach, clone_of, filesystem};

/// Hides `masked` and protects `read_only`; what does not exist needs neither.
pub(in crate::init) fn mask(
    root: &RootDirectory,
    masked: &[String],
    read_only: &[String],
) -> Result<(), Fault> {
    let mut empty = None;
    for path in masked {
        existing(root, path)
            .and_then(|target| target.map_or(Ok(()), |target| hide(&target, &mut empty)))
            .attempt(Step::Mount, || format!("linux.maskedPaths: mask {path}"))?;
    }
    for path in read_only {
        existing(root, path)
            .and_then(|target| target.map_or(Ok(()), |target| protect(target.as_fd())))
            .attempt(Step::Mount, || format!("linux.readonlyPaths: make {path} read-only"))?;
    }
    Ok(())
}

/// What a link inside of the root leads to is what would be read through it.
fn existing(root: &RootDirectory, path: &str) -> io::Result<Option<OwnedFd>> {
    match root.open(path) {
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
/// (CVE-2025-31133). Read-only, or root in the container could change its mode and owner.
fn hide(target: &OwnedFd, empty: &mut Option<OwnedFd>) -> io::Result<()> {
    if kind_of(target.as_fd())? == Kind::File {
        return attach(null::clone_mount()?.as_fd(), target.as_fd());
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
    let fs = FileSystem {
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        options,
        label: String::new(),
    };
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    filesystem::make(&fs, &Mount { set, ..Mount::default() }, None)
}

fn protect(target: BorrowedFd<'_>) -> io::Result<()> {
    let tree = clone_of(target, true)?;
    let read_only = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
    set_attributes(tree.as_fd(), read_only, true)?;
    attach(tree.as_fd(), target)
}
