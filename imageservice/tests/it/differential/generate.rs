//! Layers of all that a layer can have, in orders that GNU tar can follow: it cannot replace a
//! directory by something else, and knows nothing of what lies below a layer.

use std::collections::HashMap;

use tar::{EntryType, Header};

use crate::support::Tarball;
use crate::support::tarball::Meta;

/// What a layer has at a path so far.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Directory,
    Symlink,
    File,
    Special,
}

/// Makes layers of random numbers (xorshift64).
pub(super) struct Generator(u64);

/// A layer that grows.
struct Layer<'a> {
    dice: &'a mut Generator,
    tar: Tarball,
    known: HashMap<String, Known>,
}

/// What is at a path; hardlinks are given the attributes that their target has.
#[derive(Clone)]
struct Known {
    kind: Kind,
    meta: Meta,
    /// Whether its time has a fraction.
    is_fine: bool,
    /// Whether it is more than the place of something else.
    has_entry: bool,
}

impl Known {
    /// A directory that is there because something is in it.
    fn implied() -> Self {
        let meta = Meta { mode: 0o755, ..Meta::default() };
        Self { kind: Kind::Directory, meta, is_fine: false, has_entry: false }
    }
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    fn bytes(&mut self, length: u64) -> String {
        (0..length).map(|_| char::from(b'a' + u8::try_from(self.below(26)).unwrap())).collect()
    }

    /// The archive of a layer, all of it below the directory `number`.
    pub(super) fn layer(&mut self, number: u64) -> Vec<u8> {
        let entries = 1 + self.below(24);
        let mut layer = Layer { dice: self, tar: Tarball::new(), known: HashMap::new() };
        layer.directory(&number.to_string());
        for _ in 0..entries {
            layer.entry(number);
        }
        layer.tar.build()
    }
}

