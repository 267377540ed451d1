//! Getting an image to the disk: while it is unpacked, and for certain before it is published.
//!
//! The kernel would begin to write after half a minute, or when a tenth of the memory is dirty. A
//! pull would then wait at its end for the whole image to be written. So the disk is set to work
//! from the beginning, while the processors inflate.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio_util::task::TaskTracker;

use super::Store;
use crate::error::{Error, Result};

/// Compressed bytes that come before what was made of them is worth a trip to the disk.
const BATCH: u64 = 4 << 20;

/// The file system of the images, as one pull sees it: a failure to write what this pull wrote is
/// told to this pull, however often the file system is synced meanwhile.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    /// Opened before anything is written, so that syncfs(2) tells all errors since.
    directory: File,
    unsynced: AtomicU64,
    is_busy: AtomicBool,
    failure: OnceLock<Error>,
    tasks: TaskTracker,
}

impl Store {
    /// The file system, before a pull begins to write. Blocks.
    pub(crate) fn disk(&self, tasks: &TaskTracker) -> Result<Arc<Disk>> {
        let path = self.layout.layers();
        let directory =
            File::open(&path).map_err(|e| Error::storage("open file system of", &path, e))?;
        Ok(Arc::new(Disk {
            path,
            directory,
            unsynced: AtomicU64::new(0),
            is_busy: AtomicBool::new(false),
            failure: OnceLock::new(),
            tasks: tasks.clone(),
        }))
    }
}

impl Disk {
    /// So many compressed bytes of a layer are about to be unpacked: now and then, has the kernel
    /// write what was unpacked before. Does not wait for it.
    pub(crate) fn expect(self: &Arc<Self>, bytes: u64) {
        let unsynced = self.unsynced.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unsynced < BATCH || self.is_busy.swap(true, Ordering::AcqRel) {
            return;
        }
        self.unsynced.store(0, Ordering::Relaxed);
        let disk = Arc::clone(self);
        self.tasks.spawn_blocking(move || {
            if let Err(error) = disk.sync() {
                // Told by the sync at the end.
                let _ = disk.failure.set(error);
            }
            disk.is_busy.store(false, Ordering::Release);
        });
    }

    /// Waits until all is on the disk that was written so far. Blocks.
    pub(crate) fn settle(&self) -> Result<()> {
        self.sync()?;
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.directory)
            .map_err(|e| Error::storage("sync file system of", &self.path, e.into()))
    }
}
