//! Paths below the container's root, resolved by the kernel and never leaving it.
//!
//! Whoever made the image chose its symbolic links, and another container may swap directories
//! of a shared volume while we look. So a path is opened with `RESOLVE_IN_ROOT` (an absolute
//! link starts again at the container's root) and `RESOLVE_NO_MAGICLINKS` (no way out through
//! `/proc`), once, and everything else happens to the descriptor.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, mkdirat, openat2, readlinkat};
use rustix::io::Errno;

/// What stands at the end of a path that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

/// The directory that the process is going to have as its root.
#[derive(Debug)]
pub(super) struct RootDirectory(OwnedFd);

impl RootDirectory {
    /// Takes an `O_PATH` descriptor of it.
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// The root directory of this process.
    pub(super) fn own() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open("/", flags, Mode::empty())?))
    }

    /// Opens `path` as `O_PATH`; a symbolic link at its end is followed.
    pub(super) fn open(&self, path: &str) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH, ResolveFlags::empty())
    }

    /// As [`open`](Self::open), but refuses to go through any symbolic link (`ELOOP`).
    pub(super) fn open_without_links(&self, path: &str) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS)
    }

    /// Opens `path` with flags of the caller's choice.
    pub(super) fn open_with(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::empty())
    }

    /// Opens the directory at `path` for reading.
    pub(super) fn open_to_read(&self, path: &str) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY, ResolveFlags::empty())
    }

    /// Opens `path`, making what is missing of it: directories on the way, `kind` at the end.
    ///
    /// Directories are made with mode 0755, a file is made empty with mode 0644. Images have links
    /// to what is not there yet (`/etc/resolv.conf` to somewhere in `/run`): what they lead to is
    /// made, inside of the root.
    pub(super) fn open_or_make(&self, path: &str, kind: Kind) -> io::Result<OwnedFd> {
        match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_last(path, kind).or_else(|_| self.make(path, kind))
            }
            found => found,
        }
    }

    /// Makes what mostly is all that is missing: the last name, in a directory that is there.
    fn make_last(&self, path: &str, kind: Kind) -> io::Result<OwnedFd> {
        let (parent, name) = split(path)?;
        let parent =
            self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())?;
        make_in(parent.as_fd(), OsStr::new(name), kind)?;
        // Should somebody have put a link there meanwhile, it is not followed.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&parent, name, flags, Mode::empty())?)
    }

    /// Goes name by name, as the kernel would: `here` has no link in it when it is looked at.
    /// Should somebody else put one there, every open still ends inside of the root.
    fn make(&self, path: &str, kind: Kind) -> io::Result<OwnedFd> {
        let mut todo: Vec<OsString> = names(Path::new(path)).rev().collect();
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            match self.link_at(&next)? {
                Found::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    todo.extend(names(&target).rev());
                    continue;
                }
                Found::Something => {}
                Found::Nothing => {
                    let last = todo.is_empty();
                    self.make_one(&here, &name, if last { kind } else { Kind::Directory })?;
                }
            }
            here = next;
        }
        self.resolve(text(&here)?, OFlags::PATH, ResolveFlags::NO_SYMLINKS)
    }

    fn make_one(&self, parent: &Path, name: &OsStr, kind: Kind) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let parent = self.resolve(text(parent)?, flags, ResolveFlags::NO_SYMLINKS)?;
        match make_in(parent.as_fd(), name, kind) {
            // Somebody was faster; what it is tells the next look.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn link_at(&self, path: &Path) -> io::Result<Found> {
        let file =
            self.resolve(text(path)?, OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::empty());
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            file => file?,
        };
        let mode = rustix::fs::fstat(&file)?.st_mode;
        if FileType::from_raw_mode(mode) != FileType::Symlink {
            return Ok(Found::Something);
        }
        let target = readlinkat(&file, "", Vec::new())?;
        Ok(Found::Link(OsString::from_vec(target.into_bytes()).into()))
    }

    /// The directory that `path` is in, made if it is missing, and the name in it.
    pub(super) fn parent_of<'p>(&self, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
        let (parent, name) = split(path)?;
        Ok((self.open_or_make(parent, Kind::Directory)?, name))
    }

    fn resolve(&self, path: &str, flags: OFlags, extra: ResolveFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | extra;
        let mut attempts = 0;
        loop {
            // The kernel answers EAGAIN if something was renamed while it went beneath a root.
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if attempts < 128 => attempts += 1,
                result => return Ok(result?),
            }
        }
    }
}

