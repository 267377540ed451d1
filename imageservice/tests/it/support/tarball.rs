//! Layer archives, entry by entry.

use std::io::Write;

use tar::{Builder, EntryType, Header};

/// An archive in the making. Files belong to whoever runs the test, unless an entry says otherwise.
pub(crate) struct Tarball {
    builder: Builder<Vec<u8>>,
}

/// Attributes of an entry, beside its name and content.
#[derive(Clone)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
}

impl Default for Meta {
    fn default() -> Self {
        let uid = rustix::process::geteuid().as_raw().into();
        let gid = rustix::process::getegid().as_raw().into();
        Self { mode: 0o644, uid, gid, mtime: 1_700_000_000 }
    }
}

impl Tarball {
    pub(crate) fn new() -> Self {
        Self { builder: Builder::new(Vec::new()) }
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", content.as_bytes(), &Meta::default())
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        let meta = Meta { mode: 0o755, ..Meta::default() };
        self.entry(EntryType::Directory, name, "", b"", &meta)
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, b"", &Meta::default())
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, b"", &Meta::default())
    }

    pub(crate) fn with(self, kind: EntryType, name: &str, meta: &Meta) -> Self {
        self.entry(kind, name, "", b"", meta)
    }

    pub(crate) fn device(mut self, kind: EntryType, name: &str, major: u32, minor: u32) -> Self {
        let mut header = header(kind, name, "", 0, &Meta::default());
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.builder.append(&header, &b""[..]).unwrap();
        self
    }

    /// PAX records for the entry that follows.
    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.builder.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    /// An entry whose name is taken as it is, however wrong.
    pub(crate) fn entry(
        mut self,
        kind: EntryType,
        name: &str,
        target: &str,
        content: &[u8],
        meta: &Meta,
    ) -> Self {
        let header = header(kind, name, target, content.len() as u64, meta);
        self.builder.append(&header, content).unwrap();
        self
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.builder.get_mut().write_all(bytes).unwrap();
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }
}

/// A header with a raw name of at most 100 bytes.
pub(crate) fn header(kind: EntryType, name: &str, target: &str, size: u64, meta: &Meta) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(meta.mode);
    header.set_uid(meta.uid);
    header.set_gid(meta.gid);
    header.set_mtime(meta.mtime);
    header.set_cksum();
    header
}
