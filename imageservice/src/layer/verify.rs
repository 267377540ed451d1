//! Compressed bytes on their way to the unpacker: counted and hashed as they pass.

use bytes::Bytes;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::progress::LayerMeter;

/// Where compressed bytes come from: chunk after chunk, `None` at the end. Called from a blocking
/// thread only.
pub(crate) type Chunks = Box<dyn FnMut() -> Result<Option<Bytes>> + Send>;

/// Chunks of which it is known what they should be.
pub(crate) struct Verified<'a> {
    chunks: Chunks,
    hasher: Hasher,
    seen: u64,
    what: &'a str,
    digest: &'a Digest,
    size: u64,
    meter: LayerMeter,
}

impl<'a> Verified<'a> {
    pub(crate) fn new(
        chunks: Chunks,
        what: &'a str,
        digest: &'a Digest,
        size: u64,
        meter: LayerMeter,
    ) -> Self {
        let hasher = Hasher::new(digest.algorithm());
        Self { chunks, hasher, seen: 0, what, digest, size, meter }
    }

    /// Gets the next chunk; `None` at the end. A body longer than promised is cut off at once.
    pub(crate) fn chunk(&mut self) -> Result<Option<Bytes>> {
        let Some(chunk) = (self.chunks)()? else { return Ok(None) };
        self.seen += chunk.len() as u64;
        self.meter.add(chunk.len() as u64);
        if self.seen > self.size {
            return Err(self.size_mismatch());
        }
        self.hasher.update(&chunk);
        Ok(Some(chunk))
    }

    /// Reads what is left and says whether all of it was what was promised.
    pub(crate) fn finish(mut self) -> Result<()> {
        while self.chunk()?.is_some() {}
        if self.seen != self.size {
            return Err(self.size_mismatch());
        }
        let got = self.hasher.finish();
        if got != *self.digest {
            let (what, expected) = (self.what.to_owned(), self.digest.clone());
            return Err(Error::DigestMismatch { what, expected, got });
        }
        Ok(())
    }

    fn size_mismatch(&self) -> Error {
        Error::SizeMismatch { what: self.what.to_owned(), expected: self.size, got: self.seen }
    }
}
