//! The public face: a handle on all images of a node.

mod details;

mod admit;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::AsyncRead;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assemble::{Assembler, MAX_UNPACKERS};
use crate::blocking::blocking;
use crate::config::Config;
use crate::credentials::{Credentials, Fingerprint};
use crate::error::Result;
use crate::flights::Flights;
use crate::image::{Image, ImageId};
use crate::import::{self, ImportRequest};
use crate::operation::Operation;
use crate::progress::{Phase, Progress};
use crate::pull::{self, PullOutcome, PullRequest};
use crate::reference::Reference;
use crate::registries_conf;
use crate::registry::{Memory, Partials};
use crate::scan::Space;
use crate::store::{
    Finding, Measurement, Prepared, Removal, Rootfs, Snapshot, SnapshotKey, Store, Stray,
    VolumeRequest,
};
use crate::trust::Trust;

pub use self::details::{ImageLayer, PullInFlight};

/// All images, layers and snapshots below one root directory. Clones are the same handle.
///
/// Pulls and imports are owned by the handle and not by their callers: a caller that goes away
/// cancels nothing. Reads are answered from memory and never wait for a disk or a pull.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    assembler: Assembler,
    registries: Arc<Memory>,
    pulls: Mutex<HashMap<PullKey, Pull>>,
    cancel: CancellationToken,
}

/// Who asks for the same, gets the same: one pull for one reference and one set of credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PullKey {
    reference: Reference,
    credentials: Option<Fingerprint>,
    pinned: bool,
}

/// A pull under way. Clones are the same pull.
#[derive(Debug, Clone)]
pub struct Pull {
    since: Instant,
    operation: Operation,
    outcome: watch::Receiver<Option<Result<PullOutcome>>>,
}

impl Pull {
    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.operation.progress
    }

    /// Waits for its end. Dropping this future stops the waiting and not the pull.
    ///
    /// # Errors
    /// Whatever made the pull fail, for all who wait for it.
    pub async fn outcome(mut self) -> Result<PullOutcome> {
        let outcome = self.outcome.wait_for(Option::is_some).await.ok();
        let outcome = outcome.and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(self.operation.cancelled()))
    }
}

impl Images {
    /// Opens the root directory, and recovers what a crash has left there: what was half made is
    /// removed, what cannot be understood is set aside.
    ///
    /// # Errors
    /// [`RootBusy`](crate::Error::RootBusy) if another process has it open,
    /// [`Storage`](crate::Error::Storage) if it cannot be made or read. One broken object is no
    /// error.
    pub async fn open(config: Config) -> Result<Self> {
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (root, their_tasks, their_cancel) =
            (config.root.clone(), tasks.clone(), cancel.clone());
        let keep_partial = config.keep_partial;
        let (store, partials) = blocking(&tasks, move || {
            let store = Store::open(&root, &their_tasks, their_cancel)?;
            let partials = Partials::open(store.partials(), keep_partial);
            Ok((store, partials))
        })
        .await?;
        let (flights, config) = (Flights::default(), Arc::new(config));
        let unpackers = Arc::new(Semaphore::new(MAX_UNPACKERS));
        let trust = Trust::new(config.trust.clone(), store.signatures(), tasks.clone());
        let trust = Arc::new(trust);
        let images = Self(Arc::new(Inner {
            assembler: Assembler { store, tasks, flights, unpackers, config, trust },
            registries: Arc::new(Memory::new(partials)),
            pulls: Mutex::default(),
            cancel,
        }));
        images.prune_evidence().await?;
        Ok(images)
    }

    /// Pulls an image, or joins the pull of the same reference with the same credentials.
    ///
    /// # Errors
    /// Whatever makes the pull fail.
    pub async fn pull(&self, request: PullRequest) -> Result<PullOutcome> {
        self.start_pull(request).outcome().await
    }

    /// The references that a name means, the one to try first, first; at least one. Only a short
    /// name, one without a registry, can mean several: `registries.conf` says which, and is read.
    ///
    /// # Errors
    /// [`InvalidReference`](crate::Error::InvalidReference), and
    /// [`InvalidHosts`](crate::Error::InvalidHosts) for a short name that `registries.conf` makes
    /// ambiguous or about which it is wrong.
    pub fn meanings(&self, name: &str) -> Result<Vec<Reference>> {
        registries_conf::expand(self.0.assembler.config.registries_conf.as_deref(), name)
    }

