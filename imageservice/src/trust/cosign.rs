//! Signatures as cosign and podman keep them: beside the image, under a tag made of its digest, as
//! payloads of "simple signing" with the signature as an annotation (cosign, SIGNATURE_SPEC.md).
//!
//! ```text
//! REPOSITORY:sha256-HEX.sig ──► manifest ──► layer: {"critical": {"identity": …, "image": …}}
//!                                            └ annotation: signature of these bytes, in base64
//! ```
//!
//! Nothing else is asked: no transparency log, no certificates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Subject;
use super::key::PublicKey;
use super::policy::Identity;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::registry::Registry;

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Whose payloads these are: cosign's, and podman's with the same content.
const KINDS: [&str; 2] = ["cosign container image signature", "atomic container signature"];
/// Signatures of one image that are looked at.
const MOST: usize = 32;
const LONGEST_PAYLOAD: u64 = 64 << 10;

/// A payload with a signature, not verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signed {
    /// In base64, as all of it counts.
    payload: String,
    signature: String,
}

#[derive(Deserialize)]
struct SignatureManifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: PayloadIdentity,
    image: PayloadImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PayloadIdentity {
    #[serde(default)]
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PayloadImage {
    docker_manifest_digest: Digest,
}

/// All signatures that a registry has for any of these digests.
pub(super) async fn fetch(registry: &Registry, digests: &[Digest]) -> Result<Vec<Signed>> {
    let mut found = Vec::new();
    for digest in digests {
        let tag = format!("{}.sig", digest.as_str().replace(':', "-"));
        let Some(bytes) = registry.attached(&tag).await? else { continue };
        let manifest: SignatureManifest =
            serde_json::from_slice(&bytes).map_err(|error| Error::InvalidManifest {
                what: format!("signatures of {digest}"),
                reason: error.to_string(),
            })?;
        for layer in manifest.layers {
            let signature = layer.annotations.get(SIGNATURE).filter(|it| !it.is_empty()).cloned();
            let is_ours = layer.media_type == PAYLOAD && layer.size <= LONGEST_PAYLOAD;
            let Some(signature) = signature.filter(|_| is_ours && found.len() < MOST) else {
                continue;
            };
            // Another signature of the same image may be whole.
            match registry.small_blob(&layer).await {
                Ok(payload) => found.push(Signed { payload: STANDARD.encode(payload), signature }),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => tracing::warn!(%error, "a signature cannot be had, ignoring"),
            }
        }
    }
    Ok(found)
}

impl Signed {
    /// Whether it is by one of the keys and says of this image what is asked for.
    pub(super) fn check(
        &self,
        keys: &[PublicKey],
        identity: &Identity,
        subject: &Subject,
    ) -> Result<(), String> {
        let decode = |text: &str, what: &str| {
            STANDARD.decode(text).map_err(|_| format!("a signature whose {what} is no base64"))
        };
        let (payload, signature) =
            (decode(&self.payload, "payload")?, decode(&self.signature, "value")?);
        if !keys.iter().any(|key| key.verifies(&payload, &signature)) {
            return Err("a signature that is by none of the keys".to_owned());
        }
        // From here on these are the words of who has the key.
        let Payload { critical } = serde_json::from_slice(&payload)
            .map_err(|error| format!("a signature of something else: {error}"))?;
        if !KINDS.contains(&critical.kind.as_str()) {
            return Err(format!("a signature of kind {:?}", critical.kind));
        }
        let digest = critical.image.docker_manifest_digest;
        if !subject.digests.contains(&digest) {
            return Err(format!("a signature of another image, {digest}"));
        }
        let signed = &critical.identity.docker_reference;
        if !is_identity(identity, signed, subject.name.as_ref()) {
            return Err(format!("a signature for another name, {signed:?}"));
        }
        Ok(())
    }
}

/// Whether the name in a signature is the one that is wanted.
fn is_identity(wanted: &Identity, signed: &str, name: Option<&Reference>) -> bool {
    let signed: Option<Reference> = signed.parse().ok();
    let repository = signed.as_ref().map(Reference::repository);
    match wanted {
        Identity::Any => true,
        Identity::Repository => {
            repository.is_some() && repository == name.map(Reference::repository)
        }
        Identity::Exact => signed.is_some() && signed.as_ref() == name,
        Identity::Named(wanted) => repository.as_ref() == Some(wanted),
    }
}

#[cfg(test)]
mod tests;
