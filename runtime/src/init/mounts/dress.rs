//! Attributes, propagation and owners of a detached mount.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::StatVfsMountFlags;

use crate::plan::{IdMaps, Mount};
use crate::sys::mount::{Attributes, map_owners, set_attributes};

use super::super::users;

/// Gives a cloned tree its propagation and its attributes.
pub(super) fn dress(tree: &OwnedFd, mount: &Mount) -> io::Result<()> {
    let before = mount.locked.then(|| flags(tree)).transpose()?;
    if mount.propagation.is_empty() {
        propagate(tree.as_fd(), &[libc::MS_PRIVATE | libc::MS_REC])?;
    }
    propagate(tree.as_fd(), &mount.propagation)?;
    let own = Attributes { set: mount.set, clear: mount.clear, propagation: 0 };
    set_attributes(tree.as_fd(), own, false)?;
    let deep = Attributes { set: mount.deep_set, clear: mount.deep_clear, propagation: 0 };
    set_attributes(tree.as_fd(), deep, true)?;
    before.map_or(Ok(()), |before| refuse_loosened(before, flags(tree)?))
}

fn flags(tree: &OwnedFd) -> io::Result<StatVfsMountFlags> {
    Ok(rustix::fs::fstatvfs(tree)?.f_flag)
}

/// What the kernel locks for a mount namespace with fewer privileges is not opened for it by those
/// of the host. The tree is nowhere attached yet: it is gone with its descriptor.
fn refuse_loosened(before: StatVfsMountFlags, after: StatVfsMountFlags) -> io::Result<()> {
    const RESTRICTIONS: [(StatVfsMountFlags, &str); 4] = [
        (StatVfsMountFlags::RDONLY, "ro"),
        (StatVfsMountFlags::NOSUID, "nosuid"),
        (StatVfsMountFlags::NODEV, "nodev"),
        (StatVfsMountFlags::NOEXEC, "noexec"),
    ];
    let times = StatVfsMountFlags::NOATIME
        .union(StatVfsMountFlags::NODIRATIME)
        .union(StatVfsMountFlags::RELATIME);
    let lost = RESTRICTIONS.iter().filter(|(flag, _)| before.difference(after).contains(*flag));
    let mut lost: Vec<_> = lost.map(|(_, name)| *name).collect();
    if before.intersection(times) != after.intersection(times) {
        lost.push("its time of access");
    }
    if lost.is_empty() {
        return Ok(());
    }
    let why = format!(
        "operation not permitted: {} of the source cannot change for a user namespace",
        lost.join(", ")
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Changes the propagation of a mount, one after the other.
pub(super) fn propagate(mount: BorrowedFd<'_>, changes: &[u64]) -> io::Result<()> {
    for change in changes {
        let recursive = change & libc::MS_REC != 0;
        let propagation = change & !libc::MS_REC;
        set_attributes(mount, Attributes { propagation, ..Attributes::default() }, recursive)?;
    }
    Ok(())
}

/// User namespaces that have been made to map mounts.
pub(super) type Known = Vec<(IdMaps, OwnedFd)>;

/// Maps the owners of a mount's files if the plan says so: with mappings of its own, or as `users`,
/// the container's user namespace, has them.
pub(super) fn map(
    tree: &OwnedFd,
    mount: &Mount,
    users: Option<&OwnedFd>,
    known: &mut Known,
) -> io::Result<()> {
    let (Some(mapping), Some(owners)) = (mapping(mount, users, known)?, &mount.owners) else {
        return Ok(());
    };
    map_owners(tree.as_fd(), mapping, owners.recursive)
        .map_err(|error| explain_mapping(tree, error))
}

/// The user namespace that maps the owners of a mount's files, if the plan says so.
pub(super) fn mapping<'k>(
    mount: &Mount,
    users: Option<&'k OwnedFd>,
    known: &'k mut Known,
) -> io::Result<Option<BorrowedFd<'k>>> {
    let Some(owners) = &mount.owners else {
        return Ok(None);
    };
    let mapping = match &owners.maps {
        Some(maps) => Some(made(maps, known)?),
        None => users.map(AsFd::as_fd),
    };
    mapping.map(Some).ok_or_else(|| io::Error::other("no user namespace to map it with"))
}

fn made<'k>(maps: &IdMaps, known: &'k mut Known) -> io::Result<BorrowedFd<'k>> {
    let found = known.iter().position(|(other, _)| other == maps);
    let index = match found {
        Some(index) => index,
        None => {
            known.push((maps.clone(), users::make(maps)?));
            known.len() - 1
        }
    };
    Ok(known[index].1.as_fd())
}

/// The kernel says no more than that something is invalid.
pub(in crate::init) fn explain_mapping(tree: &OwnedFd, error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(libc::EINVAL) {
        return error;
    }
    let magic = rustix::fs::fstatfs(tree).map_or(0, |fs| fs.f_type);
    let name = FILE_SYSTEMS.iter().find(|(number, _)| *number == magic);
    let name = name.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned());
    let words = format!("its file system ({name}) cannot map owners on this kernel");
    io::Error::new(io::ErrorKind::Unsupported, words)
}

/// File systems that volumes are on, by `statfs(2)`.
const FILE_SYSTEMS: [(rustix::fs::FsWord, &str); 14] = [
    (0x0102_1994, "tmpfs"),
    (0x0102_1997, "9p"),
    (0x00C0_FFEE, "hostfs"),
    (0x2FC1_2FC1, "zfs"),
    (0x517B, "smb"),
    (0x5846_5342, "xfs"),
    (0x6573_5546, "fuse"),
    (0x6969, "nfs"),
    (0x794C_7630, "overlay"),
    (0x9123_683E, "btrfs"),
    (0x9FA0, "proc"),
    (0xEF53, "ext4"),
    (0xFE53_4D42, "smb2"),
    (0xFF53_4D42, "cifs"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_forbids_stays_forbidden() {
        type Flags = StatVfsMountFlags;
        let relative = Flags::RELATIME;
        for (before, after, words) in [
            (Flags::RDONLY | relative, Flags::RDONLY | Flags::NOSUID | relative, None),
            (Flags::NOEXEC | relative, relative, Some("noexec of the source")),
            (Flags::RDONLY | Flags::NODEV, Flags::empty(), Some("ro, nodev of the source")),
            (relative, Flags::NOATIME, Some("its time of access")),
            (Flags::empty(), relative, Some("its time of access")),
        ] {
            let refused = refuse_loosened(before, after).map_err(|error| error.to_string());
            match (&refused, words) {
                (Ok(()), None) => {}
                (Err(error), Some(words)) => assert!(error.contains(words), "{error}"),
                _ => panic!("{before:?} {after:?}: {refused:?}"),
            }
        }
    }
}
