//! The directory that a layer grows in, and the only way to touch it: by descriptor.
//!
//! Nothing outside can be reached, whatever an archive says. A path is opened from the root with
//! `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)`; only when that meets a
//! symlink or a hole is it walked one component at a time with `O_NOFOLLOW`, where a symlink is
//! read as text and its absolute and climbing targets end at the layer's root. The last component
//! is always handled by `*at` calls that do not follow.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::attributes;
use super::path::{MAX_PATH, is_within, join, split};
use crate::overlay;

/// Directories kept open: a layer names the files of a directory one after the other.
const OPEN_DIRECTORIES: usize = 128;
/// As many symlinks as the kernel follows for one path (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory of the layer.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) fd: Rc<OwnedFd>,
    /// Where it is: clean, without symlinks.
    pub(crate) path: Rc<[u8]>,
}

/// What an entry of the given name has to displace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Nothing,
    Directory,
    Whiteout,
    Other,
}

/// The growing directory.
pub(crate) struct Tree {
    root: Place,
    /// Displaced directories move here: removing them in place would take time and recursion.
    attic: OwnedFd,
    displaced: u64,
    open: HashMap<Vec<u8>, Place>,
    /// Directories that no entry described, so that what is below decides their attributes.
    implicit: BTreeSet<Vec<u8>>,
    /// Directories that hide what is below them.
    opaque: BTreeSet<Vec<u8>>,
    /// The last thing with content that was displaced.
    lost: Option<Vec<u8>>,
}

impl Tree {
    pub(crate) fn new(root: OwnedFd, attic: OwnedFd) -> Self {
        let root = Place { fd: Rc::new(root), path: Rc::from([]) };
        Self {
            root,
            attic,
            displaced: 0,
            open: HashMap::new(),
            implicit: BTreeSet::new(),
            opaque: BTreeSet::new(),
            lost: None,
        }
    }

    /// Opens the directory at a clean path, making what is missing. A file in the way is replaced.
    pub(crate) fn descend(&mut self, path: &[u8]) -> io::Result<Place> {
        self.descend_within(path, &mut MAX_SYMLINKS.clone())
    }

