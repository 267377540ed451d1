//! What a layer's tree was when it was complete, so that it can be told later whether it still is.
//!
//! A seal is one digest over all that a container could see of the tree: paths, kinds, modes, owners,
//! times of change, attributes, link targets, device numbers, and of each file a checksum. It finds
//! what decays: bits, lost writes, careless hands. It is no protection against root. Blocks of zeros
//! count like holes, so that it does not matter how a file system keeps a sparse file.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// What a file is read in; a multiple of [`BLOCK`].
const BUFFER: usize = 128 << 10;
/// Zeros of this length, at a multiple of it, are as good as a hole.
const BLOCK: usize = 4 << 10;
/// `st_blocks` counts these (stat(2)).
const STAT_BLOCK: i64 = 512;

/// The seal of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal {
    version: u32,
    /// When a name in the root directory changed last: the one thing that can be looked at often.
    pub(crate) stamp: Stamp,
    entries: u64,
    digest: String,
}

/// A cheap mark of a tree that is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    seconds: i64,
    nanoseconds: u64,
}

impl Stamp {
    /// Looks at a tree's root.
    ///
    /// # Errors
    /// Also if it is no directory.
    pub(crate) fn of(tree: &Path) -> io::Result<Self> {
        let stat = fs::lstat(tree)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Self::from(&stat)),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn from(stat: &Stat) -> Self {
        Self { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec }
    }
}

impl Seal {
    /// What a tree with this seal lacks of what it was.
    pub(crate) fn differs_from(&self, expected: &Self) -> String {
        match (self.entries, expected.entries) {
            (now, before) if now != before => {
                format!("its tree has {now} entries, and had {before}")
            }
            _ => "its tree has other content than it had".to_owned(),
        }
    }
}

/// Reads all of a tree. Blocks, for as long as it takes to read it.
pub(crate) fn seal(tree: &Path) -> io::Result<Seal> {
    let root = fs::open(tree, DIRECTORY, Mode::empty())?;
    let mut reader = Reader { hasher: Sha256::new(), entries: 0, buffer: vec![0; BUFFER] };
    let stamp = Stamp::from(&fs::fstat(&root)?);
    reader.tree(&root)?;
    let digest = hex::encode(reader.hasher.finalize());
    Ok(Seal { version: 1, stamp, entries: reader.entries, digest })
}

struct Reader {
    hasher: Sha256,
    entries: u64,
    buffer: Vec<u8>,
}

impl Reader {
    /// Goes down without recursion, and with one directory open at a time: a tree may be deep.
    fn tree(&mut self, root: &OwnedFd) -> io::Result<()> {
        // Of the present directory, within the tree and with a dot in front.
        let mut path = b".".to_vec();
        let mut here = open_beneath(root, &path)?;
        let mut rest = vec![self.enter(&here, &path)?];
        while let Some(names) = rest.last_mut() {
            let length = path.len();
            let Some(name) = names.pop() else {
                rest.pop();
                path.truncate(path.iter().rposition(|b| *b == b'/').unwrap_or(length));
                here = open_beneath(root, &path)?;
                continue;
            };
            let stat = fs::statat(&here, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
            path.push(b'/');
            path.extend_from_slice(&name);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                here = fs::openat(&here, name.as_slice(), DIRECTORY, Mode::empty())?;
                rest.push(self.enter(&here, &path)?);
            } else {
                self.entry(&here, &name, &stat, &path)?;
                path.truncate(length);
            }
        }
        Ok(())
    }

