//! Pulling a reference: from its name to a published image.
//!
//! ```text
//! hosts.toml ─► manifest or index ─► manifest of our platform ─► config ─► layers ─► publish
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::assemble::{Assembler, Recipe};
use crate::blocking::blocking;
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::ImageId;
use crate::manifest::{Configuration, Descriptor, Document, Manifest, candidates};
use crate::operation::Operation;
use crate::platform::Platform;
use crate::reference::{Reference, Target};
use crate::registry::{FetchedDocument, Memory, Registry};
use crate::source::Source;
use crate::store::Label;
use crate::trust::{Description, Evidence, Subject};

/// How many indexes may lead to each other before a manifest must come.
const MAX_INDEXES: usize = 4;

/// What to pull, as whom.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The image.
    pub reference: Reference,
    /// What to pull if that cannot be had, in this order; see [`Images::meanings`].
    ///
    /// [`Images::meanings`]: crate::Images::meanings
    pub alternatives: Vec<Reference>,
    /// For the registry; `None` for an anonymous pull.
    pub credentials: Option<Credentials>,
    /// Whether the image is to be kept from garbage collection; a pin is not taken back by a later
    /// pull.
    pub pinned: bool,
}

impl PullRequest {
    /// An anonymous pull of an image that nobody pins.
    pub fn new(reference: Reference) -> Self {
        Self { reference, alternatives: Vec::new(), credentials: None, pinned: false }
    }
}

/// What a pull did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOutcome {
    /// The image, which is here now.
    pub image: ImageId,
    /// What was pulled, by the digest that its reference had.
    pub digest: Digest,
    /// Compressed bytes of layers that came over the network, those of failed attempts included.
    pub bytes_fetched: u64,
    /// Layers that this pull fetched.
    pub layers_fetched: usize,
    /// Layers that were here, or that another pull fetched meanwhile.
    pub layers_reused: usize,
    /// Time for the manifest and the configuration.
    pub resolving: Duration,
    /// Time for fetching and unpacking.
    pub fetching: Duration,
    /// Time for syncing and publishing.
    pub publishing: Duration,
}

/// What a reference means on this platform.
struct Resolved {
    /// Digest of what the reference points to, which may be an index.
    digest: Digest,
    described: Description,
    manifest_digest: Digest,
    /// The very bytes of the manifest.
    raw: String,
    manifest: Manifest,
}

impl Resolved {
    /// What there is to decide about.
    fn subject(&self, reference: &Reference) -> Subject {
        let mut digests = vec![self.digest.clone(), self.manifest_digest.clone()];
        digests.dedup();
        Subject { name: Some(reference.clone()), digests }
    }
}

/// Pulls an image. Nothing is visible until all of it is.
pub(crate) async fn pull(
    assembler: &Assembler,
    registries: &Arc<Memory>,
    request: PullRequest,
    operation: &Operation,
) -> Result<PullOutcome> {
    let start = Instant::now();
    let locating = locate(assembler, registries, &request);
    let (reference, registry, resolved) = operation.unless_stopped(locating).await?;
    let subject = resolved.subject(&reference);
    let evidence = Evidence::Registry(&registry, resolved.described.clone());
    operation.unless_stopped(assembler.trust.check(&subject, evidence)).await?;
    let label = Label {
        id: resolved.manifest.id(),
        manifest_digest: resolved.manifest_digest.clone(),
        manifest: Some(resolved.raw.clone()),
        names: names(&reference, &resolved.digest),
        pinned: request.pinned,
    };
    if let Some(outcome) = relabel(assembler, &label, &resolved, start).await? {
        return Ok(outcome);
    }
    let layers = resolved.manifest.layers.len();
    let configuration = match resolved.manifest.stand_in() {
        Some(stand_in) => stand_in,
        None => {
            let config = &resolved.manifest.config;
            let raw = operation.unless_stopped(registry.small_blob(config)).await?;
            let what = format!("config {} of {reference}", config.digest);
            Configuration::parse(raw.into(), layers, &assembler.config.platform, &what)?
        }
    };
    let title = reference.to_string();
    let recipe = Recipe { title, label, manifest: resolved.manifest, configuration };
    let resolving = start.elapsed();
    let source = Source::Registry(registry);
    let assembled = assembler.assemble(&source, recipe, operation).await?;
    Ok(PullOutcome {
        image: assembled.image.id().clone(),
        digest: resolved.digest,
        bytes_fetched: assembled.bytes_fetched,
        layers_fetched: assembled.layers_fetched,
        layers_reused: layers - assembled.layers_fetched,
        resolving,
        fetching: assembled.fetching,
        publishing: assembled.publishing,
    })
}

