//! The one way in which the child reads and writes `/proc`.
//!
//! Labels, scores and kernel parameters are set by writing to files of procfs. Whoever can mount
//! something on the way to such a file, or in its place, has the write go elsewhere, and the
//! container starts without its confinement or something of the host changes (CVE-2019-16884,
//! CVE-2025-52881). So the child takes hold of a procfs before it enters any namespace of a
//! container, makes sure that it is one and its root, and opens files only beneath it: across no
//! mount, through no magic link, and looking at what was opened once more.
//!
//! It is the host's `/proc`, which no container can reach; where there is none that is whole, a
//! detached instance of our own. Such an instance for everyone would be the simpler rule, but to
//! let go of a mount is to wait for an RCU grace period: 0.15 ms on an idle machine and 4 ms on a
//! busy one, more than all the rest of a start. The descriptor is closed before a path of the
//! container is first used.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

/// Number of the root directory of every procfs.
const ROOT_INODE: u64 = 1;

/// A procfs that can be trusted.
#[derive(Debug)]
pub(super) struct Procfs(OwnedFd);

impl Procfs {
    /// Takes hold of the host's, or of one of our own.
    pub(super) fn open() -> io::Result<Self> {
        Self::of_host().or_else(|_| Self::private())
    }

    fn of_host() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let root = openat2(CWD, "/proc", flags, Mode::empty(), resolve)?;
        verify(root.as_fd(), Some(ROOT_INODE))?;
        Ok(Self(root))
    }

    /// A user namespace whose `/proc` is partly hidden may not see a whole one, but always its
    /// processes.
    fn private() -> io::Result<Self> {
        let root = make(None).or_else(|_| make(Some("pid")))?;
        verify(root.as_fd(), Some(ROOT_INODE))?;
        Ok(Self(root))
    }

    /// Writes `value` to an existing file, in one call, as procfs wants it.
    pub(super) fn write(&self, path: &str, value: &[u8]) -> io::Result<()> {
        let mut file = self.resolve(path, OFlags::WRONLY)?;
        match file.write(value)? {
            written if written == value.len() => Ok(()),
            written => Err(io::Error::other(format!("only {written} bytes were taken"))),
        }
    }

    /// Reads a file.
    pub(super) fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.resolve(path, OFlags::RDONLY)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// What tells the calling thread's namespace of a kind (`net`, `ipc`, …) from all others.
    pub(super) fn namespace(&self, kind: &str) -> io::Result<(u64, u64)> {
        // A namespace is behind a magic link. This one is the kernel's own, under a name of ours.
        let path = format!("thread-self/ns/{kind}");
        let status = rustix::fs::statat(&self.0, path, AtFlags::empty())?;
        Ok((status.st_dev, status.st_ino))
    }

    /// The calling thread's mount namespace.
    pub(super) fn mount_namespace(&self) -> io::Result<OwnedFd> {
        // As above: the magic link is the kernel's.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, "thread-self/ns/mnt", flags, Mode::empty())?)
    }

    fn resolve(&self, path: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        verify(file.as_fd(), None)?;
        Ok(file.into())
    }
}

/// A detached mount of procfs for the PID namespace that this process is in.
fn make(subset: Option<&str>) -> io::Result<OwnedFd> {
    let fs = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(subset) = subset {
        fsconfig_set_string(fs.as_fd(), "subset", subset)?;
    }
    fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Makes sure that `file` is of a procfs and, if that is known, the inode that it should be.
fn verify(file: BorrowedFd<'_>, inode: Option<u64>) -> io::Result<()> {
    let magic = rustix::fs::fstatfs(file)?.f_type;
    let right = inode
        .map_or(Ok(true), |inode| rustix::fs::fstat(file).map(|status| status.st_ino == inode));
    if magic == PROC_SUPER_MAGIC && right? {
        return Ok(());
    }
    Err(io::Error::other("it is not of procfs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::testing::in_own_mounts;
    use rustix::mount::{MountFlags, mount, mount_bind};

    const OWN: &str = "thread-self/comm";

    fn cover(path: &str) {
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).unwrap();
    }

    #[test]
    fn the_hosts_is_taken_and_written_through() {
        in_own_mounts(|| {
            let procfs = Procfs::of_host().unwrap();
            procfs.write(OWN, b"renamed").unwrap();
            assert_eq!(procfs.read(OWN).unwrap(), b"renamed\n");
        });
    }

    #[test]
    fn a_private_one_does_the_same() {
        in_own_mounts(|| {
            for procfs in [make(None).unwrap(), make(Some("pid")).unwrap()].map(Procfs) {
                procfs.write(OWN, b"renamed").unwrap();
                assert_eq!(procfs.read(OWN).unwrap(), b"renamed\n");
            }
        });
    }

    #[test]
    fn something_else_in_its_place_is_not_taken() {
        in_own_mounts(|| {
            cover("/proc");
            std::fs::create_dir("/proc/thread-self").unwrap();
            std::fs::write("/proc/thread-self/comm", "fake").unwrap();
            assert!(Procfs::of_host().is_err());
            let procfs = Procfs::open().unwrap();
            procfs.write(OWN, b"renamed").unwrap();
            assert_eq!(procfs.read(OWN).unwrap(), b"renamed\n");
            assert_eq!(std::fs::read("/proc/thread-self/comm").unwrap(), b"fake");
        });
    }

    #[test]
    fn a_part_of_procfs_in_its_place_is_not_taken() {
        in_own_mounts(|| {
            mount_bind("/proc/sys", "/proc").unwrap();
            assert!(Procfs::of_host().is_err());
        });
    }

    #[test]
    fn a_mount_on_the_way_is_not_crossed() {
        in_own_mounts(|| {
            let procfs = Procfs::of_host().unwrap();
            cover("/proc/sys/net");
            std::fs::write("/proc/sys/net/fake", "").unwrap();
            let error = procfs.write("sys/net/fake", b"1").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
            assert_eq!(std::fs::read("/proc/sys/net/fake").unwrap(), b"");
            // A file of procfs in the place of another is a mount all the same.
            mount_bind("/proc/self/sched", "/proc/sys/kernel/domainname").unwrap();
            let error = procfs.write("sys/kernel/domainname", b"1").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
        });
    }

    #[test]
    fn magic_links_and_ways_out_are_refused() {
        let procfs = Procfs::open().unwrap();
        for (path, errno) in [
            ("self/root/etc/passwd", libc::ELOOP),
            ("self/exe", libc::ELOOP),
            ("self/fd/0", libc::ELOOP),
            ("../etc/passwd", libc::EXDEV),
            ("/etc/passwd", libc::EXDEV),
        ] {
            let error = procfs.read(path).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{path}: {error}");
        }
    }

    #[test]
    fn a_namespace_is_told_from_another() {
        let procfs = Procfs::open().unwrap();
        let outside = procfs.namespace("mnt").unwrap();
        assert_eq!(outside, procfs.namespace("mnt").unwrap());
        in_own_mounts(move || assert_ne!(outside, procfs.namespace("mnt").unwrap()));
    }
}
