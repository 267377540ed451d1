//! Where the bytes of an image come from: a registry, or an archive on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::import::Archive;
use crate::layer::Chunks;
use crate::manifest::Descriptor;
use crate::registry::{BlobStream, Registry};

/// Chunks between the network and the unpacker; a chunk is what one read gave.
const CHUNKS_IN_FLIGHT: usize = 16;
/// How often a layer is begun at an endpoint that has no replacement.
const ATTEMPTS: u32 = 3;

/// The registry or the archive.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Registry(Arc<Registry>),
    Archive(Arc<Archive>),
}

/// A blob that comes over the network.
pub(crate) struct Delivery {
    stream: BlobStream,
    sender: mpsc::Sender<Result<Bytes>>,
}

impl Source {
    /// Begins to get a layer. Its bytes come from the chunks, while the delivery runs if there is
    /// one.
    pub(crate) async fn begin(
        &self,
        layer: &Descriptor,
        what: &str,
    ) -> Result<(Chunks, Option<Delivery>)> {
        match self {
            Self::Archive(archive) => Ok((archive.chunks(&layer.digest)?, None)),
            Self::Registry(registry) => {
                let stream = registry.blob(&layer.digest, what).await?;
                let (sender, mut receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
                let chunks = Box::new(move || receiver.blocking_recv().transpose());
                Ok((chunks, Some(Delivery { stream, sender })))
            }
        }
    }

    /// Whether to begin a layer again after attempt number `attempt`, served by `endpoint`, failed.
    pub(crate) fn may_retry(&self, endpoint: Option<usize>, attempt: u32, error: &Error) -> bool {
        let (Self::Registry(registry), Some(endpoint)) = (self, endpoint) else { return false };
        let is_lie = matches!(error, Error::DigestMismatch { .. } | Error::SizeMismatch { .. });
        if !is_lie && !error.is_transient() {
            return false;
        }
        // A mirror that breaks off or lies is not asked again.
        registry.avoid(endpoint) || (!is_lie && attempt < ATTEMPTS)
    }
}

impl Delivery {
    /// Where it comes from.
    pub(crate) fn endpoint(&self) -> usize {
        self.stream.endpoint()
    }

    /// Passes bytes on until the end, an error, or until nobody takes them. Counts them.
    pub(crate) async fn run(mut self, fetched: &AtomicU64) {
        while let Some(chunk) = self.stream.chunk().await.transpose() {
            let is_last = chunk.is_err();
            let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            fetched.fetch_add(length, Ordering::Relaxed);
            if self.sender.send(chunk).await.is_err() || is_last {
                return;
            }
        }
    }
}
