//! Where the bytes of an image come from: a registry, or an archive on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::import::Archive;
use crate::layer::Chunks;
use crate::manifest::Descriptor;
use crate::registry::{Blob, Download, Registry};

/// Chunks between the network and the unpacker, whose pipe holds more; a chunk is what one read gave,
/// up to 400 KiB.
const CHUNKS_IN_FLIGHT: usize = 4;
/// How often a layer is begun, at the most: mirrors that lie are found out one by one.
const ATTEMPTS: u32 = 8;

/// The registry or the archive.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Registry(Arc<Registry>),
    Archive(Arc<Archive>),
}

/// A blob that comes over the network.
pub(crate) struct Delivery {
    download: Download,
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
                let mut download = registry.blob(layer, what);
                download.open().await?;
                let (sender, mut receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
                let mut receive = move || receiver.blocking_recv().transpose();
                let chunks: Chunks = match download.blob().claim() {
                    None => Box::new(receive),
                    Some(claim) => {
                        let mut keeper = claim.keeper()?;
                        Box::new(move || keeper.next(&mut receive))
                    }
                };
                Ok((chunks, Some(Delivery { download, sender })))
            }
        }
    }

    /// Whether to begin a layer again after attempt number `attempt` failed. Connections that break
    /// are no reason: all that can be done about them was done.
    pub(crate) fn may_retry(&self, blob: Option<&Blob>, attempt: u32, error: &Error) -> bool {
        let (Self::Registry(registry), Some(blob)) = (self, blob) else { return false };
        // A mirror that lies is not asked again.
        error.blames_content() && attempt < ATTEMPTS && registry.distrust(blob)
    }
}

impl Delivery {
    /// What comes.
    pub(crate) fn blob(&self) -> &Arc<Blob> {
        self.download.blob()
    }

    /// Passes bytes on until the end, an error, or until nobody takes them. Counts them.
    pub(crate) async fn run(self, fetched: &AtomicU64) {
        let blob = Arc::clone(self.blob());
        self.download.run(&self.sender).await;
        fetched.fetch_add(blob.came(), Ordering::Relaxed);
    }
}