impl AsFd for RootDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is at a path, without following a link at its end.
enum Found {
    Nothing,
    Something,
    Link(PathBuf),
}

/// Most symbolic links on the way to a file, as the kernel counts them.
const MAX_LINKS: u32 = 40;

/// The names of a path, with `..` among them.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    let wanted = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    let parts: Vec<_> = path.components().filter(wanted).collect();
    parts.into_iter().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>().into_iter()
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::other(format!("{path:?} is not UTF-8")))
}

/// The kind of file that a descriptor is open on.
pub(super) fn kind_of(file: BorrowedFd<'_>) -> io::Result<Kind> {
    let mode = rustix::fs::fstat(file)?.st_mode;
    let directory = FileType::from_raw_mode(mode) == FileType::Directory;
    Ok(if directory { Kind::Directory } else { Kind::File })
}

fn make_in(parent: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> rustix::io::Result<()> {
    match kind {
        Kind::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    }
}

/// Splits a path into its parent and its last name, which must be a real one.
fn split(path: &str) -> io::Result<(&str, &str)> {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::other(format!("{path:?} does not name a file")))?;
    let parent = Path::new(path).parent().and_then(Path::to_str).unwrap_or("/");
    Ok((parent, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root(directory: &Path) -> RootDirectory {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        RootDirectory::new(rustix::fs::open(directory, flags, Mode::empty()).unwrap())
    }

    #[test]
    fn makes_missing_parts_beneath_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(directory.path());
        root.open_or_make("/a/b/c", Kind::Directory).unwrap();
        root.open_or_make("/a/b/f", Kind::File).unwrap();
        assert!(directory.path().join("a/b/c").is_dir());
        assert!(directory.path().join("a/b/f").is_file());
    }

    #[test]
    fn absolute_links_start_at_the_root() {
        let directory = tempfile::tempdir().unwrap();
        symlink("/etc", directory.path().join("link")).unwrap();
        let root = root(directory.path());
        fs::create_dir(directory.path().join("etc")).unwrap();
        root.open_or_make("/link/made", Kind::Directory).unwrap();
        assert!(directory.path().join("etc/made").is_dir());
    }

    #[test]
    fn dot_dot_stays_inside() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).unwrap();
        root(&inner).open_or_make("/../../../escaped", Kind::Directory).unwrap();
        assert!(inner.join("escaped").is_dir());
        assert!(!directory.path().join("escaped").exists());
    }

    #[test]
    fn what_dangling_links_lead_to_is_made_inside() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("root");
        fs::create_dir(&directory).unwrap();
        symlink("/tmp/foo/../bar", directory.join("jump")).unwrap();
        symlink("../../../jump/baz/hosts", directory.join("hosts")).unwrap();
        root(&directory).open_or_make("/hosts", Kind::File).unwrap();
        assert!(directory.join("tmp/bar/baz/hosts").is_file());
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_that_lead_nowhere_end() {
        let directory = tempfile::tempdir().unwrap();
        symlink("/two", directory.path().join("one")).unwrap();
        symlink("/one", directory.path().join("two")).unwrap();
        let error = root(directory.path()).open_or_make("/one/x", Kind::File).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        fs::write(directory.path().join("file"), "").unwrap();
        let error = root(directory.path()).open_or_make("/file/x", Kind::File).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn magic_links_are_refused() {
        let root = root(Path::new("/"));
        let error = root.open("/proc/self/root").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn links_can_be_refused_altogether() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("real")).unwrap();
        symlink("real", directory.path().join("proc")).unwrap();
        let error = root(directory.path()).open_without_links("/proc").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }
}
