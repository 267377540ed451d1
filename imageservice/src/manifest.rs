//! Manifests, indexes and image configurations: untrusted JSON into values that say one thing only.
//!
//! A document is judged after its digest is known to be right. One that can be read as a manifest
//! and as an index at once is refused, and so is one whose own media type, the registry's
//! `Content-Type` and the descriptor that led to it disagree (CVE-2021-41190). Docker's schema 2
//! types are read as their OCI twins.

use std::collections::HashMap;

use oci_spec::image::ImageConfiguration;
use serde::Deserialize;

use crate::artifact;
use crate::config::Limits;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::platform::Platform;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Set by builders on the entries of an index that carry attestations and no image.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// What a manifest or index says about another object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) annotations: HashMap<String, String>,
}

/// An image of one platform, or an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    /// Bottom first.
    pub(crate) layers: Vec<Descriptor>,
    /// The manifest's very bytes, if it is no image but an artifact.
    pub(crate) artifact: Option<String>,
}

/// What a reference can lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Image(Manifest),
    Index(Vec<Descriptor>),
}

/// An image configuration that can be used here.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    /// Its very bytes.
    pub(crate) raw: String,
    /// Digests of the uncompressed layers, bottom first.
    pub(crate) diff_ids: Vec<Digest>,
}

/// Every field of both kinds, so that a document that has fields of both can be told.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    fs_layers: Option<serde_json::Value>,
}

impl Document {
    /// Reads a document. `claimed` are the media types by which it was announced (descriptor,
    /// `Content-Type`); those that name no kind of document in particular do not count.
    pub(crate) fn parse(
        bytes: &[u8],
        claimed: &[&str],
        limits: &Limits,
        what: &str,
    ) -> Result<Self> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| invalid(what, e))?;
        if raw.schema_version == Some(1) || raw.fs_layers.is_some() {
            return Err(unsupported(what, "manifests of Docker's schema 1 are not supported"));
        }
        if raw.schema_version != Some(2) {
            return Err(invalid(what, "schemaVersion is not 2"));
        }
        let is_index = match (&raw.manifests, &raw.layers, &raw.config) {
            (Some(_), None, None) => true,
            (None, Some(_), Some(_)) => false,
            (Some(_), ..) => return Err(invalid(what, "both an index and a manifest")),
            (None, ..) => return Err(invalid(what, "neither an index nor a manifest")),
        };
        agree(is_index, raw.media_type.as_deref(), claimed, what)?;
        let layers = raw.layers.unwrap_or_default();
        let manifests = raw.manifests.unwrap_or_default();
        if layers.len().max(manifests.len()) > limits.descriptors {
            return Err(too_large(what, format!("at most {} descriptors", limits.descriptors)));
        }
        match raw.config {
            Some(config) => {
                let manifest = Manifest { config, layers, artifact: None };
                manifest.checked(bytes, limits, what).map(Self::Image)
            }
            None => Ok(Self::Index(manifests)),
        }
    }
}

impl Manifest {
    fn checked(mut self, bytes: &[u8], limits: &Limits, what: &str) -> Result<Self> {
        let is_image = [OCI_CONFIG, DOCKER_CONFIG].contains(&self.config.media_type.as_str());
        if !is_image {
            let raw = std::str::from_utf8(bytes).map_err(|e| invalid(what, e))?;
            self.artifact = Some(raw.to_owned());
            self.layers.retain(|layer| layer.media_type != artifact::EMPTY);
        } else if self.config.size > limits.document {
            return Err(too_large(what, format!("a config of at most {} bytes", limits.document)));
        }
        if self.layers.len() > limits.layers {
            return Err(too_large(what, format!("at most {} layers", limits.layers)));
        }
        match self.layers.iter().find(|layer| is_image && !is_layer(&layer.media_type)) {
            Some(layer) => {
                let reason = format!("layer {} is a {:?}", layer.digest, layer.media_type);
                Err(unsupported(what, reason))
            }
            None => Ok(self),
        }
    }
}

impl Configuration {
    /// Reads an image configuration of `layers` layers for `platform`.
    pub(crate) fn parse(
        bytes: Vec<u8>,
        layers: usize,
        platform: &Platform,
        what: &str,
    ) -> Result<Self> {
        let raw = String::from_utf8(bytes).map_err(|e| invalid(what, e))?;
        let image: ImageConfiguration = serde_json::from_str(&raw).map_err(|e| invalid(what, e))?;
        let offered = Platform {
            os: image.os().to_string(),
            architecture: image.architecture().to_string(),
            variant: image.variant().clone().unwrap_or_default(),
        };
        // Some builders leave the platform empty; then the manifest's word must do.
        if !offered.architecture.is_empty() && platform.rank(&offered).is_none() {
            return Err(unsupported(what, format!("made for {offered}, this is {platform}")));
        }
        let diff_ids = image
            .rootfs()
            .diff_ids()
            .iter()
            .map(|id| id.parse().map_err(|e| invalid(what, format!("diff id {id:?}: {e}"))))
            .collect::<Result<Vec<Digest>>>()?;
        if diff_ids.len() != layers {
            let reason = format!("{} diff ids for {layers} layers", diff_ids.len());
            return Err(invalid(what, reason));
        }
        Ok(Self { raw, diff_ids })
    }
}

/// The entries of an index that can run here, best first; an entry without a platform comes last,
/// its config will tell.
pub(crate) fn candidates(index: &[Descriptor], platform: &Platform) -> Vec<Descriptor> {
    let mut ranked: Vec<_> = index
        .iter()
        .filter(|entry| !entry.annotations.contains_key(ATTESTATION))
        .filter_map(|entry| match &entry.platform {
            Some(offered) => platform.rank(offered).map(|rank| (Some(rank), entry.clone())),
            None => Some((None, entry.clone())),
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    ranked.into_iter().map(|(_, entry)| entry).collect()
}

/// Whether a media type names a layer tarball, compressed or not. Which compression it has is told
/// by its first bytes.
pub(crate) fn is_layer(media_type: &str) -> bool {
    let Some((base, suffix)) = media_type.split_once(".tar") else { return false };
    let is_base = matches!(
        base,
        "application/vnd.oci.image.layer.v1"
            | "application/vnd.oci.image.layer.nondistributable.v1"
            | "application/vnd.docker.image.rootfs.diff"
            | "application/vnd.docker.image.rootfs.foreign.diff"
    );
    is_base && matches!(suffix, "" | "+gzip" | ".gzip" | "+zstd" | ".zstd")
}

fn agree(is_index: bool, own: Option<&str>, claimed: &[&str], what: &str) -> Result<()> {
    for media_type in claimed.iter().copied().chain(own) {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let says_index = match essence {
            OCI_INDEX | DOCKER_INDEX => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            // A registry that serves files has no better name for it; a document must know its own.
            _ if own != Some(media_type) || essence.is_empty() => continue,
            other => return Err(unsupported(what, format!("media type {other:?}"))),
        };
        if says_index != is_index {
            return Err(invalid(what, format!("its content is no {essence}")));
        }
    }
    Ok(())
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn invalid(what: &str, reason: impl ToString) -> Error {
    Error::InvalidManifest { what: what.to_owned(), reason: reason.to_string() }
}

fn unsupported(what: &str, reason: impl ToString) -> Error {
    Error::Unsupported { what: what.to_owned(), reason: reason.to_string() }
}

fn too_large(what: &str, limit: String) -> Error {
    Error::TooLarge { what: what.to_owned(), limit }
}

#[cfg(test)]
mod tests;
