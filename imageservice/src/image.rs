//! An image that is here, complete.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::accounts::{Accounts, Identity};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::reference::{Reference, Target};

/// Digest of an image's configuration: what names the image whatever it is called and however its
/// layers are compressed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(Digest);

impl ImageId {
    /// The id as a digest.
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// The hex digits of the id.
    pub fn hex(&self) -> &str {
        self.0.hex()
    }

    pub(crate) fn of_hex(hex: &str) -> Option<Self> {
        format!("sha256:{hex}").parse().ok()
    }
}

impl From<Digest> for ImageId {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl FromStr for ImageId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason| Error::InvalidReference { input: text.to_owned(), reason };
        text.parse().map(Self).map_err(invalid)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A complete image and the names that it has. A value: it does not change when the image does.
#[derive(Debug, Clone)]
pub struct Image {
    pub(crate) core: Arc<ImageCore>,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
}

/// What does not depend on names.
#[derive(Debug)]
pub(crate) struct ImageCore {
    pub(crate) id: ImageId,
    pub(crate) manifest_digest: Digest,
    /// The manifest's very bytes; an image of an older store has none.
    pub(crate) manifest: Option<String>,
    pub(crate) raw_config: String,
    pub(crate) is_artifact: bool,
    pub(crate) config: ImageConfiguration,
    /// Numbers of the layers, top first, each once.
    pub(crate) layers: Vec<u64>,
    pub(crate) size: u64,
    pub(crate) accounts: Accounts,
    pub(crate) pinned: bool,
}

impl Image {
    pub(crate) fn new(core: Arc<ImageCore>) -> Self {
        Self { core, repo_tags: Vec::new(), repo_digests: Vec::new() }
    }

    /// The same image under these names.
    pub(crate) fn with_names(&self, names: &[Reference]) -> Self {
        let is_tag = |name: &&Reference| matches!(name.target(), Target::Tag(_));
        Self {
            core: Arc::clone(&self.core),
            repo_tags: names.iter().filter(is_tag).map(Reference::to_string).collect(),
            repo_digests: names.iter().filter(|n| !is_tag(n)).map(Reference::to_string).collect(),
        }
    }

    /// The image's id: the digest of its configuration.
    pub fn id(&self) -> &ImageId {
        &self.core.id
    }

    /// Digest of the manifest that the image was made from last.
    pub fn manifest_digest(&self) -> &Digest {
        &self.core.manifest_digest
    }

    /// Names by tag, in normal form, sorted.
    pub fn repo_tags(&self) -> &[String] {
        &self.repo_tags
    }

    /// Names by digest, in normal form, sorted.
    pub fn repo_digests(&self) -> &[String] {
        &self.repo_digests
    }

    /// Bytes on disk of all layers of this image, those that others share included.
    pub fn size(&self) -> u64 {
        self.core.size
    }

    /// The image configuration; an empty one for an artifact.
    pub fn config(&self) -> &ImageConfiguration {
        &self.core.config
    }

    /// Whether it is an artifact: no root file system of a container, but files to be mounted.
    pub fn is_artifact(&self) -> bool {
        self.core.is_artifact
    }

    /// The very bytes whose digest is the id: the image configuration or, of an artifact, the
    /// manifest.
    pub fn raw_config(&self) -> &str {
        &self.core.raw_config
    }

    /// When the image was created, as its configuration says (RFC 3339), which may be never.
    pub fn created(&self) -> Option<&str> {
        self.core.config.created().as_deref()
    }

    /// Whether the image must not be garbage-collected.
    pub fn pinned(&self) -> bool {
        self.core.pinned
    }

    /// Who a user string (`user`, `uid`, `user:group`…) is in this image; empty is user 0.
    ///
    /// Parsing is total: a string of digits is a number and never a name, and a number that is none
    /// of Linux's ids is an error.
    ///
    /// # Errors
    /// [`Error::BadUser`] if the string names nobody.
    pub fn resolve_user(&self, user: &str) -> Result<Identity> {
        self.core.accounts.resolve(user).map_err(|reason| Error::BadUser {
            user: user.chars().take(256).collect(),
            image: self.core.id.to_string(),
            reason,
        })
    }
}
