//! Trees as lines: all that a file has but its place on the disk. A tree of tar's gets what the
//! specification says of whiteouts done while it is listed.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use berth_imageservice::Digest;

use crate::support::tree::{is_opaque, xattr};

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// A listing under way.
struct Listing {
    /// Whether markers are to be read as such, and not yet what overlayfs wants.
    has_markers: bool,
    lines: Vec<String>,
    /// The first name of each inode.
    inodes: HashMap<u64, String>,
}

/// A tree that we have unpacked.
pub(super) fn list_ours(root: &Path) -> Vec<String> {
    list(root, false)
}

/// A tree that tar has unpacked.
pub(super) fn list_theirs(root: &Path) -> Vec<String> {
    list(root, true)
}

fn list(root: &Path, has_markers: bool) -> Vec<String> {
    let mut listing = Listing { has_markers, lines: Vec::new(), inodes: HashMap::new() };
    listing.directory(root, "");
    listing.lines.sort();
    listing.lines
}

impl Listing {
    fn directory(&mut self, root: &Path, path: &str) {
        let here = root.join(path);
        let names = fs::read_dir(&here).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        for name in &names {
            if self.has_markers && name.starts_with(WHITEOUT) {
                self.marker(&here, path, name);
                continue;
            }
            let path = format!("{path}{name}");
            self.file(root, &path);
            if root.join(&path).symlink_metadata().unwrap().is_dir() {
                self.directory(root, &format!("{path}/"));
            }
        }
        if is_opaque(&here) {
            self.lines.push(format!("{path} OPAQUE"));
        }
    }

    /// A whiteout hides what is below. A name that this layer has as well stays, and if it is a
    /// directory, it hides all that the lower one has.
    fn marker(&mut self, here: &Path, directory: &str, marker: &str) {
        let hidden = marker.trim_start_matches(WHITEOUT);
        let same = here.join(hidden).symlink_metadata();
        let line = match same {
            _ if marker == OPAQUE => format!("{directory} OPAQUE"),
            Ok(same) if same.is_dir() => format!("{directory}{hidden}/ OPAQUE"),
            Ok(_) => return,
            Err(_) => format!("{directory}{hidden} WHITEOUT"),
        };
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    fn file(&mut self, root: &Path, path: &str) {
        let file = root.join(path);
        let meta = file.symlink_metadata().unwrap();
        if meta.file_type().is_char_device() && meta.rdev() == 0 {
            self.lines.push(format!("{path} WHITEOUT"));
            return;
        }
        // The first name in the order of the listing; which one that is, both trees agree on.
        let first = self.inodes.entry(meta.ino()).or_insert_with(|| path.to_owned()).clone();
        let content = content(&file, &meta);
        let xattrs: Vec<_> = [
            "user.plain",
            "user.binary",
            "user.one",
            "user.two",
            "trusted.deep",
            "security.capability",
        ]
        .into_iter()
        .filter_map(|name| xattr(&file, name).map(|value| format!("{name}={value:?}")))
        .collect();
        let links = if meta.is_dir() { String::new() } else { format!(" = {first}") };
        self.lines.push(format!(
            "{path} {:o} {}:{} {} {content}{links} {xattrs:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            time(&meta),
        ));
    }
}

/// Of a directory that no entry describes it is the time of the test: those of entries are others.
fn time(meta: &Metadata) -> String {
    let is_recent = meta.mtime() > 1_750_000_000 && meta.mtime() < 4_000_000_000;
    if meta.is_dir() && is_recent {
        return "now".to_owned();
    }
    format!("{}.{:09}", meta.mtime(), meta.mtime_nsec())
}

fn content(file: &Path, meta: &Metadata) -> String {
    if meta.is_symlink() {
        format!("-> {}", fs::read_link(file).unwrap().display())
    } else if meta.is_file() {
        format!("{} {}", meta.len(), Digest::sha256(&fs::read(file).unwrap()))
    } else {
        format!("device {}", meta.rdev())
    }
}
