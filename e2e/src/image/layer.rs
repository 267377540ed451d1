//! One layer: tar entries in the order in which they are added. Nothing is checked or tidied,
//! so that a layer may be as hostile as a test needs it: absolute names, `..`, links that lead
//! out, entries twice.

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// All entries carry this time (2023-11-14), so that digests do not depend on the clock.
const MTIME: u64 = 1_700_000_000;
/// Bytes of a name that fit into the header itself; a longer one goes into a PAX record.
const NAME: usize = 100;

/// One entry of a layer.
#[derive(Debug, Clone)]
pub struct Entry {
    path: String,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    link: String,
    device: (u32, u32),
    data: Vec<u8>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn new(path: &str, kind: EntryType, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            mode,
            owner: (0, 0),
            link: String::new(),
            device: (0, 0),
            data: Vec::new(),
            xattrs: Vec::new(),
        }
    }

    /// A regular file, 0644, owned by root.
    pub fn file(path: &str, data: impl Into<Vec<u8>>) -> Self {
        Self { data: data.into(), ..Self::new(path, EntryType::Regular, 0o644) }
    }

    /// A directory, 0755.
    pub fn dir(path: &str) -> Self {
        Self::new(path, EntryType::Directory, 0o755)
    }

    /// A symbolic link at `path` that says `target`.
    pub fn symlink(path: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::new(path, EntryType::Symlink, 0o777) }
    }

    /// A further name, `path`, of the entry `target` of the same or a lower layer.
    pub fn hardlink(path: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::new(path, EntryType::Link, 0o644) }
    }

    /// A character device, 0600.
    pub fn char_device(path: &str, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(path, EntryType::Char, 0o600) }
    }

    /// A block device, 0600.
    pub fn block_device(path: &str, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(path, EntryType::Block, 0o600) }
    }

    /// A named pipe, 0644.
    pub fn fifo(path: &str) -> Self {
        Self::new(path, EntryType::Fifo, 0o644)
    }

    /// Removes `path` of the lower layers (image-spec layer.md, "Whiteouts").
    pub fn whiteout(path: &str) -> Self {
        let (dir, name) = path.rsplit_once('/').map_or(("", path), |(dir, name)| (dir, name));
        let slash = if dir.is_empty() { "" } else { "/" };
        Self::file(&format!("{dir}{slash}.wh.{name}"), "")
    }

    /// Hides all that lower layers have in `dir` (image-spec layer.md, "Opaque Whiteout").
    pub fn opaque(dir: &str) -> Self {
        Self::file(&format!("{dir}/.wh..wh..opq"), "")
    }

    /// Sets the permission bits, setuid, setgid and sticky included.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets uid and gid.
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Adds an extended attribute, as a `SCHILY.xattr.` PAX record.
    pub fn xattr(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.xattrs.push((name.to_owned(), value.into()));
        self
    }

    fn append(&self, tar: &mut Builder<Vec<u8>>) -> std::io::Result<()> {
        let mut pax: Vec<(String, &[u8])> = Vec::new();
        for (name, value) in &self.xattrs {
            pax.push((format!("SCHILY.xattr.{name}"), value));
        }
        for (key, name) in [("path", &self.path), ("linkpath", &self.link)] {
            if name.len() > NAME {
                pax.push((key.to_owned(), name.as_bytes()));
            }
        }
        if !pax.is_empty() {
            tar.append_pax_extensions(pax.iter().map(|(key, value)| (key.as_str(), *value)))?;
        }
        tar.append(&self.header()?, self.data.as_slice())
    }

    fn header(&self) -> std::io::Result<Header> {
        let mut header = Header::new_ustar();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(MTIME);
        header.set_size(self.data.len() as u64);
        header.set_device_major(self.device.0)?;
        header.set_device_minor(self.device.1)?;
        // As bytes: the setters of the library refuse the names that a hostile layer has.
        let raw = header.as_old_mut();
        fill(&mut raw.name, &self.path);
        fill(&mut raw.linkname, &self.link);
        header.set_cksum();
        Ok(header)
    }
}

fn fill(field: &mut [u8; NAME], name: &str) {
    let bytes = &name.as_bytes()[..name.len().min(NAME)];
    field[..bytes.len()].copy_from_slice(bytes);
}

/// The entries of one layer, in order.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    entries: Vec<Entry>,
}

impl Layer {
    /// A small root file system in which busybox is every command.
    ///
    /// # Errors
    /// If the machine has no static busybox; the message tells how to get it.
    pub fn busybox() -> Result<Self> {
        super::busybox::layer()
    }

    /// A layer without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry.
    pub fn with(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// Adds entries.
    pub fn with_all(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        self.entries.extend(entries);
        self
    }

    /// The layer as a tar archive, unpacked.
    pub fn tar(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for entry in &self.entries {
            entry.append(&mut tar).with_context(|| format!("add {} to a layer", entry.path))?;
        }
        tar.into_inner().context("end a layer")
    }
}
