//! Compressed bytes on their way to the decoder: counted and hashed as they pass.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use bytes::{Buf, Bytes};

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::progress::LayerMeter;

/// Where compressed bytes come from: chunk after chunk, `None` at the end. Called from a blocking
/// thread only.
pub(crate) type Chunks = Box<dyn FnMut() -> Result<Option<Bytes>> + Send>;

/// A reader that knows what it should read.
pub(crate) struct Verified<'a> {
    chunks: Chunks,
    current: Bytes,
    hasher: Hasher,
    /// Shared with whoever watches the ratio while a decoder owns the reader.
    seen: Rc<Cell<u64>>,
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
        Self {
            chunks,
            current: Bytes::new(),
            hasher,
            seen: Rc::default(),
            what,
            digest,
            size,
            meter,
        }
    }

    /// The number of compressed bytes that have come, now and later.
    pub(crate) fn seen(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.seen)
    }

    /// Reads what is left and says whether all of it was what was promised.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.current.clear();
        while self.refill()? {
            self.current.clear();
        }
        let got = self.hasher.finish();
        if self.seen.get() != self.size {
            return Err(size_mismatch(self.what, self.size, self.seen.get()));
        }
        if got != *self.digest {
            let (what, expected) = (self.what.to_owned(), self.digest.clone());
            return Err(Error::DigestMismatch { what, expected, got });
        }
        Ok(())
    }

    /// Gets the next chunk; `false` at the end. A body longer than promised is cut off at once.
    fn refill(&mut self) -> Result<bool> {
        let Some(chunk) = (self.chunks)()? else { return Ok(false) };
        let seen = self.seen.get() + chunk.len() as u64;
        self.seen.set(seen);
        self.meter.add(chunk.len() as u64);
        if seen > self.size {
            return Err(size_mismatch(self.what, self.size, seen));
        }
        self.hasher.update(&chunk);
        self.current = chunk;
        Ok(true)
    }
}

fn size_mismatch(what: &str, expected: u64, got: u64) -> Error {
    Error::SizeMismatch { what: what.to_owned(), expected, got }
}

impl BufRead for Verified<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && self.refill().map_err(io::Error::other)? {}
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}

impl Read for Verified<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(out.len());
        out[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}
