//! Layer directories seen as one tree, as overlayfs would show them, without mounting anything.
//!
//! A name is looked up in the layers from the top; a whiteout ends the search, directories of one
//! name merge until an opaque one. Symlinks are followed inside the tree only. All opens are of one
//! component, by descriptor, and follow nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::overlay;

/// As many symlinks as the kernel follows for one path (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// Layers, top first.
#[derive(Debug)]
pub(crate) struct Stack {
    roots: Directory,
}

/// The directories of one path in all layers that contribute to it, top first.
pub(crate) type Directory = Vec<Rc<OwnedFd>>;

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    Directory(Directory),
    Other(LayerFile),
}

/// Something that is no directory, by the layer directory that holds it.
#[derive(Debug, Clone)]
pub(crate) struct LayerFile {
    pub(crate) directory: Rc<OwnedFd>,
    pub(crate) name: Vec<u8>,
    pub(crate) stat: Stat,
}

/// Which symlinks a lookup goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// None: what overlayfs merges by name.
    Nothing,
    /// Those on the way, but not the last component: what link(2) does.
    Parents,
    /// All.
    All,
}

impl Stack {
    /// Stacks the open roots of layers, top first.
    pub(crate) fn new(layers: impl IntoIterator<Item = OwnedFd>) -> Self {
        Self { roots: layers.into_iter().map(Rc::new).collect() }
    }

    /// The same layers below another one.
    pub(crate) fn below(&self, top: Rc<OwnedFd>) -> Self {
        let mut roots = vec![top];
        roots.extend(self.roots.iter().cloned());
        Self { roots }
    }

    /// Looks a path up; empty components and `.` count nothing, `..` stops at the root.
    pub(crate) fn look_up(&self, path: &[u8], follow: Follow) -> io::Result<Found> {
        let mut way: Vec<Directory> = vec![self.roots.clone()];
        let mut rest: VecDeque<Vec<u8>> = components(path).collect();
        let mut symlinks = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let here = way.last().expect("the root is never popped");
            let file = match find_in(here, &name)? {
                Found::Nothing => return Ok(Found::Nothing),
                Found::Directory(directory) => {
                    way.push(directory);
                    continue;
                }
                Found::Other(file) => file,
            };
            let is_symlink = FileType::from_raw_mode(file.stat.st_mode) == FileType::Symlink;
            let goes_on = !rest.is_empty();
            if !is_symlink || follow == Follow::Nothing || (follow == Follow::Parents && !goes_on) {
                return Ok(if goes_on { Found::Nothing } else { Found::Other(file) });
            }
            symlinks += 1;
            if symlinks > MAX_SYMLINKS {
                return Err(Errno::LOOP.into());
            }
            let target = fs::readlinkat(&file.directory, file.name.as_slice(), Vec::new())?;
            if target.as_bytes().starts_with(b"/") {
                way.truncate(1);
            }
            for component in components(target.as_bytes()).rev() {
                rest.push_front(component);
            }
        }
        Ok(Found::Directory(way.pop().expect("the root is never popped")))
    }

    /// The content of a regular file of at most `limit` bytes; `None` if there is no such file.
    ///
    /// # Errors
    /// `InvalidInput` if it is something else than a regular file, `FileTooLarge` if it is too
    /// large.
    pub(crate) fn read(&self, path: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.look_up(path, Follow::All)? {
            Found::Nothing => return Ok(None),
            Found::Other(file)
                if FileType::from_raw_mode(file.stat.st_mode) == FileType::RegularFile =>
            {
                file
            }
            Found::Directory(_) | Found::Other(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
        };
        let mut content = Vec::new();
        file.open()?.take(limit + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            let message = format!("more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(Some(content))
    }
}

impl LayerFile {
    /// Opens a regular file for reading.
    pub(crate) fn open(&self) -> io::Result<File> {
        // Not a FIFO that would block, even if this is no regular file after all.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(fs::openat(&self.directory, self.name.as_slice(), flags, Mode::empty())?.into())
    }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> + '_ {
    path.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}

fn find_in(directory: &Directory, name: &[u8]) -> io::Result<Found> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut merged = Directory::new();
    for layer in directory {
        let stat = match fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let fd = fs::openat(layer, name, flags, Mode::empty())?;
            let is_opaque = overlay::is_opaque(&fd)?;
            merged.push(Rc::new(fd));
            if is_opaque {
                break;
            }
        } else if merged.is_empty() && !overlay::is_whiteout(&stat) {
            let (directory, name) = (Rc::clone(layer), name.to_vec());
            return Ok(Found::Other(LayerFile { directory, name, stat }));
        } else {
            break;
        }
    }
    Ok(if merged.is_empty() { Found::Nothing } else { Found::Directory(merged) })
}
