//! Directory trees as text, one line per file, to be compared with what a test expects.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Every file below a directory: `dir/ 755`, `file 644 "content"`, `link -> target`, `dev c 1:3`,
/// `gone WHITEOUT`, `dir/ 755 OPAQUE`, `pipe FIFO`. Owners appear when they are not the test's own.
pub(crate) fn show(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    visit(root, root, &mut lines);
    lines
}

/// The trees of layers, top first.
pub(crate) fn show_stack(lowers: &[impl AsRef<Path>]) -> Vec<Vec<String>> {
    lowers.iter().map(|lower| show(lower.as_ref())).collect()
}

fn visit(root: &Path, directory: &Path, lines: &mut Vec<String>) {
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        lines.push(line(root, &path));
        if path.symlink_metadata().unwrap().is_dir() {
            visit(root, &path, lines);
        }
    }
}

fn line(root: &Path, path: &Path) -> String {
    let name = String::from_utf8_lossy(path.strip_prefix(root).unwrap().as_os_str().as_bytes())
        .into_owned();
    let meta = path.symlink_metadata().unwrap();
    let (kind, mode) = (meta.file_type(), meta.mode() & 0o7777);
    let device = format!("{}:{}", meta.rdev() >> 8 & 0xfff, meta.rdev() & 0xff);
    let mut line = if kind.is_dir() {
        format!("{name}/ {mode:o}{}", if is_opaque(path) { " OPAQUE" } else { "" })
    } else if kind.is_symlink() {
        format!("{name} -> {}", std::fs::read_link(path).unwrap().display())
    } else if kind.is_char_device() && meta.rdev() == 0 {
        return format!("{name} WHITEOUT");
    } else if kind.is_char_device() {
        format!("{name} c {device}")
    } else if kind.is_block_device() {
        format!("{name} b {device}")
    } else if kind.is_fifo() {
        format!("{name} FIFO")
    } else {
        let content = std::fs::read(path).unwrap();
        format!("{name} {mode:o} {:?}", String::from_utf8_lossy(&content))
    };
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if (meta.uid(), meta.gid()) != own {
        line += &format!(" {}:{}", meta.uid(), meta.gid());
    }
    line
}

pub(crate) fn is_opaque(path: &Path) -> bool {
    xattr(path, "trusted.overlay.opaque").as_deref() == Some(b"y")
}

/// The value of an extended attribute.
pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 64 << 10];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}
