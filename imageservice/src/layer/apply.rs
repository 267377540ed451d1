//! Entries of a layer's archive, one by one, into its directory.
//!
//! Later entries win over earlier ones of the same name, and directories merge. What a layer can
//! only say together with the layers below it is noted as [`Debts`] and settled when they are
//! known: a hardlink to a file of a lower layer, and directories that no entry described.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{self, Subject};
use super::path::{clean, join, split};
use super::pax::Time;
use super::seal::{self, Seals, Xattrs};
use super::sparse::Segment;
use super::spine::Witness;
use super::tar::{Entry, Kind, TarReader};
use super::tree::{Existing, Place, Tree};
use super::whiteout::{Mark, classify};
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::overlay;

/// Device numbers beyond these do not fit into a `dev_t` of the kernel.
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;
/// Bytes of extended attributes that are kept for whoever may set them.
const MAX_KEPT: usize = 16 << 20;
/// Characters of an entry's name in a message.
const MAX_SHOWN: usize = 256;

/// What a layer needs from the layers below it. Paths are clean and free of symlinks, parents come
/// before their children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Debts {
    /// Directories whose attributes are those of the same directory below.
    pub(crate) directories: Vec<Vec<u8>>,
    /// Hardlinks by their path, and the names in lower layers that they link to.
    pub(crate) links: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an archive has left behind besides files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) debts: Debts,
    pub(crate) seals: Seals,
}

impl Debts {
    /// A layer without debts is the same whatever is below it.
    pub(crate) fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.links.is_empty()
    }
}

/// A layer that is being applied.
pub(crate) struct Applier<'a> {
    tree: Tree,
    layer: &'a str,
    limits: &'a Limits,
    entries: u64,
    /// Apparent bytes of all files, holes included.
    bytes: u64,
    /// Directories' times, by path; set when nothing changes them any more.
    times: HashMap<Vec<u8>, Time>,
    /// Hardlinks whose target did not exist when they came, by path.
    pending: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Extended attributes that are not ours to set, by path, and their bytes in all.
    xattrs: BTreeMap<Vec<u8>, Xattrs>,
    xattr_bytes: usize,
}

/// Why an entry could not be applied, before it is known how to say it.
enum Trouble {
    /// It breaks a rule.
    Refused(&'static str),
    /// A system call failed.
    Failed(&'static str, io::Error),
}

impl From<&'static str> for Trouble {
    fn from(reason: &'static str) -> Self {
        Self::Refused(reason)
    }
}

/// Names the step of a system call that may fail.
trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Trouble>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, Trouble> {
        self.map_err(|error| Trouble::Failed(step, error.into()))
    }
}

impl<'a> Applier<'a> {
    /// Starts in empty directories.
    pub(crate) fn new(root: OwnedFd, attic: OwnedFd, layer: &'a str, limits: &'a Limits) -> Self {
        Self {
            tree: Tree::new(root, attic),
            layer,
            limits,
            entries: 0,
            bytes: 0,
            times: HashMap::new(),
            pending: BTreeMap::new(),
            xattrs: BTreeMap::new(),
            xattr_bytes: 0,
        }
    }

    /// Applies every entry of the archive.
    pub(crate) fn run<R: BufRead + Witness>(
        mut self,
        reader: &mut TarReader<R>,
    ) -> Result<Applied> {
        while let Some(entry) = reader.next().map_err(|e| self.unreadable(e))? {
            self.count(&entry)?;
            self.entry(&entry, reader).map_err(|trouble| self.explain(&entry.name, trouble))?;
            if let Some(path) = self.tree.take_lost() {
                reader.input().lost(&path);
            }
        }
        self.finish()
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        if let Kind::File { size, .. } = entry.kind {
            self.bytes = self.bytes.saturating_add(size);
        }
        let too_large = |limit| Err(Error::TooLarge { what: self.layer.to_owned(), limit });
        if self.entries > self.limits.entries {
            return too_large(format!("at most {} entries", self.limits.entries));
        }
        if self.bytes > self.limits.layer {
            return too_large(format!("at most {} bytes of files", self.limits.layer));
        }
        Ok(())
    }