    /// Notes a directory, and tells the names in it, last first.
    fn enter(&mut self, directory: &OwnedFd, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.note(path, &fs::fstat(directory)?);
        self.attributes(directory)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_bytes().to_vec());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    fn entry(&mut self, at: &OwnedFd, name: &[u8], stat: &Stat, path: &[u8]) -> io::Result<()> {
        self.note(path, stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                // To look at a file is no use of it.
                let file = match fs::openat(at, name, flags | OFlags::NOATIME, Mode::empty()) {
                    Err(Errno::PERM) => fs::openat(at, name, flags, Mode::empty())?,
                    file => file?,
                };
                self.attributes(&file)?;
                let is_sparse = stat.st_blocks.saturating_mul(STAT_BLOCK) < stat.st_size;
                let sum = self.content(&file, stat, is_sparse)?;
                self.text(&sum.to_le_bytes());
            }
            FileType::Symlink => {
                let target = fs::readlinkat(at, name, Vec::new())?;
                self.text(target.as_bytes());
            }
            _ => self.text(&stat.st_rdev.to_le_bytes()),
        }
        Ok(())
    }

    fn note(&mut self, path: &[u8], stat: &Stat) {
        self.entries += 1;
        let size = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => stat.st_size,
            _ => 0,
        };
        self.text(path);
        for number in [stat.st_mode, stat.st_uid, stat.st_gid] {
            self.hasher.update(number.to_le_bytes());
        }
        for number in [size, stat.st_mtime] {
            self.hasher.update(number.to_le_bytes());
        }
        self.hasher.update(stat.st_mtime_nsec.to_le_bytes());
    }

    fn attributes(&mut self, file: &OwnedFd) -> io::Result<()> {
        let length = match fs::flistxattr_query(file) {
            Err(Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        if length == 0 {
            return Ok(());
        }
        let mut list = vec![0; length];
        fs::flistxattr(file, &mut list)?;
        let mut names: Vec<&[u8]> = list.split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
        names.sort_unstable();
        for name in names {
            let mut value = vec![0; fs::fgetxattr_query(file, name)?];
            fs::fgetxattr(file, name, &mut value)?;
            self.text(name);
            self.text(&value);
        }
        Ok(())
    }

    /// A checksum of all blocks that are not zero, with their places.
    fn content(&mut self, file: &OwnedFd, stat: &Stat, is_sparse: bool) -> io::Result<u32> {
        let mut sum = crc32fast::Hasher::new();
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let mut offset = 0;
        while offset < size {
            if is_sparse {
                match fs::seek(file, fs::SeekFrom::Data(offset)) {
                    // From the block on that the data is in: where data begins is the file
                    // system's business.
                    Ok(data) => offset = data - data % BLOCK as u64,
                    Err(Errno::NXIO) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            let filled = fill(file, offset, &mut self.buffer)?;
            if filled == 0 {
                break;
            }
            for (index, block) in self.buffer[..filled].chunks(BLOCK).enumerate() {
                if block.iter().any(|byte| *byte != 0) {
                    sum.update(&(offset + (index * BLOCK) as u64).to_le_bytes());
                    sum.update(block);
                }
            }
            offset += filled as u64;
        }
        Ok(sum.finalize())
    }

    /// Length first, so that no two texts run into each other.
    fn text(&mut self, text: &[u8]) {
        self.hasher.update((text.len() as u64).to_le_bytes());
        self.hasher.update(text);
    }
}

fn open_beneath(root: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(fs::openat2(root, path, DIRECTORY, Mode::empty(), resolve)?)
}

fn fill(file: &OwnedFd, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file.as_fd(), &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, PermissionsExt, symlink};

    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/b/file"), vec![7; 300_000]).unwrap();
        std::fs::write(root.path().join("a-b"), "").unwrap();
        symlink("b/file", root.path().join("a/link")).unwrap();
        let sparse = std::fs::File::create(root.path().join("a/sparse")).unwrap();
        sparse.write_at(b"data", 10_000_000).unwrap();
        sparse.set_len(1 << 40).unwrap();
        root
    }

    /// Sets the time back that a change has left.
    fn keeping_times(path: &Path, change: impl FnOnce()) {
        let stat = fs::lstat(path).unwrap();
        change();
        let time = fs::Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap(),
        };
        let times = fs::Timestamps { last_access: time, last_modification: time };
        fs::utimensat(fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    #[test]
    fn the_same_tree_has_the_same_seal() {
        let root = tree();
        let first = seal(root.path()).unwrap();
        assert_eq!(seal(root.path()).unwrap(), first);
        assert_eq!(Stamp::of(root.path()).unwrap(), first.stamp);
        // The root, two directories, four other entries.
        assert_eq!(first.entries, 7);
    }

    #[test]
    fn zeros_that_become_a_hole_are_no_change() {
        let root = tree();
        let path = root.path().join("a/sparse");
        let first = seal(root.path()).unwrap();
        keeping_times(&path, || {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.write_at(&[0; 100_000], 4_000_000).unwrap();
        });
        assert_eq!(seal(root.path()).unwrap(), first);
    }

    #[test]
    fn whatever_changes_shows() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 6] = [
            ("a/b/file", |path| {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.write_at(b"x", 299_999).unwrap();
            }),
            ("a/sparse", |path| {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.write_at(b"data", 20_000_000).unwrap();
            }),
            ("a/b/file", |path| {
                std::fs::set_permissions(path, PermissionsExt::from_mode(0o4644)).unwrap();
            }),
            ("a-b", |path| std::fs::remove_file(path).unwrap()),
            ("a/link", |path| {
                std::fs::remove_file(path).unwrap();
                symlink("b/fill", path).unwrap();
            }),
            ("a/b/file", |path| {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_len(299_999).unwrap();
            }),
        ];
        for (number, (name, change)) in changes.into_iter().enumerate() {
            let root = tree();
            let first = seal(root.path()).unwrap();
            let path = root.path().join(name);
            let parent = path.parent().unwrap().to_owned();
            keeping_times(&parent, || match name {
                "a-b" => change(&path),
                _ => keeping_times(&path, || change(&path)),
            });
            assert_ne!(seal(root.path()).unwrap().digest, first.digest, "change {number}");
        }
    }
}
