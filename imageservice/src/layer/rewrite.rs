//! A layer's archive once more, byte for byte, from its spine and its tree.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{self, Mode, OFlags, ResolveFlags};

use super::spine::{Piece, Spine};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};

const CHUNK: usize = 256 << 10;

/// A layer that can be written again.
pub(crate) struct Rewriter {
    spine: Spine,
    tree: OwnedFd,
    diff_id: Digest,
}

impl Rewriter {
    /// Opens a layer. Blocks.
    ///
    /// # Errors
    /// `Unsupported` if not all of its archive is known.
    pub(crate) fn open(spine: Option<File>, tree: OwnedFd, diff_id: Digest) -> Result<Self> {
        let unsupported = |reason: String| Error::Unsupported { what: name(&diff_id), reason };
        let spine = spine.ok_or_else(|| {
            let reason = "an older berth unpacked it and did not note how to write it again: \
                          remove the image and pull it anew";
            unsupported(reason.to_owned())
        })?;
        let unreadable = |e| Error::storage("read spine of", name(&diff_id), e);
        let spine = Spine::open(spine).map_err(unreadable)?;
        if !spine.is_exact() {
            let lost = spine.lost().map_err(unreadable)?;
            let lost = String::from_utf8_lossy(&lost).into_owned();
            return Err(unsupported(format!(
                "its archive has {lost:?} more than once, of which only the last is kept: it \
                 cannot be written again as it was"
            )));
        }
        Ok(Self { spine, tree, diff_id })
    }

    /// Bytes of the archive.
    pub(crate) fn size(&self) -> u64 {
        self.spine.size()
    }

    /// Writes the archive, and compares what was written with its digest. Blocks.
    pub(crate) fn write(mut self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let what = name(&self.diff_id);
        let mut hasher = Hasher::new(self.diff_id.algorithm());
        let mut emit = |bytes: &[u8]| {
            hasher.update(bytes);
            sink(bytes)
        };
        let mut open: Option<(Vec<u8>, File)> = None;
        let unreadable = |e| Error::storage("read spine of", &what, e);
        let mut buffer = vec![0; CHUNK];
        while let Some(piece) = self.spine.next().map_err(unreadable)? {
            let (path, offset, length) = match piece {
                Piece::Raw(bytes) => {
                    emit(&bytes)?;
                    continue;
                }
                Piece::Content { path, offset, length } => (path, offset, length),
            };
            // A sparse file comes in several pieces.
            if open.as_ref().is_none_or(|(opened, _)| *opened != path) {
                let file = open_beneath(&self.tree, &path).map_err(|e| lost(&what, &path, e))?;
                open = Some((path, file));
            }
            if let Some((path, file)) = &open {
                copy(file, offset, length, &mut buffer, &mut emit, |e| lost(&what, path, e))?;
            }
        }
        let got = hasher.finish();
        if got != self.diff_id {
            let what = format!("{what}, as its files are now");
            return Err(Error::DigestMismatch { what, expected: self.diff_id, got });
        }
        Ok(())
    }
}

fn name(diff_id: &Digest) -> String {
    format!("layer {diff_id}")
}

fn lost(what: &str, path: &[u8], error: io::Error) -> Error {
    Error::storage("read file", format!("{:?} of {what}", String::from_utf8_lossy(path)), error)
}

fn open_beneath(tree: &OwnedFd, path: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(fs::openat2(tree, path, flags, Mode::empty(), resolve)?);
    let is_file = file.metadata()?.is_file();
    if is_file { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

fn copy(
    file: &File,
    mut offset: u64,
    mut length: u64,
    buffer: &mut [u8],
    emit: &mut impl FnMut(&[u8]) -> Result<()>,
    unreadable: impl Fn(io::Error) -> Error,
) -> Result<()> {
    while length > 0 {
        let wanted = usize::try_from(length).unwrap_or(CHUNK).min(buffer.len());
        let chunk = &mut buffer[..wanted];
        file.read_exact_at(chunk, offset).map_err(&unreadable)?;
        emit(chunk)?;
        offset += wanted as u64;
        length -= wanted as u64;
    }
    Ok(())
}
