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
    if !overlay.upper.is_empty() {
        fsconfig_set_string(fs.as_fd(), "upperdir", overlay.upper.as_str())?;
        fsconfig_set_string(fs.as_fd(), "workdir", overlay.work.as_str())?;
    }
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

/// Bytes of mount options that the old `mount(2)` takes: a page, with a zero at its end.
const OPTIONS: usize = 4096;

/// Bytes of one value that `fsconfig(2)` takes, with a zero at its end.
const VALUE: usize = 256;

/// Whether all options of the overlay fit into the one page that [`mount_at_once`] has for them.
pub(super) fn fits(overlay: &Overlay) -> bool {
    options(overlay).len() < OPTIONS
}

/// Whether a layer has a longer name than `fsconfig(2)` takes.
pub(super) fn has_long_names(overlay: &Overlay) -> bool {
    overlay.lowers.iter().any(|lower| lower.len() >= VALUE)
}

/// Whether this kernel can only [`mount_at_once`].
pub(super) fn is_old_kernel() -> io::Result<bool> {
    Ok(!takes_layers(&fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?))
}

/// Mounts the overlay at a path of the host.
pub(super) fn mount_at_once(overlay: &Overlay, at: &str) -> io::Result<RootDirectory> {
    let options = std::ffi::CString::new(options(overlay))?;
    rustix::process::chdir(overlay.base.as_str())?;
    mount("overlay", at, "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
    Ok(RootDirectory::new(super::open_directory(at)?))
}

fn options(overlay: &Overlay) -> String {
    let Overlay { lowers, upper, work, .. } = overlay;
    let lowers: Vec<_> = lowers.iter().map(|lower| escaped(lower)).collect();
    let mut options = format!("lowerdir={}", lowers.join(":"));
    if !upper.is_empty() {
        options += &format!(",upperdir={},workdir={}", escaped(upper), escaped(work));
    }
    if overlay.volatile {
        options += ",volatile";
    }
    // It has commas in it.
    if !overlay.label.is_empty() {
        options += &format!(",context=\"{}\"", overlay.label);
    }
    options
}

/// A path as one of several in the options of `mount(2)`.
fn escaped(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for letter in path.chars() {
        if matches!(letter, '\\' | ':' | ',') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_mount_name_every_directory_as_it_is() {
        let overlay = Overlay {
            lowers: vec!["2/fs/a:b".to_owned(), r"1/fs/c,\".to_owned()],
            ..Overlay::default()
        };
        assert_eq!(options(&overlay), r"lowerdir=2/fs/a\:b:1/fs/c\,\\");
        let (upper, work) = ("/u".to_owned(), "/w".to_owned());
        let overlay = Overlay { upper, work, volatile: true, label: "a,b".to_owned(), ..overlay };
        let expected = r#",upperdir=/u,workdir=/w,volatile,context="a,b""#;
        assert!(options(&overlay).ends_with(expected), "{}", options(&overlay));
    }
}