impl Layer<'_> {
    fn entry(&mut self, number: u64) {
        let path = self.path(number);
        let kind = self.known.get(&path).map(|known| known.kind);
        match (self.dice.below(16), kind) {
            (0..3, _) => self.whiteout(&path),
            (_, Some(Kind::Directory)) | (3..6, None) => self.directory(&path),
            (6..8, _) => self.symlink(&path),
            (8..10, _) => self.hardlink(&path),
            (10..12, _) => self.special(&path),
            (12, _) => self.sparse(&path),
            _ => self.file(&path),
        }
    }

    /// A path whose ancestors are directories, or nothing yet.
    fn path(&mut self, number: u64) -> String {
        let mut path = number.to_string();
        for _ in 0..=self.dice.below(3) {
            let name = match self.dice.below(40) {
                0 => self.dice.bytes(120),
                1 => self.dice.bytes(255),
                2 => "name with spaces \u{e4}\u{1f40b}".to_owned(),
                _ => self.dice.pick(&["a", "b", "c", "d"]).to_owned(),
            };
            let below = format!("{path}/{name}");
            let is_dead_end =
                self.known.get(&path).is_some_and(|known| known.kind != Kind::Directory);
            if is_dead_end {
                break;
            }
            path = below;
        }
        path
    }

    fn meta(&mut self) -> Meta {
        Meta {
            mode: self.dice.pick(&[0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o000, 0o444]),
            uid: self.dice.pick(&[0, 0, 1, 1000, 65_534, 2_000_000]),
            gid: self.dice.pick(&[0, 0, 5, 1000, 1_000_000]),
            mtime: self.dice.pick(&[0, 1, 1_700_000_000, 1_234_567_890, 4_300_000_000]),
        }
    }

    /// Writes an entry, with extension headers for what the header has no room for, and by chance.
    /// Tells whether its time got a fraction.
    fn put(
        &mut self,
        kind: EntryType,
        path: &str,
        target: &str,
        content: &[u8],
        meta: &Meta,
    ) -> bool {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        for (key, value) in [("path", path), ("linkpath", target)] {
            if value.len() > 100 || self.dice.below(16) == 0 && !value.is_empty() {
                records.push((key.to_owned(), value.as_bytes().to_vec()));
            }
        }
        let is_fine = match self.known.get(target) {
            Some(target) if kind == EntryType::Link => target.is_fine,
            _ => meta.mtime > 1 && self.dice.below(3) == 0,
        };
        if is_fine {
            records.push(("mtime".to_owned(), format!("{}.123456789", meta.mtime).into_bytes()));
        }
        if matches!(kind, EntryType::Regular | EntryType::Directory) {
            self.xattrs(kind, &mut records);
        }
        self.write(kind, path, target, content, meta, &records);
        is_fine
    }

    fn xattrs(&mut self, kind: EntryType, records: &mut Vec<(String, Vec<u8>)>) {
        // VFS_CAP_REVISION_2 with cap_net_raw, permitted and effective.
        const CAPABILITY: [u8; 20] =
            [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut xattr = |name: &str, value: &[u8]| {
            records.push((format!("SCHILY.xattr.{name}"), value.to_vec()));
        };
        match self.dice.below(16) {
            0 => xattr("user.plain", b"value"),
            1 => xattr("user.binary", b"line\nbreak=\0end"),
            2 => xattr("trusted.deep", b"\xff\x00"),
            3 if kind == EntryType::Regular => xattr("security.capability", &CAPABILITY),
            4 => {
                xattr("user.one", b"1");
                xattr("user.two", b"2");
            }
            _ => {}
        }
    }

    fn write(
        &mut self,
        kind: EntryType,
        path: &str,
        target: &str,
        content: &[u8],
        meta: &Meta,
        records: &[(String, Vec<u8>)],
    ) {
        let mut tar = std::mem::replace(&mut self.tar, Tarball::new());
        if !records.is_empty() {
            let records: Vec<_> =
                records.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
            tar = tar.pax(&records);
        }
        let short = |name: &str| {
            let end = (0..=100.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
            name[..end.unwrap_or(0)].to_owned()
        };
        self.tar = tar.entry(kind, &short(path), &short(target), content, meta);
    }

    fn note(&mut self, path: &str, kind: Kind, meta: Meta, is_fine: bool) {
        self.known.insert(path.to_owned(), Known { kind, meta, is_fine, has_entry: true });
        self.note_parents(path);
    }

    fn note_parents(&mut self, mut path: &str) {
        while let Some((parent, _)) = path.rsplit_once('/') {
            self.known.entry(parent.to_owned()).or_insert_with(Known::implied);
            path = parent;
        }
    }

    /// Of a directory that comes twice, tar forgets the attributes that it had the first time, if
    /// it may not set them before the end: so here it comes once.
    fn directory(&mut self, path: &str) {
        if self.known.get(path).is_some_and(|known| known.has_entry) {
            return;
        }
        let meta = self.meta();
        let is_fine = self.put(EntryType::Directory, path, "", b"", &meta);
        self.note(path, Kind::Directory, meta, is_fine);
    }

    fn file(&mut self, path: &str) {
        let meta = self.meta();
        let length = self.dice.pick(&[0, 1, 511, 512, 513, 10_000]);
        let content = self.dice.bytes(length);
        let is_fine = self.put(EntryType::Regular, path, "", content.as_bytes(), &meta);
        self.note(path, Kind::File, meta, is_fine);
    }

    fn symlink(&mut self, path: &str) {
        let target = match self.dice.below(5) {
            0 => self.dice.bytes(200),
            _ => self.dice.pick(&["a", "../b", "/etc/passwd", "a/../c", "."]).to_owned(),
        };
        let meta = Meta { mode: 0o777, ..self.meta() };
        let is_fine = self.put(EntryType::Symlink, path, &target, b"", &meta);
        self.note(path, Kind::Symlink, meta, is_fine);
    }

    /// A further name of something that is no directory, or else a file.
    fn hardlink(&mut self, path: &str) {
        let mut targets: Vec<_> = self.known.iter().collect();
        targets.retain(|(name, known)| known.kind == Kind::File && name.as_str() != path);
        targets.sort_by_key(|(name, _)| name.as_str());
        if targets.is_empty() {
            return self.file(path);
        }
        let chosen = usize::try_from(self.dice.below(targets.len() as u64)).unwrap();
        let (target, known) = (targets[chosen].0.clone(), targets[chosen].1.clone());
        self.put(EntryType::Link, path, &target, b"", &known.meta);
        self.note(path, known.kind, known.meta, known.is_fine);
    }

    fn special(&mut self, path: &str) {
        let meta = self.meta();
        let short = path.len() <= 100;
        let tar = std::mem::replace(&mut self.tar, Tarball::new());
        let numbers = (1 + self.dice.below(200), self.dice.below(300));
        let (major, minor) = (u32::try_from(numbers.0).unwrap(), u32::try_from(numbers.1).unwrap());
        let kind = self.dice.pick(&[EntryType::Char, EntryType::Block, EntryType::Fifo]);
        let mut is_fine = false;
        if kind == EntryType::Fifo || !short {
            self.tar = tar;
            is_fine = self.put(EntryType::Fifo, path, "", b"", &meta);
        } else {
            self.tar = tar.device(kind, path, major, minor);
        }
        self.note(path, Kind::Special, meta, is_fine);
    }

    /// A file with holes, in GNU's PAX format 1.0.
    fn sparse(&mut self, path: &str) {
        let meta = self.meta();
        let (offset, data) = (4096 * self.dice.below(20), self.dice.bytes(1024));
        let size = offset + 1024 + 512 * self.dice.below(100);
        // As tar itself writes it: whole blocks, and where the file ends.
        let mut content = format!("2\n{offset}\n1024\n{size}\n0\n").into_bytes();
        content.resize(512, 0);
        content.extend(data.as_bytes());
        let records = [
            ("GNU.sparse.major", "1".to_owned()),
            ("GNU.sparse.minor", "0".to_owned()),
            ("GNU.sparse.name", path.to_owned()),
            ("GNU.sparse.realsize", size.to_string()),
        ];
        let records = records.each_ref().map(|(key, value)| (*key, value.as_bytes()));
        // To tar, an entry with GNU's magic has GNU's older kind of map.
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..1].copy_from_slice(b"x");
        header.set_size(content.len() as u64);
        header.set_mode(meta.mode);
        header.set_uid(meta.uid);
        header.set_gid(meta.gid);
        header.set_mtime(meta.mtime);
        header.set_cksum();
        let tar = std::mem::replace(&mut self.tar, Tarball::new());
        self.tar = tar.pax(&records).raw(header.as_bytes()).raw(&content);
        self.note(path, Kind::File, meta, false);
    }

    /// Hides `path` of the layers below, or all that is in it. tar takes it for a file.
    fn whiteout(&mut self, path: &str) {
        let is_directory = self.known.get(path).is_some_and(|known| known.kind == Kind::Directory);
        let marker = if is_directory && self.dice.below(2) == 0 {
            format!("{path}/.wh..wh..opq")
        } else {
            let (parent, name) = path.rsplit_once('/').unwrap();
            if name.len() > 250 {
                return;
            }
            format!("{parent}/.wh.{name}")
        };
        let meta = Meta::default();
        let long = [("path".to_owned(), marker.clone().into_bytes())];
        let records = if marker.len() > 100 { &long[..] } else { &[] };
        self.write(EntryType::Regular, &marker, "", b"", &meta, records);
        self.note_parents(&marker);
    }
}
