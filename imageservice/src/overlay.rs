//! Overlayfs's own marks in the directories that it stacks (kernel's overlayfs.rst).

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, Stat, XattrFlags};
use rustix::io::Errno;

const OPAQUE: &str = "trusted.overlay.opaque";

/// Whether overlayfs takes this file for "there is nothing": a character device 0/0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a whiteout of the given name.
pub(crate) fn make_whiteout(directory: impl AsFd, name: &[u8]) -> io::Result<()> {
    let mode = Mode::empty();
    Ok(rustix::fs::mknodat(directory, name, FileType::CharacterDevice, mode, 0)?)
}

/// Makes a directory hide everything of the same path in the layers below.
pub(crate) fn set_opaque(directory: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())?)
}

/// Whether a directory hides everything of the same path in the layers below.
pub(crate) fn is_opaque(directory: impl AsFd) -> io::Result<bool> {
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(directory, OPAQUE, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether an extended attribute speaks to overlayfs. No image may set one: it would hide files of
/// other layers, or redirect into them. (`user.overlay.` counts with the `userxattr` option.)
pub(crate) fn is_overlay_xattr(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}
