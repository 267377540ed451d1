//! Walking directory trees that others filled: measuring them, and taking them away.
//!
//! Both bear trees of any depth with a constant number of descriptors and without recursion, and
//! neither follows a symlink. A container may change its writable layer meanwhile; what vanishes
//! under the walk does not count.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Beyond this a path is opened from a directory further down, because of `PATH_MAX`.
const LONG_PATH: usize = 2048;
/// `st_blocks` counts these, whatever the file system's block size is (stat(2)).
const STAT_BLOCK: u64 = 512;

/// What files take of a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Allocated bytes.
    pub bytes: u64,
    /// Files of any kind, each hard-linked one once.
    pub inodes: u64,
}

impl std::ops::AddAssign for Space {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// A directory that was seen and not yet read.
struct Unread {
    base: Rc<OwnedFd>,
    path: Vec<u8>,
}

/// Measures a directory and all that is below it.
pub(crate) fn measure(root: &Path) -> io::Result<Space> {
    let base = Rc::new(fs::open(root, DIRECTORY, Mode::empty())?);
    let mut space = Space::default();
    let mut linked = HashSet::new();
    count(&mut space, &mut linked, &fs::fstat(&base)?);
    let mut unread = vec![Unread { base, path: b".".to_vec() }];
    while let Some(directory) = unread.pop() {
        let Some(fd) = directory.open()? else { continue };
        let fd = Rc::new(fd);
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            count(&mut space, &mut linked, &stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                unread.push(directory.child(&fd, name.to_bytes()));
            }
        }
    }
    Ok(space)
}

fn count(space: &mut Space, linked: &mut HashSet<(u64, u64)>, stat: &Stat) {
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !is_directory && stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) {
        return;
    }
    let bytes = u64::try_from(stat.st_blocks).unwrap_or_default() * STAT_BLOCK;
    *space += Space { bytes, inodes: 1 };
}

impl Unread {
    fn open(&self) -> io::Result<Option<OwnedFd>> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match fs::openat2(&self.base, self.path.as_slice(), DIRECTORY, Mode::empty(), resolve) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            fd => Ok(Some(fd?)),
        }
    }

    fn child(&self, fd: &Rc<OwnedFd>, name: &[u8]) -> Self {
        if self.path.len() > LONG_PATH {
            return Self { base: Rc::clone(fd), path: name.to_vec() };
        }
        Self { base: Rc::clone(&self.base), path: [&self.path, &b"/"[..], name].concat() }
    }
}

/// Removes a directory and all that is below it; `Ok` if it is not there. Directories that are not
/// empty move up beside the first one before they are emptied, so that no tree is too deep.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    let root = match fs::open(directory, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        // A plain file, however it came here.
        Err(Errno::NOTDIR | Errno::LOOP) => return std::fs::remove_file(directory),
        root => root?,
    };
    let mut moved: u64 = 0;
    loop {
        let subdirectories = remove_files(&root)?;
        if subdirectories.is_empty() {
            break;
        }
        for name in subdirectories {
            let fd = fs::openat(&root, name.as_slice(), DIRECTORY, Mode::empty())?;
            for inner in remove_files(&fd)? {
                moved += 1;
                rename_to_new(&fd, &inner, &root, &mut moved)?;
            }
            match fs::unlinkat(&root, name.as_slice(), AtFlags::REMOVEDIR) {
                // A listing may miss files while others are removed; the next round sees them.
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    std::fs::remove_dir(directory)
}

/// Removes all files of a directory and those of its directories that are empty; tells the others.
fn remove_files(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut left = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(error.into()),
        }
        match fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => left.push(name.to_bytes().to_vec()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(left)
}

/// Moves a directory up under the next number that no other file has as its name.
fn rename_to_new(from: &OwnedFd, name: &[u8], to: &OwnedFd, number: &mut u64) -> io::Result<()> {
    use rustix::fs::RenameFlags;
    loop {
        let new = number.to_string();
        match fs::renameat_with(from, name, to, new.as_str(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => *number += 1,
            done => return Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree that is deeper than any path can say.
    fn dig(root: &Path, depth: usize) {
        let mut fd = fs::open(root, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            let name = "directory-with-a-long-name-so-that-paths-get-long";
            fs::mkdirat(&fd, name, Mode::from_raw_mode(0o755)).unwrap();
            fs::mkdirat(&fd, "1", Mode::from_raw_mode(0o755)).unwrap();
            fd = fs::openat(&fd, name, DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn links_count_once_and_symlinks_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/f"), vec![1; 10_000]).unwrap();
        std::fs::hard_link(root.path().join("d/f"), root.path().join("g")).unwrap();
        symlink("/", root.path().join("s")).unwrap();
        let space = measure(root.path()).unwrap();
        assert_eq!(space.inodes, 4);
        assert!((10_000..100_000).contains(&space.bytes), "{space:?}");
    }

    #[test]
    fn trees_of_any_depth_are_measured_and_removed() {
        let parent = tempfile::tempdir().unwrap();
        let outside = parent.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "kept").unwrap();
        let root = parent.path().join("root");
        std::fs::create_dir(&root).unwrap();
        dig(&root, 300);
        symlink(&outside, root.join("link")).unwrap();
        assert_eq!(measure(&root).unwrap().inodes, 602);
        remove(&root).unwrap();
        assert!(!root.exists());
        assert!(outside.join("kept").exists());
        remove(&root).unwrap();
    }
}
