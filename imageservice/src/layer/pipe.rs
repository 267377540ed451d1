//! The bounded pipe between the inflating and the applying thread.
//!
//! Buffers go by ownership, so that nothing is copied; a few of them in flight bound the memory.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::digest::{Digest, Hasher};

/// Bytes of one buffer.
pub(crate) const BUFFER: usize = 256 << 10;
/// Buffers between the threads.
const IN_FLIGHT: usize = 4;

/// Makes a pipe whose reading end hashes what comes, for comparison with `expected`.
pub(crate) fn pipe(expected: &Digest) -> (SyncSender<Vec<u8>>, PipeReader) {
    let (sender, receiver) = sync_channel(IN_FLIGHT);
    let hasher = Hasher::new(expected.algorithm());
    (sender, PipeReader { receiver, buffer: Vec::new(), position: 0, hasher })
}

/// The reading end. The end of the stream is that the writing end is gone.
pub(crate) struct PipeReader {
    receiver: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
    position: usize,
    hasher: Hasher,
}

impl PipeReader {
    /// Reads on to the end, and tells the digest of all that came.
    pub(crate) fn finish(mut self) -> Digest {
        while self.refill() {}
        self.hasher.finish()
    }

    fn refill(&mut self) -> bool {
        self.buffer = self.receiver.recv().unwrap_or_default();
        self.position = 0;
        self.hasher.update(&self.buffer);
        !self.buffer.is_empty()
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.buffer.len() {
            self.refill();
        }
        Ok(&self.buffer[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Read for PipeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(out.len());
        out[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}