    /// Starts a pull, or joins the one that is under way, and returns at once.
    pub fn start_pull(&self, request: PullRequest) -> Pull {
        let key = PullKey {
            reference: request.reference.clone(),
            credentials: request.credentials.as_ref().map(Credentials::fingerprint),
            pinned: request.pinned,
        };
        let mut pulls = self.0.pulls();
        if let Some(pull) = pulls.get(&key) {
            return pull.clone();
        }
        let (sender, outcome) = watch::channel(None);
        let operation = self.0.operation(format!("pull {}", request.reference));
        let pull = Pull { since: Instant::now(), operation: operation.clone(), outcome };
        pulls.insert(key.clone(), pull.clone());
        let entry = PullEntry { images: self.clone(), key };
        self.0.assembler.tasks.spawn(async move {
            let Inner { assembler, registries, .. } = &*entry.images.0;
            let work = pull::pull(assembler, registries, request, &operation);
            let outcome = operation.within(assembler.config.deadline, work).await;
            operation.progress.enter(Phase::Done);
            // Who asks from now on starts anew; who has joined gets this outcome.
            drop(entry);
            sender.send_replace(Some(outcome));
        });
        pull
    }

    /// Imports the images of an OCI layout or docker archive, compressed or not, from a stream.
    ///
    /// # Errors
    /// [`InvalidArchive`](crate::Error::InvalidArchive) if it is neither, and all that can happen
    /// to a pulled image.
    pub async fn import(
        &self,
        reader: impl AsyncRead + Send + Unpin + 'static,
        request: ImportRequest,
    ) -> Result<Vec<ImageId>> {
        let (images, operation) = (self.clone(), self.0.operation("import archive".to_owned()));
        let cancelled = operation.cancelled();
        let import = self.0.assembler.tasks.spawn(async move {
            let assembler = &images.0.assembler;
            let work = import::import(assembler, reader, request, &operation);
            operation.within(assembler.config.deadline, work).await
        });
        import.await.unwrap_or(Err(cancelled))
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.store().list()
    }

    /// The image that a text means: a name by tag or digest, an id, or the beginning of exactly one
    /// id, of 4 digits or more. A short name is what [`Images::meanings`] says.
    ///
    /// # Errors
    /// [`InvalidReference`](crate::Error::InvalidReference) if it can be none of these,
    /// [`AmbiguousId`](crate::Error::AmbiguousId).
    pub fn find(&self, query: &str) -> Result<Option<Arc<Image>>> {
        for name in self.spelt_out(query) {
            if let Some(image) = self.store().find(&name)? {
                return Ok(Some(image));
            }
        }
        self.store().find(query)
    }

    /// Removes an image with all its names, when given an id; a name, and the image if it has no
    /// other, when given a name. What is not here is removed already. Layers that snapshots use
    /// stay until the last of these is released. The space of the others is free when this returns.
    ///
    /// # Errors
    /// As [`Images::find`], and [`Storage`](crate::Error::Storage).
    pub async fn remove(&self, query: &str) -> Result<Removal> {
        let is_here = |name: &String| matches!(self.store().find(name), Ok(Some(_)));
        let name = self.spelt_out(query).into_iter().find(is_here);
        let query = name.unwrap_or_else(|| query.to_owned());
        let evidence = self.evidence_of(&query);
        let removal = self.blocking(move |store| store.remove(&query)).await?;
        self.forget_evidence(evidence).await?;
        self.settled().await;
        Ok(removal)
    }

    /// What the layers of all images take on disk, by accounting.
    pub fn usage(&self) -> Space {
        self.store().usage()
    }

    /// Makes the writable layer of a container of this image, or finds the one made before. Nothing
    /// is mounted, and nothing is synced.
    ///
    /// # Errors
    /// [`ImageNotFound`](crate::Error::ImageNotFound); [`InUse`](crate::Error::InUse) if the key is
    /// that of a snapshot of another image.
    pub async fn prepare(&self, image: &ImageId, key: &SnapshotKey) -> Result<Rootfs> {
        Ok(self.prepare_with(image, key, &[]).await?.rootfs)
    }

    /// As [`Images::prepare`], and finds the volumes that are mounted into the container: their
    /// layers stay as long as the container's.
    ///
    /// # Errors
    /// As [`Images::prepare`], also of the images of volumes;
    /// [`BadSubPath`](crate::Error::BadSubPath).
    pub async fn prepare_with(
        &self,
        image: &ImageId,
        key: &SnapshotKey,
        volumes: &[VolumeRequest],
    ) -> Result<Prepared> {
        let (image, key, volumes) = (image.clone(), key.clone(), volumes.to_vec());
        self.blocking(move |store| store.prepare(&image, &key, &volumes)).await
    }

