//! Pushing an image: its layers, its configuration, its manifest, in this order.
//!
//! ```text
//! each layer ─► there already? ─► in another repository of the registry? ─► written again, gzip
//! ```
//!
//! If the registry has or takes over all layers as they were pulled, the manifest is the very one
//! that was pulled. Layers that must be sent are compressed anew, and then the manifest is another
//! one; the image's id is the same in any case.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use crate::assemble::Assembler;
use crate::blocking::blocking;
use crate::credentials::Credentials;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::manifest::{DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST};
use crate::operation::Operation;
use crate::progress::{LayerMeter, LayerPhase, Phase};
use crate::reference::Reference;
use crate::registry::{CHUNK, Memory, Registry, Upload};
use crate::store::LayerLease;

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Chunks between the compressor and the network.
const CHUNKS_IN_FLIGHT: usize = 1;
/// Layers that are sent at a time.
const PARALLEL: usize = 3;

/// What to push, where to, as whom.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// The image: a name, an id, or the beginning of one.
    pub image: String,
    /// The name that it gets in its registry.
    pub target: Reference,
    /// For the registry; `None` for an anonymous push.
    pub credentials: Option<Credentials>,
}

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushOutcome {
    /// Digest of the manifest that the name means now.
    pub digest: Digest,
    /// Bytes of layers that were sent.
    pub bytes_sent: u64,
    /// Layers that the registry had, or took over from another repository.
    pub layers_reused: usize,
    /// Layers that were sent.
    pub layers_sent: usize,
    /// Time for all of it.
    pub elapsed: Duration,
}

/// One push under way.
struct Job<'a> {
    assembler: &'a Assembler,
    upload: Upload,
    /// Other repositories of the same registry that the image came from.
    origins: BTreeSet<String>,
    operation: &'a Operation,
    slots: Semaphore,
}

/// A layer as the manifest will name it.
struct Sent {
    descriptor: Value,
    is_original: bool,
}

/// Pushes an image.
pub(crate) async fn push(
    assembler: &Assembler,
    memory: &Arc<Memory>,
    request: PushRequest,
    operation: &Operation,
) -> Result<PushOutcome> {
    let start = Instant::now();
    let PushRequest { image: text, target, credentials } = request;
    let not_found = || Error::ImageNotFound { name: text.clone() };
    let image = assembler.store.find(&text)?.ok_or_else(not_found)?;
    let leases = assembler.store.lease_image(image.id()).ok_or_else(not_found)?;
    let (config, tasks) = (&assembler.config, &assembler.tasks);
    let opening = Registry::open(target.clone(), config, credentials, memory, tasks);
    let upload = Upload::of(operation.unless_stopped(opening).await?)?;
    let job = Job {
        assembler,
        upload,
        origins: origins(&image, &target),
        operation,
        slots: Semaphore::new(PARALLEL),
    };
    let known = known_layers(&image);
    let sizes = known.iter().map(|(diff_id, descriptor)| {
        let size = descriptor.as_ref().and_then(|known| known["size"].as_u64());
        (diff_id.clone(), size.unwrap_or(0))
    });
    operation.progress.begin_layers(sizes);
    operation.progress.enter(Phase::Fetching);
    let leases: Vec<_> =
        leases.into_iter().map(|(diff_id, lease)| (diff_id, Arc::new(lease))).collect();
    let layers = known.iter().enumerate().map(|(index, (diff_id, known))| {
        let lease = leases.iter().find(|(id, _)| id == diff_id).map(|(_, lease)| lease);
        job.layer(index, diff_id, known.as_ref(), lease)
    });
    let layers = operation.unless_stopped(try_join_all(layers)).await?;
    operation.progress.enter(Phase::Publishing);
    let publishing = job.publish(&image, &layers);
    let digest = operation.unless_stopped(publishing).await?;
    let report = operation.progress.report();
    let sent = report.layers.iter().filter(|layer| layer.phase == LayerPhase::Fetched);
    Ok(PushOutcome {
        digest,
        bytes_sent: sent.clone().map(|layer| layer.done).sum(),
        layers_sent: sent.count(),
        layers_reused: report.layers.iter().filter(|l| l.phase == LayerPhase::Reused).count(),
        elapsed: start.elapsed(),
    })
}