    fn entry<R: BufRead + Witness>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), Trouble> {
        attributes::check_xattrs(entry)?;
        if entry.xattrs.iter().any(|(name, _)| overlay::is_overlay_xattr(name)) {
            return Err(Trouble::Refused("an extended attribute of overlayfs"));
        }
        let path = clean(&entry.name)?;
        match classify(&path)? {
            Mark::Ignore => Ok(()),
            Mark::Opaque { directory } => {
                let place = self.tree.descend(directory).step("open directory")?;
                self.tree.make_opaque(&place);
                Ok(())
            }
            Mark::Whiteout { directory, name } => self.whiteout(directory, name),
            // The root's own attributes are those of the container's writable layer.
            Mark::None if path.is_empty() => Ok(()),
            Mark::None => {
                let (directory, name) = split(&path);
                let at = self.tree.descend(directory).step("open parent directory")?;
                let path = join(&at.path, name);
                self.pending.remove(&path);
                self.xattrs.remove(&path);
                self.create(&at, name, entry, reader)
            }
        }
    }

    /// A whiteout speaks of the layers below; what this layer has of that name stays, and a
    /// directory of this layer shows nothing of the one below any more.
    fn whiteout(&mut self, directory: &[u8], name: &[u8]) -> Result<(), Trouble> {
        let at = self.tree.descend(directory).step("open parent directory")?;
        match self.tree.existing(&at.fd, name).step("look at")? {
            Existing::Nothing => overlay::make_whiteout(&at.fd, name).step("make whiteout"),
            Existing::Directory => {
                let place = self.tree.directory(&at, name).step("open directory")?;
                self.tree.make_opaque(&place);
                Ok(())
            }
            Existing::Whiteout | Existing::Other => Ok(()),
        }
    }

    fn create<R: BufRead + Witness>(
        &mut self,
        at: &Place,
        name: &[u8],
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), Trouble> {
        if entry.kind == Kind::Directory {
            let place = self.tree.directory(at, name).step("make directory")?;
            self.times.insert(place.path.to_vec(), entry.mtime);
            self.keep_xattrs(&place.path, entry, seal::is_ordinary)?;
            return attributes::set(Subject::Open(place.fd.as_fd()), entry)
                .step("set attributes of");
        }
        if let Kind::File { size, segments } = &entry.kind {
            let mut file = self.create_file(at, name, entry.mode).step("create file")?;
            let path = join(&at.path, name);
            write((&mut file, &path), reader, *size, segments.as_deref()).step("write")?;
            self.keep_xattrs(&path, entry, seal::is_ordinary)?;
            attributes::set(Subject::Open(file.as_fd()), entry).step("set attributes of")?;
            return attributes::set_times(Subject::Open(file.as_fd()), entry.mtime)
                .step("set times of");
        }
        self.tree.displace(at, name).step("replace")?;
        let is_symlink = match &entry.kind {
            Kind::Hardlink { target } => match self.link(at, name, target)? {
                Some(is_symlink) => is_symlink,
                None => return Ok(()),
            },
            Kind::Symlink { target } if target.is_empty() => {
                return Err(Trouble::Refused("a symlink to nothing"));
            }
            Kind::Symlink { target } => {
                fs::symlinkat(target.as_slice(), &at.fd, name).step("make symlink")?;
                true
            }
            special => {
                make_special(at, name, special)?;
                false
            }
        };
        let subject = Subject::Name { directory: at.fd.as_fd(), name, is_symlink };
        // By name there is no way to them from in here.
        self.keep_xattrs(&join(&at.path, name), entry, |_| false)?;
        attributes::set(subject, entry).step("set attributes of")?;
        attributes::set_times(subject, entry.mtime).step("set times of")
    }

    /// Notes the extended attributes of an entry that are not `ours` to set.
    fn keep_xattrs(
        &mut self,
        path: &[u8],
        entry: &Entry,
        ours: fn(&[u8]) -> bool,
    ) -> Result<(), Trouble> {
        let mut kept = entry.xattrs.iter().filter(|(name, _)| !ours(name));
        kept.try_for_each(|(name, value)| self.keep_xattr(path, name.clone(), value.clone()))
    }

    fn keep_xattr(&mut self, path: &[u8], name: Vec<u8>, value: Vec<u8>) -> Result<(), Trouble> {
        self.xattr_bytes += path.len() + name.len() + value.len();
        if self.xattr_bytes > MAX_KEPT {
            return Err(Trouble::Refused("more than 16 MiB of privileged attributes"));
        }
        self.xattrs.entry(path.to_vec()).or_default().push((name, value));
        Ok(())
    }

    fn create_file(&mut self, at: &Place, name: &[u8], mode: u32) -> io::Result<std::fs::File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || fs::openat(&at.fd, name, flags, Mode::from_raw_mode(mode));
        let fd = match open() {
            Err(Errno::EXIST) => {
                self.tree.displace(at, name)?;
                open()?
            }
            other => other?,
        };
        Ok(fd.into())
    }

    /// Links to a file of this layer; tells whether it is a symlink. `None`, with a note, if this
    /// layer has no such file yet.
    fn link(&mut self, at: &Place, name: &[u8], target: &[u8]) -> Result<Option<bool>, Trouble> {
        let target = clean(target)?;
        let (directory, file) = split(&target);
        if file.is_empty() {
            return Err(Trouble::Refused("a hardlink to the root directory"));
        }
        let from = self.tree.resolve(directory).step("open directory of link target")?;
        let is_file =
            |from: &OwnedFd| matches!(self.tree.existing(from, file), Ok(Existing::Other));
        let Some(from) = from.filter(is_file) else {
            self.pending.insert(join(&at.path, name), target);
            return Ok(None);
        };
        fs::linkat(&from, file, &at.fd, name, AtFlags::empty()).step("make hardlink")?;
        // The file keeps them by this name when something else gets the other one.
        for (key, value) in self.xattrs.get(&target).cloned().unwrap_or_default() {
            self.keep_xattr(&join(&at.path, name), key, value)?;
        }
        let stat = fs::statat(&at.fd, name, AtFlags::SYMLINK_NOFOLLOW).step("look at")?;
        Ok(Some(FileType::from_raw_mode(stat.st_mode) == FileType::Symlink))
    }

    fn finish(mut self) -> Result<Applied> {
        let mut links = Vec::new();
        for (path, target) in std::mem::take(&mut self.pending) {
            let settled = self.link_late(&path, &target);
            if !settled.map_err(|trouble| self.explain(&path, trouble))? {
                links.push((path, target));
            }
        }
        for (path, time) in std::mem::take(&mut self.times) {
            let set = match self.tree.find(&path) {
                Ok(Some(place)) => attributes::set_times(Subject::Open(place.fd.as_fd()), time),
                // Displaced since.
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            set.step("set times of").map_err(|trouble| self.explain(&path, trouble))?;
        }
        let (directories, opaque) = self.tree.finish();
        let debts = Debts { directories, links };
        Ok(Applied { debts, seals: Seals { opaque, xattrs: self.xattrs } })
    }

    /// Tries a link again whose target came after it. `true` if there is nothing more to do.
    fn link_late(&mut self, path: &[u8], target: &[u8]) -> Result<bool, Trouble> {
        let (directory, name) = split(path);
        let Some(at) = self.tree.find(directory).step("open parent directory")? else {
            return Ok(true);
        };
        let existing = self.tree.existing(&at.fd, name).step("look at")?;
        Ok(existing != Existing::Nothing || self.link(&at, name, target)?.is_some())
    }

    fn unreadable(&self, error: io::Error) -> Error {
        super::unpack::unreadable(self.layer, error)
    }

    fn explain(&self, name: &[u8], trouble: Trouble) -> Error {
        let entry: String = String::from_utf8_lossy(name).chars().take(MAX_SHOWN).collect();
        let refuse = |reason: &str| Error::HostileLayer {
            layer: self.layer.to_owned(),
            entry: entry.clone(),
            reason: reason.to_owned(),
        };
        match trouble {
            Trouble::Refused(reason) => refuse(reason),
            Trouble::Failed(step, error) => match Errno::from_io_error(&error) {
                Some(Errno::NAMETOOLONG) => refuse("a path of more than 4095 bytes"),
                Some(Errno::LOOP) => refuse("too many symbolic links on the way"),
                Some(Errno::MLINK) => refuse("more hardlinks than the file system takes"),
                Some(_) => Error::storage(step, format!("{entry:?} of {}", self.layer), error),
                // No system call: the archive could not be read on.
                None => self.unreadable(error),
            },
        }
    }
}

