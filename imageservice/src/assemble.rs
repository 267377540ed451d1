//! From a manifest to an image: gets the layers that are missing, and publishes.
//!
//! The same for pulls and imports. Layers are independent of each other until all are there; only
//! those with debts then wait for the ones below them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::accounts::Accounts;
use crate::artifact::Form;
use crate::blocking::blocking;
use crate::config::Config;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::flights::{Boarding, Flights};
use crate::image::Image;
use crate::layer::{self, Chunks, Debts, Expected};
use crate::manifest::{Configuration, Manifest};
use crate::operation::Operation;
use crate::progress::{LayerMeter, LayerPhase, Phase};
use crate::registry::Blob;
use crate::source::Source;
use crate::stack::Stack;
use crate::store::{Disk, Ingest, Label, LayerKey, LayerLease, NewImage, Store};
use crate::trust::Trust;

/// Layers that all pulls together unpack at a time. Each takes two threads and a few megabytes, and
/// one from the pool of blocking threads, of which there must be some left for starting containers.
pub(crate) const MAX_UNPACKERS: usize = 64;

/// What it takes to assemble images.
#[derive(Debug, Clone)]
pub(crate) struct Assembler {
    pub(crate) store: Arc<Store>,
    pub(crate) tasks: TaskTracker,
    pub(crate) flights: Flights,
    /// Layers that are unpacked at a time on this node.
    pub(crate) unpackers: Arc<Semaphore>,
    pub(crate) config: Arc<Config>,
    /// Who decides what may be assembled.
    pub(crate) trust: Arc<Trust>,
}

/// An image to assemble.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// How messages call it: its reference, or where it was imported from.
    pub(crate) title: String,
    pub(crate) label: Label,
    pub(crate) manifest: Manifest,
    pub(crate) configuration: Configuration,
}

/// An assembled image, and what it took.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) image: Arc<Image>,
    pub(crate) bytes_fetched: u64,
    pub(crate) layers_fetched: usize,
    pub(crate) fetching: Duration,
    pub(crate) publishing: Duration,
}

/// A layer of which all bytes are here.
enum Obtained {
    /// Ready to be stacked.
    Ready(Arc<LayerLease>),
    /// Waiting for the layers below it.
    Owing { ingest: Arc<Ingest>, debts: Debts },
}

/// One assembly under way.
struct Job<'a> {
    assembler: &'a Assembler,
    source: &'a Source,
    recipe: &'a Recipe,
    /// Stops alone when one of its layers fails.
    operation: Operation,
    /// What each layer is known by, and each with those below it.
    identities: Vec<Digest>,
    chain_ids: Vec<Digest>,
    slots: Semaphore,
    bytes_fetched: AtomicU64,
    layers_fetched: AtomicUsize,
    disk: Arc<Disk>,
}

impl Assembler {
    /// Assembles and publishes an image.
    pub(crate) async fn assemble(
        &self,
        source: &Source,
        recipe: Recipe,
        operation: &Operation,
    ) -> Result<Assembled> {
        let start = Instant::now();
        let layers = recipe.manifest.layers.iter().map(|layer| (layer.digest.clone(), layer.size));
        operation.progress.begin_layers(layers);
        operation.progress.enter(Phase::Fetching);
        let (store, tasks) = (Arc::clone(&self.store), self.tasks.clone());
        let disk = blocking(&self.tasks, move || store.disk(&tasks)).await?;
        let identities = identities(&recipe);
        let job = Job {
            assembler: self,
            source,
            recipe: &recipe,
            operation: operation.part(),
            chain_ids: chain_ids(&identities),
            identities,
            slots: Semaphore::new(self.config.parallel_layers.max(1)),
            bytes_fetched: AtomicU64::new(0),
            layers_fetched: AtomicUsize::new(0),
            disk: Arc::clone(&disk),
        };
        let layers = job.settle(job.layers().await?).await?;
        let (bytes_fetched, layers_fetched) = (job.bytes_fetched, job.layers_fetched);
        let fetching = start.elapsed();
        operation.progress.enter(Phase::Publishing);
        let image = self.publish(recipe, layers, disk).await?;
        Ok(Assembled {
            image,
            bytes_fetched: bytes_fetched.into_inner(),
            layers_fetched: layers_fetched.into_inner(),
            fetching,
            publishing: start.elapsed() - fetching,
        })
    }

