//! What an unpacker may not do itself, done for it afterwards: marking directories opaque, and
//! extended attributes that only a privileged process sets (xattr(7), `trusted` and `security`).
//!
//! The tree is a stranger's work. So it is not walked into: each path is opened from the layer's
//! directory, without following a symlink, and what is not there any more was replaced by a later
//! entry.

use std::collections::BTreeMap;
use std::fs::read_dir;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use super::path::split;
use crate::overlay;

/// Attributes of a file, by name.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What is left to do to a layer. Paths are clean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seals {
    /// Directories that hide all that is below them.
    pub(crate) opaque: Vec<Vec<u8>>,
    /// Extended attributes, by path.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Xattrs>,
}

/// Whether an extended attribute can be set by an unpacker, on a file that it has open.
pub(crate) fn is_ordinary(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability"
}

/// Looks at the directory that an unpacker had for itself: it holds two directories and the spine,
/// and nothing that a program outside could stumble over.
pub(crate) fn check(directory: &Path) -> io::Result<()> {
    for entry in read_dir(directory)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let is_ours = ["fs", "attic"].iter().any(|ours| name == *ours) && kind.is_dir()
            || name == "spine" && kind.is_file();
        if !is_ours {
            return Err(io::Error::other(format!("the unpacker left {name:?} behind")));
        }
    }
    Ok(())
}

/// Does what is left to do to the layer in `root`.
pub(crate) fn seal(root: &OwnedFd, seals: &Seals) -> io::Result<()> {
    for path in &seals.opaque {
        match open_directory(root, path)? {
            Some(directory) => overlay::set_opaque(&directory)?,
            None => return Err(io::Error::other("an opaque directory that is not there")),
        }
    }
    for (path, xattrs) in &seals.xattrs {
        let (parent, name) = split(path);
        let Some(parent) = open_directory(root, parent)? else { continue };
        for (key, value) in xattrs {
            set_xattr(&parent, name, key, value)?;
        }
    }
    Ok(())
}

fn open_directory(root: &OwnedFd, path: &[u8]) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = if path.is_empty() { b"." } else { path };
    match fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        directory => Ok(Some(directory?)),
    }
}

/// Sets an attribute of a file that cannot be opened, or must not be; one that the file system or
/// the kind of file cannot have is left out, as other engines do.
fn set_xattr(directory: &OwnedFd, name: &[u8], key: &[u8], value: &[u8]) -> io::Result<()> {
    // There is no setxattrat(2) before Linux 6.13. The magic link is ours and leads to a directory
    // that we have open; its last component is not followed.
    let fd = directory.as_fd().as_raw_fd();
    let path = [format!("/proc/self/fd/{fd}/").as_bytes(), name].concat();
    match fs::lsetxattr(path, key, value, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP | Errno::NOENT) => Ok(()),
        Err(Errno::PERM) if key.starts_with(b"user.") => Ok(()),
        done => Ok(done?),
    }
}
