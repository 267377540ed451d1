//! The bounded pipe between the inflating and the applying thread.
//!
//! A few buffers go round by ownership, so that nothing is copied, and nothing allocated.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::digest::{Algorithm, Digest, Hasher};

/// Bytes of one buffer.
const BUFFER: usize = 256 << 10;
/// Buffers that there are.
const BUFFERS: usize = 4;

/// Makes a pipe whose reading end hashes what comes.
pub(crate) fn pipe(algorithm: Algorithm) -> (PipeWriter, PipeReader) {
    let (to_reader, full) = sync_channel(BUFFERS);
    let (to_writer, empty) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // There is room for all of them.
        let _ = to_writer.try_send(vec![0; BUFFER]);
    }
    let reader = PipeReader {
        full,
        empty: to_writer,
        buffer: Vec::new(),
        filled: 0,
        position: 0,
        hasher: Hasher::new(algorithm),
    };
    (PipeWriter { full: to_reader, empty }, reader)
}

/// The writing end.
pub(crate) struct PipeWriter {
    full: SyncSender<(Vec<u8>, usize)>,
    empty: Receiver<Vec<u8>>,
}

impl PipeWriter {
    /// A buffer to fill; `None` if nobody reads any more.
    pub(crate) fn buffer(&self) -> Option<Vec<u8>> {
        self.empty.recv().ok()
    }

    /// Sends the first `filled` bytes of a buffer; `false` if nobody reads any more.
    pub(crate) fn send(&self, buffer: Vec<u8>, filled: usize) -> bool {
        self.full.send((buffer, filled)).is_ok()
    }
}

/// The reading end. The end of the stream is that the writing end is gone.
pub(crate) struct PipeReader {
    full: Receiver<(Vec<u8>, usize)>,
    empty: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
    filled: usize,
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
        let used = std::mem::take(&mut self.buffer);
        if !used.is_empty() {
            // A writer that is done needs no buffer.
            let _ = self.empty.try_send(used);
        }
        (self.buffer, self.filled) = self.full.recv().unwrap_or_default();
        self.position = 0;
        self.hasher.update(&self.buffer[..self.filled]);
        self.filled > 0
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.filled {
            self.refill();
        }
        Ok(&self.buffer[self.position..self.filled])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_round_and_bytes_stay_in_order() {
        let (writer, mut reader) = pipe(Algorithm::Sha256);
        let sent: Vec<u8> = (0..=255).cycle().take(3 * BUFFER + 17).collect();
        let sending = sent.clone();
        let thread = std::thread::spawn(move || {
            for piece in sending.chunks(BUFFER) {
                let mut buffer = writer.buffer().unwrap();
                buffer[..piece.len()].copy_from_slice(piece);
                assert!(writer.send(buffer, piece.len()));
            }
        });
        let mut came = vec![0; 1000];
        reader.read_exact(&mut came).unwrap();
        assert_eq!(came, sent[..1000]);
        assert_eq!(reader.finish(), Digest::sha256(&sent));
        thread.join().unwrap();
    }

    #[test]
    fn a_writer_learns_that_nobody_reads() {
        let (writer, reader) = pipe(Algorithm::Sha256);
        let buffer = writer.buffer().unwrap();
        drop(reader);
        assert!(!writer.send(buffer, 1));
        while writer.buffer().is_some() {}
    }
}
