//! The tar of an archive: members that are the same every time, in chunks.

use bytes::{Bytes, BytesMut};
use tar::Header;

use crate::error::{Error, Result};

const BLOCK: u64 = 512;
const ZEROS: [u8; 1024] = [0; 1024];
const CHUNK: usize = 256 << 10;
/// Two blocks of zeros end an archive.
pub(super) const END: u64 = ZEROS.len() as u64;

/// Collects bytes into chunks.
pub(super) struct Sink<F> {
    send: F,
    chunk: BytesMut,
}

/// What a member of so many bytes takes.
pub(super) fn member_size(size: u64) -> u64 {
    BLOCK + size + padding(size)
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

impl<F: FnMut(Bytes) -> Result<()>> Sink<F> {
    pub(super) fn new(send: F) -> Self {
        Self { send, chunk: BytesMut::with_capacity(CHUNK) }
    }

    /// The header of a file.
    pub(super) fn begin(&mut self, name: &str, size: u64) -> Result<()> {
        let mut header = Header::new_gnu();
        let invalid = |e: std::io::Error| Error::InvalidArchive { reason: format!("{name}: {e}") };
        header.set_path(name).map_err(invalid)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = (CHUNK - self.chunk.len()).min(bytes.len());
            self.chunk.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            if self.chunk.len() == CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Fills the last block of a file.
    pub(super) fn pad(&mut self, size: u64) -> Result<()> {
        let padding = usize::try_from(padding(size)).unwrap_or_default();
        self.write(&ZEROS[..padding])
    }

    /// Ends the archive.
    pub(super) fn end(&mut self) -> Result<()> {
        self.write(&ZEROS)
    }

    /// Sends what is left.
    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let next = BytesMut::with_capacity(CHUNK);
        (self.send)(std::mem::replace(&mut self.chunk, next).freeze())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn an_archive_has_its_members_and_the_size_that_was_promised() {
        let mut archive = Vec::new();
        let mut sink = Sink::new(|chunk: Bytes| {
            archive.extend_from_slice(&chunk);
            Ok(())
        });
        let contents = [("empty", 0), ("a/b", 511), ("c", 512), ("d", 300_000)];
        for (name, size) in contents {
            sink.begin(name, size).unwrap();
            sink.write(&vec![7; usize::try_from(size).unwrap()]).unwrap();
            sink.pad(size).unwrap();
        }
        sink.end().unwrap();
        sink.finish().unwrap();
        let expected: u64 = contents.iter().map(|(_, size)| member_size(*size)).sum();
        assert_eq!(archive.len() as u64, expected + END);
        let mut read = tar::Archive::new(archive.as_slice());
        let members = read.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), bytes.len() as u64)
        });
        let contents = contents.map(|(name, size)| (name.to_owned(), size));
        assert_eq!(members.collect::<Vec<_>>(), contents);
    }

    #[test]
    fn who_does_not_want_more_ends_it() {
        let cancelled = || Error::Cancelled { what: "x".into() };
        let mut sink = Sink::new(|_| Err(cancelled()));
        sink.write(b"x").unwrap();
        assert!(sink.write(&vec![0; CHUNK]).is_err());
    }
}
