//! A repository in a registry, as seen through its mirrors: OCI distribution specification, the
//! pulling half.
//!
//! Endpoints are tried in the order of `hosts.toml`; the registry itself comes last. What comes is
//! not believed: documents are checked against their digest here, layers where they are unpacked.

mod auth;
mod blob;
mod body;
mod dns;
mod download;
mod endpoint;
mod failure;
mod hosts;
mod hosts_file;
mod http;
mod memory;
mod partial;
mod plain;
mod range;
mod retry;
mod ring;
mod token;
mod upload;

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio_util::task::TaskTracker;

pub(crate) use self::blob::Blob;
use self::body::Body;
pub(crate) use self::download::Download;
use self::endpoint::{Ask, Endpoint};
use self::failure::Failure;
use self::hosts::{Capability, Files, Host};
pub(crate) use self::memory::Memory;
pub(crate) use self::partial::Partials;
use self::retry::Attempts;
pub(crate) use self::upload::{CHUNK, Upload};
use crate::blocking::blocking;
use crate::config::{Config, Limits, Stall};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keyring::Place;
use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::reference::{Reference, Target};

const DOCUMENT_TYPES: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];
const CONTENT_DIGEST: &str = "docker-content-digest";

/// One repository, for the length of one pull.
#[derive(Debug)]
pub(crate) struct Registry {
    reference: Reference,
    endpoints: Vec<Endpoint>,
    memory: Arc<Memory>,
    stall: Stall,
    limits: Limits,
}

/// A manifest or index whose digest is right.
#[derive(Debug)]
pub(crate) struct FetchedDocument {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
    /// The `Content-Type`; empty if there was none.
    pub(crate) media_type: String,
}

impl Registry {
    /// Reads the host configuration and makes the clients of all endpoints.
    pub(crate) async fn open(
        reference: Reference,
        config: &Arc<Config>,
        credentials: Option<Credentials>,
        memory: &Arc<Memory>,
        tasks: &TaskTracker,
    ) -> Result<Self> {
        let hosts = plain::settle(hosts(&reference, config, tasks).await?).await;
        let (stall, limits) = (config.stall, config.limits);
        let memory = Arc::clone(memory);
        let mut known = Vec::new();
        for host in hosts {
            // What a client sends comes first; where it may not be shown, the node's own counts.
            let sent = credentials.clone();
            let sent = sent.filter(|sent| sent.belong_to(&host.base, reference.domain()));
            let path = host.repository.as_deref().unwrap_or(reference.path());
            let place = Place::new(&host.base, path);
            let shown = match sent {
                None => memory.keyring.find(&config.credentials, &place, tasks).await,
                sent => sent,
            };
            known.push((host, shown));
        }
        blocking(tasks, move || {
            let last = known.len().saturating_sub(1);
            let endpoint = |(index, (host, shown)): (usize, (Host, Option<Credentials>))| {
                Endpoint::new(host, &reference, shown.as_ref(), &memory, index < last)
            };
            let endpoints = known.into_iter().enumerate().map(endpoint).collect::<Result<_>>()?;
            Ok(Self { reference, endpoints, memory, stall, limits })
        })
        .await
    }

    /// What the reference points to.
    pub(crate) async fn resolve(&self) -> Result<FetchedDocument> {
        let what = format!("manifest {}", self.reference);
        match self.reference.target() {
            Target::Tag(tag) => self.document(tag, None, &what).await,
            Target::Digest(digest) => self.document(digest.as_str(), Some(digest), &what).await,
        }
    }

    /// The manifest or index of a digest that another document named.
    pub(crate) async fn manifest(&self, entry: &Descriptor) -> Result<FetchedDocument> {
        let what = format!("manifest {}", self.reference.with_digest(entry.digest.clone()));
        let fetched = self.document(entry.digest.as_str(), Some(&entry.digest), &what).await?;
        check_size(&fetched.bytes, entry.size, &what)?;
        Ok(fetched)
    }