    async fn publish(
        &self,
        recipe: Recipe,
        layers: Vec<Arc<LayerLease>>,
        disk: Arc<Disk>,
    ) -> Result<Arc<Image>> {
        let (store, limit) = (Arc::clone(&self.store), self.config.limits.accounts);
        blocking(&self.tasks, move || {
            let stack = Stack::new(store.open_trees(layers.iter().rev())?);
            let accounts = Accounts::load(&stack, limit)
                .map_err(|e| Error::storage("read users of", &recipe.title, e))?;
            let Recipe { label, configuration, manifest, .. } = recipe;
            let is_artifact = manifest.artifact.is_some();
            let raw_config = configuration.raw;
            store.publish(NewImage { label, raw_config, is_artifact, layers, accounts, disk })
        })
        .await
    }
}

impl Job<'_> {
    /// Gets all layers. If one fails, the others are stopped, and the first failure is told when
    /// all have ended.
    async fn layers(&self) -> Result<Vec<Obtained>> {
        let failure = OnceLock::new();
        let obtained = join_all((0..self.chain_ids.len()).map(async |index| {
            let layer = self.layer(index).await;
            layer.map_err(|error| {
                drop(failure.set(error));
                self.operation.stop.cancel();
            })
        }))
        .await;
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(obtained.into_iter().flatten().collect()),
        }
    }

    /// Finds a layer, or fetches it, or waits for the pull that does.
    async fn layer(&self, index: usize) -> Result<Obtained> {
        let Assembler { store, tasks, flights, unpackers, .. } = self.assembler;
        let meter = self.operation.progress.meter(index);
        loop {
            let boarding = flights.board(&self.identities[index]);
            let keys = [self.portable(index), self.chained(index)];
            let store = Arc::clone(store);
            let lease = blocking(tasks, move || store.lease_whole(&keys)).await?;
            if let Some(lease) = lease {
                meter.enter(LayerPhase::Reused);
                return Ok(Obtained::Ready(Arc::new(lease)));
            }
            match boarding {
                Boarding::Lead(_lead) => {
                    let slots =
                        async { Ok((self.slots.acquire().await, unpackers.acquire().await)) };
                    let _slots = self.operation.unless_stopped(slots).await?;
                    let obtained = self.fetch(index).await?;
                    meter.enter(LayerPhase::Fetched);
                    self.layers_fetched.fetch_add(1, Ordering::Relaxed);
                    return Ok(obtained);
                }
                Boarding::Follow(mut flight) => {
                    // Ends with an error, which is how the end of a flight looks.
                    let end = async { Ok(flight.changed().await.is_ok()) };
                    self.operation.unless_stopped(end).await?;
                }
            }
        }
    }

    async fn fetch(&self, index: usize) -> Result<Obtained> {
        let mut attempt = 1;
        loop {
            match self.fetch_once(index).await {
                Ok(obtained) => return Ok(obtained),
                Err((error, blob)) => {
                    if !self.source.may_retry(blob.as_deref(), attempt, &error) {
                        return Err(error);
                    }
                    tracing::debug!(%error, attempt, "layer failed, beginning it again");
                }
            }
            attempt += 1;
        }
    }

    /// An error comes with what was downloaded, which knows who is behind it.
    async fn fetch_once(&self, index: usize) -> Result<Obtained, (Error, Option<Arc<Blob>>)> {
        let descriptor = &self.recipe.manifest.layers[index];
        let form = self.form(index).map_err(|error| (error, None))?;
        let expected = Expected {
            what: self.name(index),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            diff_id: match &form {
                Form::Layer(diff_id) => Some(diff_id.clone()),
                Form::Archive | Form::File(_) => None,
            },
        };
        let meter = self.operation.progress.meter(index);
        meter.enter(LayerPhase::Fetching);
        let begun = self.source.begin(descriptor, &expected.what);
        let begun = self.operation.unless_stopped(begun).await;
        let (mut chunks, delivery) = begun.map_err(|error| (error, None))?;
        let operation = self.operation.clone();
        // When the delivery is stopped, the chunks end, and that is not the end of the layer.
        let disk = Arc::clone(&self.disk);
        let chunks: Chunks = Box::new(move || match chunks() {
            _ if operation.stop.is_cancelled() => Err(operation.cancelled()),
            chunk => {
                let bytes = chunk.iter().flatten().map(|bytes| bytes.len() as u64);
                disk.expect(bytes.sum());
                chunk
            }
        });
        let blob = delivery.as_ref().map(|delivery| Arc::clone(delivery.blob()));
        let unpacking = async {
            let (ingest, debts) = self.unpack(expected, form, chunks, meter).await?;
            if !debts.is_empty() {
                return Ok(Obtained::Owing { ingest, debts });
            }
            self.finish(index, ingest, self.portable(index)).await.map(Obtained::Ready)
        };
        let delivering = async {
            if let Some(delivery) = delivery {
                let running = delivery.run(&self.bytes_fetched);
                self.operation.stop.run_until_cancelled(running).await;
            }
        };
        let (unpacked, ()) = tokio::join!(unpacking, delivering);
        if let Some(claim) = blob.as_ref().and_then(|blob| blob.claim()) {
            let (claim, error) = (Arc::clone(claim), unpacked.as_ref().err().cloned());
            let settled = blocking(&self.assembler.tasks, move || {
                claim.settle(error.as_ref());
                Ok(())
            });
            settled.await.map_err(|error| (error, None))?;
        }
        unpacked.map_err(|error| (error, blob))
    }

    /// Unpacks a layer into a place of its own, which lives as long as a thread writes to it.
    async fn unpack(
        &self,
        expected: Expected,
        form: Form,
        chunks: Chunks,
        meter: LayerMeter,
    ) -> Result<(Arc<Ingest>, Debts)> {
        let Assembler { store, tasks, config, .. } = self.assembler;
        let (store, config) = (Arc::clone(store), Arc::clone(config));
        let operation = self.operation.clone();
        blocking(tasks, move || {
            let ingest = store.begin_layer()?;
            ingest.create_spine()?;
            let place = ingest.path();
            let debts = match form {
                Form::Layer(_) | Form::Archive => {
                    layer::unpack(&expected, chunks, meter, &place, &config, &operation)?
                }
                Form::File(path) => {
                    let root = ingest.open_tree()?;
                    layer::write_file(&expected, &path, chunks, meter, root, &config.limits)?;
                    Debts::default()
                }
            };
            fail::fail_point!("image.pull.unpacked");
            Ok((Arc::new(ingest), debts))
        })
        .await
    }

    /// Pays the debts of all layers, from the bottom up.
    async fn settle(&self, obtained: Vec<Obtained>) -> Result<Vec<Arc<LayerLease>>> {
        let mut leases = Vec::with_capacity(obtained.len());
        for (index, layer) in obtained.into_iter().enumerate() {
            leases.push(match layer {
                Obtained::Ready(lease) => lease,
                Obtained::Owing { ingest, debts } => {
                    self.adopt(index, Arc::clone(&ingest), debts, &leases).await?;
                    self.finish(index, ingest, self.chained(index)).await?
                }
            });
        }
        Ok(leases)
    }

    async fn adopt(
        &self,
        index: usize,
        ingest: Arc<Ingest>,
        debts: Debts,
        below: &[Arc<LayerLease>],
    ) -> Result<()> {
        let store = Arc::clone(&self.assembler.store);
        let (what, below) = (self.name(index), below.to_vec());
        blocking(&self.assembler.tasks, move || {
            let lowers = store.open_trees(below.iter().rev())?;
            layer::adopt(ingest.open_tree()?, lowers, &debts, &what)
        })
        .await
    }

    async fn finish(
        &self,
        index: usize,
        ingest: Arc<Ingest>,
        key: LayerKey,
    ) -> Result<Arc<LayerLease>> {
        let diff_id = self.recipe.configuration.diff_ids[index].clone();
        blocking(&self.assembler.tasks, move || Ok(Arc::new(ingest.finish(key, diff_id)?))).await
    }

    fn form(&self, index: usize) -> Result<Form> {
        let diff_id = &self.recipe.configuration.diff_ids[index];
        self.recipe.manifest.form(index, diff_id).map_err(|reason| Error::InvalidManifest {
            what: self.name(index),
            reason: reason.to_owned(),
        })
    }

    /// How messages call a layer.
    fn name(&self, index: usize) -> String {
        format!("layer {} of {}", self.recipe.manifest.layers[index].digest, self.recipe.title)
    }

    fn portable(&self, index: usize) -> LayerKey {
        LayerKey::Portable(self.identities[index].clone())
    }

    fn chained(&self, index: usize) -> LayerKey {
        LayerKey::Chained(self.chain_ids[index].clone())
    }
}

/// What each layer is known by: the digest of its blob, which is counted in this process, and the
/// diff id, of which a confined one tells. Were it by the diff id alone, an unpacker that a hostile
/// layer has taken over could pass it off as one of another image.
fn identities(recipe: &Recipe) -> Vec<Digest> {
    let blobs = recipe.manifest.layers.iter().map(|layer| &layer.digest);
    let both = recipe.configuration.diff_ids.iter().zip(blobs);
    both.map(|(diff_id, blob)| match diff_id == blob {
        true => diff_id.clone(),
        false => Digest::sha256(format!("{diff_id} of {blob}").as_bytes()),
    })
    .collect()
}

/// What each layer is known by together with those below it, as the "Layer ChainID" of the OCI
/// image specification is made.
fn chain_ids(layers: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(layers.len());
    for layer in layers {
        chain.push(match chain.last() {
            None => layer.clone(),
            Some(below) => Digest::sha256(format!("{below} {layer}").as_bytes()),
        });
    }
    chain
}
