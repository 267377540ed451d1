//! What is on disk: layers, images, names, snapshots, and the record of each.
//!
//! ```text
//! ROOT/lock                      fcntl(2) lock: one process at a time
//!      layers/N/{fs,layer.json,seal.json,spine}  an unpacked layer, and what of its archive is in
//!                                no file; N is short, as `fsconfig(2)` and the one page of mount
//!                                options that Linux 6.1 takes would have it
//!      ingest/N/                 one that is being unpacked, or an archive that is being imported
//!      partial/                  the beginnings of large layers that come slowly
//!      records/images/HEX.json   image by config digest, with its layers' numbers
//!      records/names/HASH.json   tag or digest name, pointing to an image
//!      records/snapshots/KEY.json  a container's writable layer
//!      records/signatures/HEX.json  what was good about an image at its pull
//!      snapshots/KEY/{upper,work}
//!      trash/                    renamed here, deleted in the background
//!      quarantine/               what could not be understood at the last start
//! ```
//!
//! A layer lives as long as it has users: images, snapshots, and leases of pulls under way; the
//! count is kept in memory and follows from the records. Everything is answered from memory; the
//! disk is touched by verbs only, in blocking threads, and order there is what makes a crash
//! harmless: data, `syncfs`, rename, directory sync, image record, names. Snapshots are as
//! short-lived as containers, so their records are atomic but not synced.

mod audit;
mod catalog;
mod disk;
mod image_removal;
mod janitor;
mod layers;
mod layout;
mod publish;
mod record;
mod recover;
mod repair;
mod scrub;
mod snapshots;
mod usage;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::{FlockOperation, Mode, OFlags};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::audit::{Stray, StrayKind};
use self::catalog::Catalog;
pub(crate) use self::catalog::LayerKey;
pub(crate) use self::disk::Disk;
pub use self::image_removal::Removal;
use self::janitor::Janitor;
pub(crate) use self::layers::{Ingest, LayerLease};
use self::layout::Layout;
pub(crate) use self::publish::{Label, NewImage};
pub use self::scrub::Finding;
pub use self::snapshots::{Prepared, Rootfs, Snapshot, SnapshotKey, Volume, VolumeRequest};
pub use self::usage::Measurement;
use self::usage::Measurements;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::scan::Space;

/// The root directory, opened.
#[derive(Debug)]
pub(crate) struct Store {
    layout: Layout,
    catalog: RwLock<Catalog>,
    /// Held by whoever changes images, names or layers on disk; never while waiting for a network.
    commit: Mutex<()>,
    /// The same for snapshots, so that a container start does not wait for an image to be synced.
    snapshot_commit: Mutex<()>,
    /// Held by whoever writes a seal.
    seal_commit: Mutex<()>,
    measurements: Measurements,
    janitor: Janitor,
    next_number: AtomicU64,
    _lock: OwnedFd,
}

impl Store {
    /// Opens the root, recovering what a crash has left. Blocks.
    pub(crate) fn open(
        root: &Path,
        tasks: &TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Arc<Self>> {
        let layout = Layout::create(root)?;
        let lock = lock(&layout)?;
        let recovered = recover::recover(&layout)?;
        let janitor = Janitor::start(layout.trash(), tasks, cancel);
        for path in recovered.rubbish {
            janitor.discard(path);
        }
        Ok(Arc::new(Self {
            layout,
            catalog: RwLock::new(recovered.catalog),
            commit: Mutex::new(()),
            snapshot_commit: Mutex::new(()),
            seal_commit: Mutex::new(()),
            measurements: Measurements::default(),
            janitor,
            next_number: AtomicU64::new(recovered.next_number),
            _lock: lock,
        }))
    }

    /// Where downloads are kept that are not whole.
    pub(crate) fn partials(&self) -> PathBuf {
        self.layout.partials()
    }

    /// All images, by id.
    pub(crate) fn list(&self) -> Vec<Arc<Image>> {
        self.read().images().cloned().collect()
    }

    /// The image that a name, id or unambiguous beginning of an id means.
    pub(crate) fn find(&self, query: &str) -> Result<Option<Arc<Image>>> {
        Ok(self.read().find(query)?.map(|found| found.image))
    }

    /// Where [`crate::trust`] keeps its records.
    pub(crate) fn signatures(&self) -> PathBuf {
        self.layout.signatures()
    }

    /// What all layers take; exact by accounting.
    pub(crate) fn usage(&self) -> Space {
        self.read().usage()
    }

    /// Waits until everything that was thrown away is gone.
    pub(crate) async fn settled(&self) {
        self.janitor.settled().await;
    }

    fn read(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locks a mutex; what it guards is on disk and is as good after a panic as after a crash.
fn locked(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock(layout: &Layout) -> Result<OwnedFd> {
    let path = layout.lock();
    let storage = |error: rustix::io::Errno| Error::storage("lock", &path, error.into());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(storage)?;
    // Of the kind that belongs to the process: a child between fork and exec does not hold it.
    match rustix::fs::fcntl_lock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            Err(Error::RootBusy { root: layout.root().to_owned() })
        }
        Err(error) => Err(storage(error)),
        Ok(()) => Ok(fd),
    }
}