    /// Throws the writable layer of a container away. What is not there is gone already. Nothing
    /// may be mounted on it any more.
    ///
    /// # Errors
    /// [`Storage`](crate::Error::Storage).
    pub async fn release(&self, key: &SnapshotKey) -> Result<()> {
        let key = key.clone();
        self.blocking(move |store| store.release(&key)).await
    }

    /// All snapshots, by key.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.store().snapshots()
    }

    /// What a container has written to its layer, by walking it; `None` if there is no such
    /// snapshot.
    ///
    /// # Errors
    /// [`Storage`](crate::Error::Storage).
    pub async fn snapshot_usage(&self, key: &SnapshotKey) -> Result<Option<Space>> {
        let key = key.clone();
        self.blocking(move |store| store.snapshot_usage(&key)).await
    }

    /// What a container has written to its layer, as it was measured last; `None` if it was not yet.
    /// Answers at once, and has it measured anew if that was a while ago.
    pub fn last_usage(&self, key: &SnapshotKey) -> Option<Measurement> {
        self.measure_if_needed();
        self.store().last_usage(key)
    }

    /// What all containers have written to their layers, as it was measured last.
    pub fn last_usage_of_all(&self) -> Space {
        self.measure_if_needed();
        self.store().last_usage_of_all()
    }

    fn measure_if_needed(&self) {
        if self.store().wants_measuring() {
            let store = Arc::clone(self.store());
            self.0.assembler.tasks.spawn_blocking(move || {
                if let Err(error) = store.measure() {
                    tracing::warn!(%error, "cannot measure what containers have written, ignoring");
                }
            });
        }
    }

    /// Compares the disk with what is known, and snapshots with the containers that exist. Waits
    /// for background deletions first; run it when no pull is under way.
    ///
    /// # Errors
    /// [`Storage`](crate::Error::Storage) if a directory cannot be read.
    pub async fn audit(&self, live_snapshots: HashSet<SnapshotKey>) -> Result<Vec<Stray>> {
        self.settled().await;
        self.blocking(move |store| store.audit(&live_snapshots)).await
    }

    /// Reads every layer and every record and compares them with what they were. With `repair`,
    /// records are written anew, and damaged layers go with the images that need them: the next pull
    /// brings them again. What was set aside at a start goes, too.
    ///
    /// # Errors
    /// [`Storage`](crate::Error::Storage), [`Cancelled`](crate::Error::Cancelled). Damage is none.
    pub async fn scrub(&self, repair: bool) -> Result<Vec<Finding>> {
        let cancel = self.0.cancel.clone();
        self.blocking(move |store| store.scrub(repair, &cancel)).await
    }

    /// Waits until everything that was removed is gone from the disk.
    pub async fn settled(&self) {
        self.store().settled().await;
    }

    /// Cancels pulls, imports and background deletions, and waits until no task is left.
    pub async fn shutdown(&self) {
        self.0.cancel.cancel();
        self.0.assembler.tasks.close();
        self.0.assembler.tasks.wait().await;
    }

    /// What a short name may mean, if that is not what it always means.
    fn spelt_out(&self, query: &str) -> Vec<String> {
        let meanings = self.meanings(query).unwrap_or_default();
        let usual = query.parse().ok();
        if meanings.first() == usual.as_ref() && meanings.len() < 2 {
            return Vec::new();
        }
        meanings.iter().map(Reference::to_string).collect()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Store>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(self.store());
        blocking(&self.0.assembler.tasks, move || work(&store)).await
    }

    fn store(&self) -> &Arc<Store> {
        &self.0.assembler.store
    }
}

impl Inner {
    fn operation(&self, what: String) -> Operation {
        Operation { what, progress: Progress::default(), stop: self.cancel.child_token() }
    }

    fn pulls(&self) -> MutexGuard<'_, HashMap<PullKey, Pull>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Images").field(&self.0.assembler.config.root).finish()
    }
}

/// A pull's place among those under way. Goes with its task, even if that panics.
struct PullEntry {
    images: Images,
    key: PullKey,
}

impl Drop for PullEntry {
    fn drop(&mut self) {
        self.images.0.pulls().remove(&self.key);
    }
}
