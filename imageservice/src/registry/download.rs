//! A large blob on its way: by one connection, and by several if one is slower than who waits.
//!
//! The first part of a large blob shows whether the host knows ranges, and whether the network or
//! the unpacker is the slower one. A fast registry costs one request more; one that limits each
//! connection is asked for several pieces at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Registry;
use super::blob::{Blob, Reader};
use super::ring::{self, PIECE};
use crate::error::Result;

/// Blobs from this size on may come by several connections.
pub(super) const LARGE: u64 = 4 * PIECE;
/// Bytes that show what a connection is like.
pub(super) const FIRST_PART: u64 = PIECE;

/// A blob that is to be delivered.
#[derive(Debug)]
pub(crate) struct Download {
    registry: Arc<Registry>,
    blob: Arc<Blob>,
    /// The first request is made before somebody waits for the bytes.
    reader: Option<Reader>,
}

/// Who is waiting for whom.
#[derive(Debug, Default)]
struct Balance {
    for_network: Duration,
    for_unpacker: Duration,
}

impl Balance {
    fn is_network_slower(&self) -> bool {
        self.for_network > self.for_unpacker
    }
}

impl Download {
    pub(super) fn new(registry: Arc<Registry>, blob: Arc<Blob>) -> Self {
        Self { registry, blob, reader: None }
    }

    /// What is downloaded, and where it came from so far.
    pub(crate) fn blob(&self) -> &Arc<Blob> {
        &self.blob
    }

    /// Makes the first request.
    ///
    /// # Errors
    /// What the last endpoint answers when all have been asked.
    pub(crate) async fn open(&mut self) -> Result<()> {
        let from = self.blob.kept();
        let first_part = self.crossing();
        let mut reader = Reader::rest(&self.registry, &self.blob, from, first_part)?;
        reader.open().await?;
        self.reader = Some(reader);
        Ok(())
    }

    /// Where to think about more connections: after the first part of what is large.
    fn crossing(&self) -> Option<u64> {
        let from = self.blob.kept();
        (self.blob.size - from >= LARGE).then_some(from + FIRST_PART)
    }

    /// Delivers bytes until the end, an error, which is delivered too, or until nobody takes them.
    pub(crate) async fn run(mut self, out: &mpsc::Sender<Result<Bytes>>) {
        let delivered = self.deliver(out).await;
        if let Err(error) = delivered {
            // Who does not listen any more has an error already.
            drop(out.send(Err(error)).await);
        }
    }

    async fn deliver(&mut self, out: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::rest(&self.registry, &self.blob, self.blob.kept(), None)?,
        };
        let mut balance = Balance::default();
        // Where to think again.
        let mut crossing = self.crossing().unwrap_or(u64::MAX);
        loop {
            let start = Instant::now();
            let Some(chunk) = reader.chunk().await? else { return Ok(()) };
            let came = Instant::now();
            if out.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
            balance.for_network += came - start;
            balance.for_unpacker += came.elapsed();
            if reader.offset() < crossing {
                continue;
            }
            crossing = u64::MAX;
            let endpoint = reader.ranging_endpoint().filter(|_| balance.is_network_slower());
            let Some(endpoint) = endpoint else { continue };
            let from = (reader.offset(), endpoint);
            let (offset, part) = match ring::run(&self.registry, &self.blob, from, out).await {
                ring::End::Full(offset) => (offset, Some(offset + LARGE)),
                ring::End::Broken(offset) => (offset, None),
                ring::End::Abandoned => return Ok(()),
            };
            reader = Reader::rest(&self.registry, &self.blob, offset, part)?;
            crossing = part.unwrap_or(crossing);
        }
    }
}
