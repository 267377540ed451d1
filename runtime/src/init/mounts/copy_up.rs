//! A copy of what a tmpfs covers (`tmpcopyup`): files, directories, links, devices, with owners,
//! modes and extended attributes.
//!
//! Everything is opened by name in a directory that is open already, no link is followed, and no
//! other mount is entered: what is mounted in the covered directory is not part of it. The size is
//! bounded by the tmpfs itself, the number of files and the depth here.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, fgetxattr, flistxattr, fsetxattr, fstat, mkdirat, mknodat,
    openat, openat2, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

/// Most files that are copied.
const MAX_FILES: usize = 1 << 17;

/// Most bytes of an extended attribute, and of the list of all names (`XATTR_SIZE_MAX`).
const MAX_ATTRIBUTES: usize = 64 << 10;

/// Deepest directory that is copied.
const MAX_DEPTH: usize = 256;

/// Copies what is in the directory `from`, which is open for reading, and its own attributes,
/// into the directory `to`.
pub(super) fn copy(from: OwnedFd, to: BorrowedFd<'_>) -> io::Result<()> {
    let about = fstat(&from)?;
    let to = openat(to, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut copier = Copier { left: MAX_FILES };
    copier.entries(&from, &to, 0)?;
    give(to.as_fd(), c".", &about)?;
    copy_attributes(from.as_fd(), to.as_fd())
}

struct Copier {
    left: usize,
}

impl Copier {
    fn entries(&mut self, from: &OwnedFd, to: &OwnedFd, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(too_much("it is too deep"));
        }
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.left = self.left.checked_sub(1).ok_or_else(|| too_much("too many files"))?;
            let about = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            self.entry(from, to, name, &about, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        about: &Stat,
        depth: usize,
    ) -> io::Result<()> {
        // Both open, where there is something to open.
        let both = match FileType::from_raw_mode(about.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU)?;
                let copy = openat(to, name, READ | OFlags::DIRECTORY, Mode::empty())?;
                // A mount point is empty below.
                let original = open_here(from, name, OFlags::DIRECTORY)?;
                if let Some(original) = &original {
                    self.entries(original, &copy, depth + 1)?;
                }
                original.map(|original| (original, copy))
            }
            FileType::RegularFile => copy_file(from, to, name)?,
            FileType::Symlink => {
                symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
                None
            }
            kind => {
                mknodat(to, name, kind, Mode::from_raw_mode(about.st_mode), about.st_rdev)?;
                None
            }
        };
        give(to.as_fd(), name, about)?;
        if let Some((original, copy)) = both {
            copy_attributes(original.as_fd(), copy.as_fd())?;
        }
        Ok(utimensat(to, name, &times(about), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens an entry of a directory; none if something else is mounted on it.
fn open_here(from: &OwnedFd, name: &CStr, flags: OFlags) -> io::Result<Option<OwnedFd>> {
    // Never waits for the other end of a fifo that has taken the place of a file.
    let flags = READ | OFlags::NONBLOCK | flags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    match openat2(from, name, flags, Mode::empty(), resolve) {
        Err(Errno::XDEV) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut copy = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
    let Some(original) = open_here(from, name, OFlags::empty())? else {
        return Ok(None);
    };
    let mut original = File::from(original);
    if !original.metadata()?.is_file() {
        return Err(too_much("a file has become something else"));
    }
    io::copy(&mut original, &mut copy)?;
    Ok(Some((original.into(), copy.into())))
}

/// Owner first: a change of it takes away the set-id bits of the mode.
fn give(directory: BorrowedFd<'_>, name: &CStr, about: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(about.st_uid), Gid::from_raw(about.st_gid));
    chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(about.st_mode) != FileType::Symlink {
        chmodat(directory, name, Mode::from_raw_mode(about.st_mode), AtFlags::empty())?;
    }
    Ok(())
}

/// Extended attributes, last: a change of owner takes away the capabilities of a file. A tmpfs
/// cannot have all of them.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    for name in attribute_names(from)? {
        let value = match attribute(from, &name) {
            Err(Errno::NODATA) => continue,
            value => value?,
        };
        match fsetxattr(to, name.as_c_str(), &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn attribute_names(file: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut list = vec![0; MAX_ATTRIBUTES];
    let length = match flistxattr(file, &mut list[..]) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

fn attribute(file: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; MAX_ATTRIBUTES];
    let length = fgetxattr(file, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

fn times(about: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(about.st_atime, about.st_atime_nsec),
        last_modification: time(about.st_mtime, about.st_mtime_nsec),
    }
}

fn too_much(why: &str) -> io::Error {
    io::Error::other(format!("copy what it covers: {why}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, READ | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_copy_has_the_kinds_the_modes_and_the_links_of_what_it_covers() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/file"), "content").unwrap();
        symlink("/nowhere/at/all", from.join("a/link")).unwrap();
        mknodat(open(&from), "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
        mode(&from.join("a/file"), 0o4711);
        mode(&from.join("a/b"), 0o1777);
        mode(&from, 0o710);
        copy(open(&from), open(&to).as_fd()).unwrap();
        let look = |path: &str| fs::symlink_metadata(to.join(path)).unwrap().mode();
        assert_eq!(fs::read_to_string(to.join("a/file")).unwrap(), "content");
        assert_eq!(look("a/file"), libc::S_IFREG | 0o4711);
        assert_eq!(look("a/b"), libc::S_IFDIR | 0o1777);
        assert_eq!(look("fifo"), libc::S_IFIFO | 0o400);
        assert_eq!(look("."), libc::S_IFDIR | 0o710);
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("/nowhere/at/all"));
        let time = |root: &Path| fs::metadata(root.join("a/file")).unwrap().modified().unwrap();
        assert_eq!(time(&from), time(&to));
    }

    #[test]
    fn a_copy_ends() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir_all(from.join("a")).unwrap();
        fs::create_dir(&to).unwrap();
        let mut copier = Copier { left: 0 };
        let error = copier.entries(&open(&from), &open(&to), 0).unwrap_err().to_string();
        assert!(error.contains("too many files"), "{error}");
        let mut copier = Copier { left: 1 };
        let error = copier.entries(&open(&from), &open(&to), MAX_DEPTH + 1).unwrap_err();
        assert!(error.to_string().contains("too deep"), "{error}");
    }
}
