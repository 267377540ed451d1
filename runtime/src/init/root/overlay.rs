//! The overlay of an image's layers and a writable one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_set_flag, fsconfig_set_string, fsopen, mount,
};

use crate::plan::Overlay;

use super::super::paths::RootDirectory;

/// Makes the overlay, detached; none if only [`mount_at_once`] can.
///
/// Linux 6.5 takes layer by layer (`lowerdir+`). Before, all options share one page, which the
/// old `mount(2)` fills better than `fsconfig(2)` with its 255 bytes a string: hence the short
/// names relative to the layers' directory.
pub(super) fn make(overlay: &Overlay) -> io::Result<Option<OwnedFd>> {
    rustix::process::chdir(overlay.base.as_str())?;
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !takes_layers(&fs) {
        return Ok(None);
    }
    for lower in &overlay.lowers {
        fsconfig_set_string(fs.as_fd(), "lowerdir+", lower.as_str())?;
    }
    fsconfig_set_string(fs.as_fd(), "upperdir", overlay.upper.as_str())?;
    fsconfig_set_string(fs.as_fd(), "workdir", overlay.work.as_str())?;
    fsconfig_set_string(fs.as_fd(), "source", "overlay")?;
    if overlay.volatile {
        fsconfig_set_flag(fs.as_fd(), "volatile")?;
    }
    if !overlay.label.is_empty() {
        fsconfig_set_string(fs.as_fd(), "context", overlay.label.as_str())?;
    }
    super::made(&fs, MountAttrFlags::empty()).map(Some)
}

/// A kernel that knows `lowerdir+` looks the layer up at once, and does not find this one. One
/// that does not takes any option as text, and complains in the end, to the kernel's log.
fn takes_layers(fs: &OwnedFd) -> bool {
    let missing = fsconfig_set_string(fs.as_fd(), "lowerdir+", "/proc/self/no-such-layer");
    missing == Err(Errno::NOENT)
}

/// Mounts the overlay at a path of the host.
pub(super) fn mount_at_once(overlay: &Overlay, at: &str) -> io::Result<RootDirectory> {
    let volatile = if overlay.volatile { ",volatile" } else { "" };
    let (lowers, upper, work) = (overlay.lowers.join(":"), &overlay.upper, &overlay.work);
    // It has commas in it.
    let label = match overlay.label.as_str() {
        "" => String::new(),
        label => format!(",context=\"{label}\""),
    };
    let options = format!("lowerdir={lowers},upperdir={upper},workdir={work}{volatile}{label}");
    let options = std::ffi::CString::new(options)?;
    rustix::process::chdir(overlay.base.as_str())?;
    mount("overlay", at, "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
    Ok(RootDirectory::new(super::open_directory(at)?))
}