/// The first of the references that can be had, and what it is.
async fn locate(
    assembler: &Assembler,
    registries: &Arc<Memory>,
    request: &PullRequest,
) -> Result<(Reference, Arc<Registry>, Resolved)> {
    let mut failed = None;
    for reference in [&request.reference].into_iter().chain(&request.alternatives) {
        if let Some(error) = failed {
            tracing::debug!(%error, %reference, "trying the next registry of a short name");
        }
        let credentials = request.credentials.clone();
        let (config, tasks) = (&assembler.config, &assembler.tasks);
        let found = async {
            let opening = Registry::open(reference.clone(), config, credentials, registries, tasks);
            let registry = Arc::new(opening.await?);
            let resolved = resolve(&registry, assembler, reference).await?;
            Ok((reference.clone(), registry, resolved))
        };
        match found.await {
            Ok(found) => return Ok(found),
            Err(error) => failed = Some(error),
        }
    }
    // There is one reference at least, so there was a failure.
    Err(failed.unwrap_or(Error::Cancelled { what: format!("pull {}", request.reference) }))
}

/// An image that is here already only gets its names.
async fn relabel(
    assembler: &Assembler,
    label: &Label,
    resolved: &Resolved,
    start: Instant,
) -> Result<Option<PullOutcome>> {
    let resolving = start.elapsed();
    let (store, label) = (Arc::clone(&assembler.store), label.clone());
    let image = blocking(&assembler.tasks, move || store.relabel(label)).await?;
    Ok(image.map(|image| PullOutcome {
        image: image.id().clone(),
        digest: resolved.digest.clone(),
        bytes_fetched: 0,
        layers_fetched: 0,
        layers_reused: resolved.manifest.layers.len(),
        resolving,
        fetching: Duration::ZERO,
        publishing: start.elapsed() - resolving,
    }))
}

async fn resolve(
    registry: &Registry,
    assembler: &Assembler,
    reference: &Reference,
) -> Result<Resolved> {
    let config = &assembler.config;
    let what = format!("manifest {reference}");
    let first = registry.resolve().await?;
    let digest = first.digest.clone();
    let (media_type, size) = (first.media_type.clone(), first.bytes.len() as u64);
    let described = Description { media_type, size };
    let mut fetched = first;
    let mut announced = String::new();
    for _ in 0..=MAX_INDEXES {
        let FetchedDocument { bytes, digest: manifest_digest, media_type } = fetched;
        match Document::parse(&bytes, &[&media_type, &announced], &config.limits, &what)? {
            Document::Image(manifest) => {
                // JSON that was understood is UTF-8.
                let raw = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Resolved { digest, described, manifest_digest, raw, manifest });
            }
            Document::Index(entries) => {
                let best = choose(&entries, &config.platform, &what)?;
                fetched = registry.manifest(&best).await?;
                announced = best.media_type;
            }
        }
    }
    let reason = "an index of an index of an index, and so on".to_owned();
    Err(Error::InvalidManifest { what, reason })
}

/// The entry of an index for this platform.
pub(crate) fn choose(
    entries: &[Descriptor],
    platform: &Platform,
    what: &str,
) -> Result<Descriptor> {
    candidates(entries, platform).into_iter().next().ok_or_else(|| {
        let offered = entries.iter().filter_map(|entry| entry.platform.as_ref());
        let offered: Vec<String> = offered.map(Platform::to_string).collect();
        let reason = format!("no image for {platform}, only for {:?}", offered);
        Error::Unsupported { what: what.to_owned(), reason }
    })
}

/// A tag also gives the name by digest; a digest says nothing of tags.
fn names(reference: &Reference, digest: &Digest) -> Vec<Reference> {
    match reference.target() {
        Target::Tag(_) => vec![reference.clone(), reference.with_digest(digest.clone())],
        Target::Digest(_) => vec![reference.clone()],
    }
}

impl fmt::Display for PullOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} layers fetched ({} bytes), {} reused, resolved in {:?}, fetched in {:?}, \
             published in {:?}",
            self.image,
            self.layers_fetched,
            self.bytes_fetched,
            self.layers_reused,
            self.resolving,
            self.fetching,
            self.publishing,
        )
    }
}