/// Copies content from the archive; what no segment covers stays a hole.
fn write<R: BufRead + Witness>(
    (file, path): (&mut std::fs::File, &[u8]),
    reader: &mut TarReader<R>,
    size: u64,
    segments: Option<&[Segment]>,
) -> io::Result<()> {
    let Some(segments) = segments else {
        reader.input().content(path, 0, size);
        return reader.copy(size, |bytes| file.write_all(bytes));
    };
    for segment in segments {
        file.seek(SeekFrom::Start(segment.offset))?;
        reader.input().content(path, segment.offset, segment.length);
        reader.copy(segment.length, |bytes| file.write_all(bytes))?;
    }
    file.set_len(size)
}

fn make_special(at: &Place, name: &[u8], kind: &Kind) -> Result<(), Trouble> {
    let (file_type, major, minor) = match kind {
        Kind::Character { major: 0, minor: 0 } => {
            return Err(Trouble::Refused("device 0/0, which is overlayfs's whiteout"));
        }
        Kind::Character { major, minor } => (FileType::CharacterDevice, *major, *minor),
        Kind::Block { major, minor } => (FileType::BlockDevice, *major, *minor),
        _ => (FileType::Fifo, 0, 0),
    };
    if major > MAX_MAJOR || minor > MAX_MINOR {
        return Err(Trouble::Refused("a device number that Linux does not have"));
    }
    let device = fs::makedev(major, minor);
    fs::mknodat(&at.fd, name, file_type, Mode::from_raw_mode(0o600), device)
        .step("make special file")
}
