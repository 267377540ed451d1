//! A layer that is no archive: the content of one file.

use std::io::Write;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{self, Mode, OFlags};

use super::path::split;
use super::tree::Tree;
use super::unpack::Expected;
use super::verify::{Chunks, Verified};
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::progress::LayerMeter;

/// Writes a verified file of root's, 0644, at a clean path of an empty layer. Its time is the epoch:
/// nobody has said another one. Blocks.
///
/// # Errors
/// As [`super::unpack`].
pub(crate) fn write(
    expected: &Expected,
    path: &[u8],
    chunks: Chunks,
    meter: LayerMeter,
    root: OwnedFd,
    limits: &Limits,
) -> Result<()> {
    let Expected { what, digest, size, .. } = expected;
    if *size > limits.layer {
        let limit = format!("at most {} bytes", limits.layer);
        return Err(Error::TooLarge { what: what.clone(), limit });
    }
    let storage = |step: &'static str| move |error| Error::storage(step, what, error);
    // Nothing is displaced: it is empty.
    let attic = root.try_clone().map_err(storage("open the directory of"))?;
    let mut tree = Tree::new(root, attic);
    let (directory, name) = split(path);
    let at = tree.descend(directory).map_err(storage("make directories of"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = fs::openat(&at.fd, name, flags, Mode::from_raw_mode(0o644));
    let mut file = std::fs::File::from(file.map_err(|e| storage("create file of")(e.into()))?);
    let mut verified = Verified::new(chunks, what, digest, *size, meter);
    while let Some(chunk) = verified.chunk()? {
        file.write_all(&chunk).map_err(storage("write file of"))?;
    }
    verified.finish()?;
    let epoch = fs::Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = fs::Timestamps { last_access: epoch, last_modification: epoch };
    fs::fchmod(file.as_fd(), Mode::from_raw_mode(0o644))
        .and_then(|()| fs::futimens(file.as_fd(), &times))
        .map_err(|e| storage("set attributes of file of")(e.into()))
}
