//! A repository in a registry, as seen through its mirrors: OCI distribution specification, the
//! pulling half.
//!
//! Endpoints are tried in the order of `hosts.toml`; the registry itself comes last. What comes is
//! not believed: documents are checked against their digest here, layers where they are unpacked.

mod auth;
mod body;
mod dns;
mod endpoint;
mod failure;
mod hosts;
mod hosts_file;
mod http;
mod retry;
mod token;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};

use self::body::Body;
use self::endpoint::Endpoint;
use self::failure::Failure;
use self::hosts::Capability;
use self::retry::Attempts;
pub(crate) use self::token::TokenCache;
use crate::config::{Limits, Stall};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::reference::{Reference, Target};

const DOCUMENT_TYPES: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];
const CONTENT_DIGEST: &str = "docker-content-digest";

/// One repository, for the length of one pull.
#[derive(Debug)]
pub(crate) struct Registry {
    reference: Reference,
    endpoints: Vec<Endpoint>,
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

/// The bytes of a blob as they come, not verified.
#[derive(Debug)]
pub(crate) struct BlobStream {
    body: Body,
    endpoint: usize,
}

impl Registry {
    /// Reads the host configuration and makes the clients of all endpoints. Blocks.
    pub(crate) fn open(
        reference: Reference,
        certs_dirs: &[PathBuf],
        credentials: Option<&Credentials>,
        tokens: &Arc<TokenCache>,
        (stall, limits): (Stall, Limits),
    ) -> Result<Self> {
        let hosts = hosts::load(certs_dirs, reference.domain())?;
        let endpoints = hosts
            .into_iter()
            .map(|host| Endpoint::new(host, &reference, credentials, Arc::clone(tokens)))
            .collect::<Result<_>>()?;
        Ok(Self { reference, endpoints, stall, limits })
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

    /// A small blob, whole and verified.
    pub(crate) async fn small_blob(&self, descriptor: &Descriptor) -> Result<Bytes> {
        let what = format!("config {}", self.reference.with_digest(descriptor.digest.clone()));
        let path = format!("blobs/{}", descriptor.digest);
        let mut attempts = self.attempts(Capability::Pull, &what)?;
        loop {
            let (_, endpoint) = attempts.current();
            match self.try_small_blob(endpoint, &path, descriptor, &what).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => attempts.failed(failure).await?,
            }
        }
    }

    /// A blob of any size.
    pub(crate) async fn blob(&self, digest: &Digest, what: &str) -> Result<BlobStream> {
        let path = format!("blobs/{digest}");
        let mut attempts = self.attempts(Capability::Pull, what)?;
        loop {
            let (index, endpoint) = attempts.current();
            match endpoint.get(&path, &[], what).await {
                Ok(response) => {
                    let body = Body::new(response, self.stall, endpoint.host(), what);
                    return Ok(BlobStream { body, endpoint: index });
                }
                Err(failure) => attempts.failed(failure).await?,
            }
        }
    }

    /// Leaves the endpoint of a stream alone from now on, if there is another one; `false` if not.
    pub(crate) fn avoid(&self, endpoint: usize) -> bool {
        let is_last = self.endpoints[endpoint..].len() == 1;
        if !is_last {
            self.endpoints[endpoint].give_up();
        }
        !is_last
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
            let (_, endpoint) = attempts.current();
            match self.try_document(endpoint, &path, digest, what).await {
                Ok(document) => return Ok(document),
                Err(failure) => attempts.failed(failure).await?,
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
        let response = endpoint.get(path, &DOCUMENT_TYPES, what).await?;
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
        let response = endpoint.get(path, &[], what).await?;
        let body = Body::new(response, self.stall, endpoint.host(), what);
        let bytes = body.whole(self.limits.document).await?;
        check_size(&bytes, descriptor.size, what)?;
        check_digest(&bytes, &descriptor.digest, what)?;
        Ok(bytes)
    }

    fn attempts(&self, need: Capability, what: &str) -> Result<Attempts<'_>> {
        Attempts::begin(&self.endpoints, need).ok_or_else(|| Error::Unavailable {
            what: what.to_owned(),
            registry: self.reference.domain().to_owned(),
            reason: format!("no host is configured that can {need}"),
        })
    }
}

impl BlobStream {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// `Unavailable` if the connection breaks, `Timeout` if it stalls.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.body.chunk().await
    }

    /// Where it comes from, for [`Registry::avoid`].
    pub(crate) fn endpoint(&self) -> usize {
        self.endpoint
    }
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
