//! Paying a layer's debts to the layers below it.
//!
//! Hardlinks to files of lower layers become copies of them, linked to each other, because a hard
//! link cannot leave its layer. Directories that no entry described get the attributes that they
//! have below: overlayfs shows those of the topmost layer, and a `/tmp` that appears only because a
//! file is in it must stay world-writable. Afterwards the layer is right above these layers only.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::apply::Debts;
use super::path::split;
use crate::error::{Error, Result};
use crate::overlay;
use crate::stack::{Follow, Found, LayerFile, Stack};

/// Completes the layer in directory `own` for its place above `lowers`, top first. Blocks.
pub(crate) fn adopt(own: OwnedFd, lowers: Vec<OwnedFd>, debts: &Debts, layer: &str) -> Result<()> {
    let storage = |step: &'static str| move |error| Error::storage(step, layer, error);
    let own = Rc::new(own);
    let below = Stack::new(lowers);
    let whole = below.below(Rc::clone(&own));
    let alone = Stack::new([]).below(own);
    let mut copies: HashMap<&[u8], (OwnedFd, Vec<u8>)> = HashMap::new();
    for (path, target) in &debts.links {
        let refuse = || Error::HostileLayer {
            layer: layer.to_owned(),
            entry: String::from_utf8_lossy(path).into_owned(),
            reason: format!(
                "a hardlink to {:?}, which is no file",
                String::from_utf8_lossy(target)
            ),
        };
        let (directory, name) = split(path);
        let at = open_own(&alone, directory).map_err(storage("open parent directory"))?;
        if let Some((first, first_name)) = copies.get(target.as_slice()) {
            fs::linkat(first, first_name.as_slice(), &at, name, AtFlags::empty())
                .map_err(|error| storage("make hardlink")(error.into()))?;
            continue;
        }
        let found =
            whole.look_up(target, Follow::Parents).map_err(storage("look up link target"))?;
        let Found::Other(source) = found else { return Err(refuse()) };
        if !copy_up(&source, &at, name).map_err(storage("copy file of a lower layer"))? {
            return Err(refuse());
        }
        copies.insert(target, (at, name.to_vec()));
    }
    // Last, because files appearing in them change their times.
    for path in &debts.directories {
        let found = below.look_up(path, Follow::Nothing).map_err(storage("look up directory"))?;
        if let Found::Directory(layers) = found {
            let own = open_own(&alone, path).map_err(storage("open directory"))?;
            copy_attributes(&layers[0], &own).map_err(storage("copy attributes of directory"))?;
        }
    }
    Ok(())
}

/// Opens a directory of the layer itself by its clean path, which has no symlinks.
fn open_own(alone: &Stack, path: &[u8]) -> io::Result<OwnedFd> {
    match alone.look_up(path, Follow::Nothing)? {
        Found::Directory(layers) => Ok(layers[0].try_clone()?),
        Found::Nothing | Found::Other(_) => Err(Errno::NOTDIR.into()),
    }
}

/// Copies a regular file or a symlink with its attributes; `false` for anything else.
fn copy_up(source: &LayerFile, at: &OwnedFd, name: &[u8]) -> io::Result<bool> {
    match FileType::from_raw_mode(source.stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut from = source.open()?;
            let fd = fs::openat(at, name, flags, Mode::from_raw_mode(0o600))?;
            let mut to = std::fs::File::from(fd);
            io::copy(&mut from, &mut to)?;
            copy_attributes(from.as_fd(), to.as_fd())?;
            Ok(true)
        }
        FileType::Symlink => {
            let target = fs::readlinkat(&source.directory, source.name.as_slice(), Vec::new())?;
            fs::symlinkat(target.as_c_str(), at, name)?;
            let (uid, gid) = owner(&source.stat);
            fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Owner, extended attributes, mode and times of an open file or directory.
fn copy_attributes(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let stat = fs::fstat(from)?;
    let (uid, gid) = owner(&stat);
    fs::fchown(to, Some(uid), Some(gid))?;
    for name in xattr_names(from)? {
        if !overlay::is_overlay_xattr(&name) {
            let mut value = vec![0; fs::fgetxattr_query(from, name.as_slice())?];
            fs::fgetxattr(from, name.as_slice(), &mut value)?;
            fs::fsetxattr(to, name.as_slice(), &value, XattrFlags::empty())?;
        }
    }
    fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    fs::futimens(to, &times(&stat))?;
    Ok(())
}

fn xattr_names(fd: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let length = match fs::flistxattr_query(&fd) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    let mut list = vec![0; length];
    fs::flistxattr(&fd, &mut list)?;
    Ok(list.split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn owner(stat: &Stat) -> (fs::Uid, fs::Gid) {
    (fs::Uid::from_raw(stat.st_uid), fs::Gid::from_raw(stat.st_gid))
}

fn times(stat: &Stat) -> fs::Timestamps {
    let time = |seconds, nanos: u64| fs::Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanos).unwrap_or_default(),
    };
    fs::Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