    /// Opens the directory that a clean path leads to, through symlinks that see the layer as their
    /// root; makes nothing.
    pub(crate) fn resolve(&self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.is_empty() { b"." } else { path };
        loop {
            match fs::openat2(&self.root.fd, path, flags, Mode::empty(), resolve) {
                Ok(fd) => return Ok(Some(fd)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                // Somebody renamed something somewhere while a `..` was resolved (openat2(2)).
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Opens the directory at a clean path, if every part of it is a directory.
    pub(crate) fn find(&self, path: &[u8]) -> io::Result<Option<Place>> {
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        match open_beneath(&self.root.fd, path) {
            Ok(fd) => Ok(Some(Place { fd: Rc::new(fd), path: Rc::from(path) })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What is at a name now.
    pub(crate) fn existing(&self, at: impl AsFd, name: &[u8]) -> io::Result<Existing> {
        match fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(Existing::Nothing),
            Err(error) => Err(error.into()),
            Ok(stat) if overlay::is_whiteout(&stat) => Ok(Existing::Whiteout),
            Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Existing::Directory,
                _ => Existing::Other,
            }),
        }
    }

    /// Makes room at a name, and tells what was there.
    pub(crate) fn displace(&mut self, at: &Place, name: &[u8]) -> io::Result<Existing> {
        let existing = self.existing(&at.fd, name)?;
        match existing {
            Existing::Nothing => {}
            Existing::Directory => {
                self.displaced += 1;
                fs::renameat(&at.fd, name, &self.attic, self.displaced.to_string())?;
                let path = join(&at.path, name);
                self.lost = Some(path.clone());
                self.implicit.retain(|other| !is_within(other, &path));
                self.opaque.retain(|other| !is_within(other, &path));
                self.open.clear();
            }
            Existing::Whiteout | Existing::Other => {
                if existing == Existing::Other && has_content(&at.fd, name)? {
                    self.lost = Some(join(&at.path, name));
                }
                fs::unlinkat(&at.fd, name, AtFlags::empty())?;
                // It may have been a symlink on the way to open directories.
                self.open.clear();
            }
        }
        Ok(existing)
    }

    /// What was displaced since the last time that this was asked, if it had content.
    pub(crate) fn take_lost(&mut self) -> Option<Vec<u8>> {
        self.lost.take()
    }

    /// Opens the directory that an entry describes, making it if need be.
    pub(crate) fn directory(&mut self, at: &Place, name: &[u8]) -> io::Result<Place> {
        let place = self.make_directory(at, name)?;
        self.implicit.remove(&*place.path);
        Ok(place)
    }

    /// Makes a directory hide what is below it.
    pub(crate) fn make_opaque(&mut self, place: &Place) {
        self.opaque.insert(place.path.to_vec());
    }

    /// The directories that take their attributes from the layers below, parents first, and those
    /// that are to be marked opaque.
    pub(crate) fn finish(self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let Self { implicit, opaque, .. } = self;
        let is_hidden = |path: &[u8]| opaque.iter().any(|opaque| is_within(path, opaque));
        let undescribed = implicit.into_iter().filter(|path| !is_hidden(path)).collect();
        (undescribed, opaque.into_iter().collect())
    }

    fn descend_within(&mut self, path: &[u8], symlinks: &mut usize) -> io::Result<Place> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some(place) = self.open.get(path) {
            return Ok(place.clone());
        }
        let place = match open_beneath(&self.root.fd, path) {
            Ok(fd) => Place { fd: Rc::new(fd), path: Rc::from(path) },
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                let (parent, name) = split(path);
                let parent = self.descend_within(parent, symlinks)?;
                self.enter(&parent, name, symlinks)?
            }
            Err(error) => return Err(error.into()),
        };
        if self.open.len() >= OPEN_DIRECTORIES {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), place.clone());
        Ok(place)
    }

    /// One step down: into a directory, through a symlink, or into a directory made for it.
    fn enter(&mut self, at: &Place, name: &[u8], symlinks: &mut usize) -> io::Result<Place> {
        match fs::openat(&at.fd, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => return child(at, name, fd),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) => match fs::readlinkat(&at.fd, name, Vec::new()) {
                Ok(target) => return self.follow(at, target.as_bytes(), symlinks),
                // Not a symlink either: a file that gives way.
                Err(Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
        let place = self.make_directory(at, name)?;
        if !self.opaque.contains(&*place.path) {
            self.implicit.insert(place.path.to_vec());
        }
        Ok(place)
    }

    fn follow(&mut self, from: &Place, target: &[u8], symlinks: &mut usize) -> io::Result<Place> {
        *symlinks = symlinks.checked_sub(1).ok_or(Errno::LOOP)?;
        let mut place = if target.starts_with(b"/") { self.root.clone() } else { from.clone() };
        for component in target.split(|b| *b == b'/') {
            place = match component {
                b"" | b"." => place,
                b".." => self.descend_within(split(&place.path).0, symlinks)?,
                name => self.enter(&place, name, symlinks)?,
            };
        }
        Ok(place)
    }

    /// A directory in the place of a file or a whiteout is opaque: what stood there in the layers
    /// below went with it.
    fn make_directory(&mut self, at: &Place, name: &[u8]) -> io::Result<Place> {
        let existing = self.existing(&at.fd, name)?;
        if existing != Existing::Directory {
            self.displace(at, name)?;
            fs::mkdirat(&at.fd, name, Mode::from_raw_mode(0o755))?;
        }
        let place = child(at, name, fs::openat(&at.fd, name, DIRECTORY, Mode::empty())?)?;
        if existing != Existing::Directory {
            attributes::set_plain(&place.fd)?;
        }
        match existing {
            Existing::Directory | Existing::Nothing => {}
            Existing::Whiteout | Existing::Other => self.make_opaque(&place),
        }
        Ok(place)
    }
}

/// Whether there is a regular file that is not empty.
fn has_content(at: &OwnedFd, name: &[u8]) -> io::Result<bool> {
    let stat = fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size > 0)
}

fn child(at: &Place, name: &[u8], fd: OwnedFd) -> io::Result<Place> {
    let path = join(&at.path, name);
    if path.len() >= MAX_PATH {
        return Err(Errno::NAMETOOLONG.into());
    }
    Ok(Place { fd: Rc::new(fd), path: Rc::from(path) })
}

/// Opens a directory below another one, if there is no symlink on the way.
fn open_beneath(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    fs::openat2(root, path, DIRECTORY, Mode::empty(), resolve)
}
