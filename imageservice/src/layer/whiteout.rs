//! The marker files by which a layer says that something below it is gone.
//!
//! OCI image specification, "Whiteouts": `.wh.NAME` hides NAME of the layers below, and
//! `.wh..wh..opq` hides everything in its directory. Overlayfs has other marks for the same: a
//! character device 0/0, and the xattr `trusted.overlay.opaque=y` (kernel's overlayfs.rst).

use super::path::split;

const PREFIX: &[u8] = b".wh.";
/// AUFS kept its own books under this prefix; old tools put them into layers.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a clean path means for the layers below.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mark<'a> {
    /// An ordinary entry.
    None,
    /// The directory hides all that is below it.
    Opaque { directory: &'a [u8] },
    /// The name hides what is below it.
    Whiteout { directory: &'a [u8], name: &'a [u8] },
    /// Bookkeeping of AUFS, of no meaning here.
    Ignore,
}

pub(crate) fn classify(path: &[u8]) -> Result<Mark<'_>, &'static str> {
    let (directory, name) = split(path);
    let mut ancestors = directory.split(|b| *b == b'/');
    if ancestors.clone().any(|ancestor| ancestor.starts_with(AUFS_PREFIX)) {
        return Ok(Mark::Ignore);
    }
    if ancestors.any(|ancestor| ancestor.starts_with(PREFIX)) {
        return Err("an entry below a whiteout");
    }
    if name == OPAQUE {
        return Ok(Mark::Opaque { directory });
    }
    if name.starts_with(AUFS_PREFIX) {
        return Ok(Mark::Ignore);
    }
    match name.strip_prefix(PREFIX) {
        None => Ok(Mark::None),
        Some(b"" | b"." | b"..") => Err("a whiteout of no name"),
        Some(name) => Ok(Mark::Whiteout { directory, name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks() {
        let whiteout = |directory: &'static str, name: &'static str| {
            Ok(Mark::Whiteout { directory: directory.as_bytes(), name: name.as_bytes() })
        };
        for (path, mark) in [
            ("a/b", Ok(Mark::None)),
            ("a/.whx", Ok(Mark::None)),
            ("a/.wh.b", whiteout("a", "b")),
            (".wh.b", whiteout("", "b")),
            (".wh..b", whiteout("", ".b")),
            ("a/.wh..wh..opq", Ok(Mark::Opaque { directory: b"a" })),
            (".wh..wh.plnk", Ok(Mark::Ignore)),
            (".wh..wh.plnk/1.2", Ok(Mark::Ignore)),
            ("a/.wh.", Err("a whiteout of no name")),
            ("a/.wh..", Err("a whiteout of no name")),
            ("a/.wh...", Err("a whiteout of no name")),
            (".wh.d/x", Err("an entry below a whiteout")),
            (".wh./x", Err("an entry below a whiteout")),
        ] {
            assert_eq!(classify(path.as_bytes()), mark, "{path}");
        }
    }
}
