//! A root without `pivot_root(2)`, for hosts whose own root is the initial ramfs.
//!
//! The host's root stays below the container's. The kernel lets a user namespace mount `/proc` and
//! `/sys` if it finds a whole one of them in the mount namespace, and would find the host's: so
//! these go first.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags, mount, move_mount, unmount};

use crate::host::unescape;

/// Moves the root, attached `at` a path of the host or over its root already, and into it.
pub(super) fn move_over(root: BorrowedFd<'_>, at: Option<&str>) -> io::Result<()> {
    let keep = at.map(Path::new);
    for path in whole_kernel_mounts(&fs::read_to_string("/proc/self/mountinfo")?, keep) {
        match unmount(&path, UnmountFlags::DETACH) {
            // It went with another, or something else is there.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(_) => mount("tmpfs", &path, "tmpfs", MountFlags::empty(), None)?,
        }
    }
    rustix::process::fchdir(root)?;
    if at.is_some() {
        move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    rustix::process::chroot(".")?;
    Ok(())
}

/// Mount points of whole `proc` and `sysfs` file systems in `/proc/self/mountinfo`, but for those
/// in the root itself.
fn whole_kernel_mounts(table: &str, root: Option<&Path>) -> Vec<PathBuf> {
    let lines = table.lines().filter_map(|line| {
        let (mount, fs) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let whole = fields.next()? == "/";
        let point = PathBuf::from(unescape(fields.next()?));
        let kind = fs.split(' ').next()?;
        let inside = root.is_some_and(|root| point.starts_with(root));
        (whole && matches!(kind, "proc" | "sysfs") && !inside).then_some(point)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_kernel_file_systems_outside_of_the_root_are_found() {
        let table = "1 0 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
            2 1 0:5 / /a\\040proc rw,relatime - proc proc rw\n\
            3 1 0:5 /sys /b rw - proc proc rw\n\
            4 1 0:6 / /sys rw master:7 - sysfs sysfs rw\n\
            5 1 0:7 / /run/root/proc rw - proc proc rw\n";
        let found = whole_kernel_mounts(table, Some(Path::new("/run/root")));
        assert_eq!(found, [Path::new("/a proc"), Path::new("/sys")]);
    }
}