impl Job<'_> {
    /// Brings a layer into the repository, at the least cost.
    async fn layer(
        &self,
        index: usize,
        diff_id: &Digest,
        known: Option<&Value>,
        lease: Option<&Arc<LayerLease>>,
    ) -> Result<Sent> {
        let meter = self.operation.progress.meter(index);
        let slot = self.slots.acquire().await;
        if let Some(descriptor) = known
            && let Some(digest) = descriptor["digest"].as_str().and_then(|text| text.parse().ok())
            && self.is_there(&digest).await?
        {
            meter.enter(LayerPhase::Reused);
            return Ok(Sent { descriptor: descriptor.clone(), is_original: true });
        }
        let lease =
            lease.ok_or_else(|| Error::ImageNotFound { name: format!("layer {diff_id}") })?;
        meter.enter(LayerPhase::Fetching);
        let (digest, size) = self.send(diff_id, Arc::clone(lease), &meter).await?;
        meter.enter(LayerPhase::Fetched);
        drop(slot);
        Ok(Sent { descriptor: json!({ "digest": digest, "size": size }), is_original: false })
    }

    async fn is_there(&self, digest: &Digest) -> Result<bool> {
        if self.upload.has(digest).await? {
            return Ok(true);
        }
        for origin in &self.origins {
            if self.upload.mount(digest, origin).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Compresses a layer and sends it while it is compressed. Answers digest and size.
    async fn send(
        &self,
        diff_id: &Digest,
        lease: Arc<LayerLease>,
        meter: &LayerMeter,
    ) -> Result<(Digest, u64)> {
        let what = format!("push layer {diff_id}");
        let (sender, mut chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let (store, id) = (Arc::clone(&self.assembler.store), diff_id.clone());
        let compressing = blocking(&self.assembler.tasks, move || {
            let layer = store.rewriter(&lease, &id)?;
            let cancelled = || Error::Cancelled { what: format!("push layer {id}") };
            let out = Chunks { chunk: Vec::with_capacity(CHUNK), sender };
            let mut encoder = GzEncoder::new(out, Compression::default());
            layer.write(|bytes| encoder.write_all(bytes).map_err(|_| cancelled()))?;
            let out = encoder.finish().map_err(|_| cancelled())?;
            out.send().map_err(|_| cancelled())
        });
        let sending = async {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            let mut session = self.upload.begin(&what).await?;
            let (mut size, mut last) = (0, Bytes::new());
            while let Some(chunk) = chunks.recv().await {
                hasher.update(&chunk);
                size += chunk.len() as u64;
                let before = std::mem::replace(&mut last, chunk);
                if !before.is_empty() {
                    meter.add(before.len() as u64);
                    self.upload.send(&mut session, before).await?;
                }
            }
            Ok((session, last, hasher.finish(), size))
        };
        // The last chunk ends the blob, and it is only sent when the layer was whole.
        let (compressed, sent) = tokio::join!(compressing, sending_or_close(sending));
        let (session, last, digest, size) = match (compressed, sent) {
            (Err(error @ Error::Cancelled { .. }), sent) => sent.and(Err(error))?,
            (compressed, sent) => {
                compressed?;
                sent?
            }
        };
        meter.add(last.len() as u64);
        self.upload.finish(session, last, &digest).await?;
        Ok((digest, size))
    }

    async fn publish(&self, image: &Image, layers: &[Sent]) -> Result<Digest> {
        let raw = Bytes::copy_from_slice(image.raw_config().as_bytes());
        let id = image.id().digest();
        if !self.is_there(id).await? {
            self.upload.put(id, raw.clone(), &format!("push config {id}")).await?;
        }
        let (media_type, manifest) = manifest(image, layers);
        let digest = Digest::sha256(&manifest);
        self.upload.put_manifest(&media_type, manifest.into()).await?;
        Ok(digest)
    }
}

/// Lets go of what the future has, when it ends, before its result is looked at.
async fn sending_or_close<T>(sending: impl Future<Output = T>) -> T {
    sending.await
}

/// Collects compressed bytes into chunks for the network.
struct Chunks {
    chunk: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
}

impl Chunks {
    fn send(mut self) -> std::io::Result<()> {
        self.flush_chunk()
    }

    fn flush_chunk(&mut self) -> std::io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.sender.blocking_send(chunk.into()).map_err(gone)
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = (CHUNK - self.chunk.len()).min(bytes.len());
        self.chunk.extend_from_slice(&bytes[..room]);
        if self.chunk.len() == CHUNK {
            self.flush_chunk()?;
        }
        Ok(room)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The diff ids of an image, bottom first, each with the descriptor that its manifest had for it,
/// as far as that is known.
fn known_layers(image: &Image) -> Vec<(Digest, Option<Value>)> {
    let manifest = pulled_manifest(image);
    let known = manifest["layers"].as_array().cloned().unwrap_or_default();
    let ids: Vec<Digest> =
        image.config().rootfs().diff_ids().iter().filter_map(|id| id.parse().ok()).collect();
    let is_known = known.len() == ids.len();
    let known = known.into_iter().map(Some).chain(std::iter::repeat(None));
    ids.into_iter().zip(known).map(|(id, known)| (id, known.filter(|_| is_known))).collect()
}

fn pulled_manifest(image: &Image) -> Value {
    let raw = image.core.manifest.as_deref();
    raw.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default()
}

/// Repositories of the target's registry that the image has names in.
fn origins(image: &Image, target: &Reference) -> BTreeSet<String> {
    let names = image.repo_tags().iter().chain(image.repo_digests());
    let names = names.filter_map(|name| name.parse::<Reference>().ok());
    names
        .filter(|name| name.domain() == target.domain() && name.path() != target.path())
        .map(|name| name.path().to_owned())
        .collect()
}

/// Media type and bytes of the manifest: the pulled one if it is true, else one of its kind.
fn manifest(image: &Image, layers: &[Sent]) -> (String, Vec<u8>) {
    let mut pulled = pulled_manifest(image);
    let media_type = pulled["mediaType"].as_str().unwrap_or(OCI_MANIFEST).to_owned();
    if let Some(raw) = &image.core.manifest
        && layers.iter().all(|layer| layer.is_original)
    {
        return (media_type, raw.clone().into_bytes());
    }
    let layer_type = if media_type == DOCKER_MANIFEST { DOCKER_LAYER } else { OCI_LAYER };
    let layers = layers.iter().map(|layer| {
        let mut descriptor = layer.descriptor.clone();
        if !layer.is_original {
            descriptor["mediaType"] = json!(layer_type);
        }
        descriptor
    });
    let layers: Vec<_> = layers.collect();
    if pulled["config"].is_object() {
        pulled["layers"] = json!(layers);
        return (media_type, pulled.to_string().into_bytes());
    }
    let (id, size) = (image.id().digest(), image.raw_config().len());
    let config = json!({ "mediaType": OCI_CONFIG, "digest": id, "size": size });
    let made = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": layers,
    });
    (OCI_MANIFEST.to_owned(), made.to_string().into_bytes())
}