    /// The manifest that a tag of this repository points to, if there is one. It is not what was
    /// asked for, but something about it.
    pub(crate) async fn attached(&self, tag: &str) -> Result<Option<Bytes>> {
        let what = format!("{tag} beside {}", self.reference);
        match self.document(tag, None, &what).await {
            Ok(document) => Ok(Some(document.bytes)),
            Err(Error::NotInRegistry { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A small blob, whole and verified.
    pub(crate) async fn small_blob(&self, descriptor: &Descriptor) -> Result<Bytes> {
        let what = format!("config {}", self.reference.with_digest(descriptor.digest.clone()));
        let path = format!("blobs/{}", descriptor.digest);
        let mut attempts = self.attempts(Capability::Pull, &what)?;
        loop {
            let endpoint = &self.endpoints[attempts.current()];
            match self.try_small_blob(endpoint, &path, descriptor, &what).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => attempts.failed(&self.endpoints, failure).await?,
            }
        }
    }

    /// A blob of any size, to be verified by who takes it, after what an earlier pull has left of
    /// it. Blocks for a moment.
    pub(crate) fn blob(self: &Arc<Self>, descriptor: &Descriptor, what: &str) -> Download {
        let Descriptor { digest, size, .. } = descriptor;
        let claim = self.memory.partials.claim(digest, *size);
        let blob = Blob::new(what, digest, *size, claim);
        Download::new(Arc::clone(self), Arc::new(blob))
    }

    /// Leaves endpoints that brought something wrong alone from now on, and tells whether there are
    /// others to ask. The registry itself has no replacement.
    pub(crate) fn distrust(&self, blob: &Blob) -> bool {
        let mirrors = self.endpoints.split_last().map_or(&[][..], |(_, mirrors)| mirrors);
        let sources = blob.sources();
        let liars = mirrors.iter().enumerate().filter(|(index, _)| sources.contains(index));
        let left = liars.map(|(_, mirror)| mirror.give_up()).count();
        // What was left here is gone then.
        left > 0 || blob.kept() > 0
    }

    /// A manifest or index by tag or digest; a digest is checked.
    async fn document(
        &self,
        target: &str,
        digest: Option<&Digest>,
        what: &str,
    ) -> Result<FetchedDocument> {
        // A tag is only for those whom its owner trusts with it.
        let need = if digest.is_some() { Capability::Pull } else { Capability::Resolve };
        let path = format!("manifests/{target}");
        let mut attempts = self.attempts(need, what)?;
        loop {
            let endpoint = &self.endpoints[attempts.current()];
            match self.try_document(endpoint, &path, digest, what).await {
                Ok(document) => return Ok(document),
                Err(failure) => attempts.failed(&self.endpoints, failure).await?,
            }
        }
    }

    async fn try_document(
        &self,
        endpoint: &Endpoint,
        path: &str,
        digest: Option<&Digest>,
        what: &str,
    ) -> Result<FetchedDocument, Failure> {
        let response =
            endpoint.get(&Ask { path, accept: &DOCUMENT_TYPES, range: None, what }).await?;
        let media_type = text_of(response.headers(), CONTENT_TYPE.as_str());
        let announced = text_of(response.headers(), CONTENT_DIGEST);
        let body = Body::new(response, self.stall, endpoint.host(), what);
        let bytes = body.whole(self.limits.document).await?;
        for digest in announced.parse().iter().chain(digest) {
            check_digest(&bytes, digest, what)?;
        }
        let digest = digest.cloned().unwrap_or_else(|| Digest::sha256(&bytes));
        Ok(FetchedDocument { bytes, digest, media_type })
    }

    async fn try_small_blob(
        &self,
        endpoint: &Endpoint,
        path: &str,
        descriptor: &Descriptor,
        what: &str,
    ) -> Result<Bytes, Failure> {
        let response = endpoint.get(&Ask { path, accept: &[], range: None, what }).await?;
        let body = Body::new(response, self.stall, endpoint.host(), what);
        let bytes = body.whole(self.limits.document).await?;
        check_size(&bytes, descriptor.size, what)?;
        check_digest(&bytes, &descriptor.digest, what)?;
        Ok(bytes)
    }

    fn attempts(&self, need: Capability, what: &str) -> Result<Attempts> {
        Attempts::begin(&self.endpoints, need).ok_or_else(|| Error::Unavailable {
            what: what.to_owned(),
            registry: self.reference.domain().to_owned(),
            reason: format!("no host is configured that can {need}"),
        })
    }
}

/// Who has the image, as the operator's files say now.
async fn hosts(
    reference: &Reference,
    config: &Arc<Config>,
    tasks: &TaskTracker,
) -> Result<Vec<Host>> {
    let (reference, config) = (reference.clone(), Arc::clone(config));
    blocking(tasks, move || {
        let (certs_dirs, registries_conf) = (&config.certs_dirs, config.registries_conf.as_deref());
        hosts::load(Files { certs_dirs, registries_conf }, &reference)
    })
    .await
}

fn text_of(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn check_size(bytes: &[u8], expected: u64, what: &str) -> Result<()> {
    let got = bytes.len() as u64;
    let mismatch = || Error::SizeMismatch { what: what.to_owned(), expected, got };
    if got == expected { Ok(()) } else { Err(mismatch()) }
}

fn check_digest(bytes: &[u8], expected: &Digest, what: &str) -> Result<()> {
    expected.check(bytes).map_err(|got| Error::DigestMismatch {
        what: what.to_owned(),
        expected: expected.clone(),
        got,
    })
}
