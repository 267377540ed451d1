//! What can go wrong between a reference and a root file system.
//!
//! One variant per thing that a caller can act on; an RPC layer maps variants to codes and never
//! parses text. Every message names the object (reference, digest, path) and what was attempted on
//! it. Errors are cheap to clone, because every caller that joined a pull gets the same one, and no
//! message holds a secret: URLs appear without user, password and query.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;

/// The result of this crate's verbs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A cloneable source of an error.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why an image could not be had, found, unpacked or removed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The text is not an image reference of the distribution grammar.
    #[error("invalid image reference {input:?}: {reason}")]
    InvalidReference {
        /// What was given.
        input: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The text cannot name a snapshot.
    #[error("invalid snapshot key {key:?}: {reason}")]
    InvalidKey {
        /// What was given.
        key: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The credentials of a pull make no sense.
    #[error("invalid registry credentials: {reason}")]
    InvalidCredentials {
        /// What is wrong with them, without any part of them.
        reason: &'static str,
    },
    /// A file below the certs.d directories is wrong.
    #[error("registry hosts configuration {path}: {reason}")]
    InvalidHosts {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with line and key where they are known.
        reason: String,
    },
    /// An entry of `registries.conf` forbids the name.
    #[error("pull {name}: blocked by {by}")]
    Blocked {
        /// The reference.
        name: String,
        /// File and line.
        by: String,
    },
    /// The policy of the node does not accept the image. The first word is the one by which the
    /// kubelet knows this (cri-api, `pkg/errors`).
    #[error("SignatureValidationFailed: image {name}: {reason}")]
    Untrusted {
        /// The reference, or the digest of an image without a name.
        name: String,
        /// Who or what does not accept it.
        reason: String,
    },
    /// No image of that name or id is here.
    #[error("image {name} not found")]
    ImageNotFound {
        /// The name or id that was looked for.
        name: String,
    },
    /// An image is here, and a layer of it is not what it was. The image is removed.
    #[error("image {image} is damaged and was removed, pull it again: {reason}")]
    ImageDamaged {
        /// The image.
        image: String,
        /// Which layer, and what is wrong with it.
        reason: String,
    },
    /// A short id that begins the ids of several images.
    #[error("short image id {id} is ambiguous")]
    AmbiguousId {
        /// The short id.
        id: String,
    },
    /// The registry answers that it has no such manifest or blob.
    #[error("{what} not found in registry {registry}")]
    NotInRegistry {
        /// Manifest or blob, with reference or digest.
        what: String,
        /// Host of the registry.
        registry: String,
    },
    /// The registry wants credentials, or other ones.
    #[error("{}: registry {registry} refuses the credentials: {detail}", doing(what))]
    Unauthorized {
        /// Manifest or blob, with reference or digest.
        what: String,
        /// Host of the registry or of its token server.
        registry: String,
        /// What the registry said, or which step was refused.
        detail: String,
    },
    /// The registry knows the caller and denies access.
    #[error("{}: registry {registry} denies access: {detail}", doing(what))]
    Forbidden {
        /// Manifest or blob, with reference or digest.
        what: String,
        /// Host of the registry or of its token server.
        registry: String,
        /// What the registry said.
        detail: String,
    },
    /// The registry cannot be reached or is not able to answer now.
    #[error("{}: registry {registry} is unavailable: {reason}", doing(what))]
    Unavailable {
        /// Manifest or blob, with reference or digest.
        what: String,
        /// Host of the registry or of its token server.
        registry: String,
        /// What failed.
        reason: String,
    },
    /// The registry could not prove who it is, or does not speak TLS.
    #[error("{}: no secure connection to registry {registry}: {reason}", doing(what))]
    Insecure {
        /// Manifest or blob, with reference or digest.
        what: String,
        /// Host of the registry or of its token server.
        registry: String,
        /// What is wrong with its certificate, or with the handshake.
        reason: String,
    },
    /// The registry's answer breaks the distribution protocol.
    #[error("{}: registry {registry} answers nonsense: {reason}", doing(what))]
    BadAnswer {
        /// Manifest or blob, with reference or digest.
        what: String,
        /// Host of the registry or of its token server.
        registry: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// Bytes that are not those that were asked for.
    #[error("verify {what}: expected digest {expected}, got {got}")]
    DigestMismatch {
        /// Manifest, config, layer or diff id, with its reference or digest.
        what: String,
        /// The promised digest.
        expected: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// More or fewer bytes than promised.
    #[error("verify {what}: expected {expected} bytes, got {got}")]
    SizeMismatch {
        /// Manifest, config or layer, with its reference or digest.
        what: String,
        /// The promised size.
        expected: u64,
        /// What came; for a body that is too long, what had come when it was cut off.
        got: u64,
    },
    /// A manifest, index or configuration that is not well-formed, or says two things at once.
    #[error("read {what}: {reason}")]
    InvalidManifest {
        /// Manifest, index or config, with reference or digest.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A media type, compression or platform that berth cannot use.
    #[error("use {what}: {reason}")]
    Unsupported {
        /// Manifest, layer or reference.
        what: String,
        /// What is not supported.
        reason: String,
    },
    /// A layer entry that tries to leave the layer, or to speak for overlayfs.
    #[error("unpack {layer}: refuse entry {entry:?}: {reason}")]
    HostileLayer {
        /// The layer.
        layer: String,
        /// Name of the entry, lossily decoded.
        entry: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A layer that cannot be decompressed or is no tar archive.
    #[error("unpack {layer}: {reason}")]
    CorruptLayer {
        /// The layer.
        layer: String,
        /// What could not be read.
        reason: String,
    },
    /// An archive given for import that is neither an OCI layout nor a docker archive.
    #[error("unusable archive: {reason}")]
    InvalidArchive {
        /// What is wrong with it.
        reason: String,
    },
    /// More than a cap allows.
    #[error("{what} is too large: {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The cap that it breaks.
        limit: String,
    },
    /// The file system is full, of bytes or of inodes, or a quota is used up.
    #[error("{step} {path}: no space left")]
    NoSpace {
        /// What was attempted.
        step: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// A user string that names nobody in this image.
    #[error("user {user:?} of image {image}: {reason}")]
    BadUser {
        /// The user string.
        user: String,
        /// The image in which it was looked up.
        image: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A path in an image at which there is no directory to be mounted.
    #[error("mount {path:?} of image {image}: {reason}")]
    BadSubPath {
        /// The image.
        image: String,
        /// The path.
        path: String,
        /// What is there instead, or what is wrong with the path.
        reason: String,
    },
    /// Something is used in a way that forbids the request.
    #[error("{what} is in use: {by}")]
    InUse {
        /// The object.
        what: String,
        /// Who uses it.
        by: String,
    },
    /// A step or the whole operation took longer than it may.
    #[error("{what}: gave up after {after:?}: {reason}")]
    Timeout {
        /// The step, with its object.
        what: String,
        /// The deadline or window that passed.
        after: Duration,
        /// What was missing.
        reason: &'static str,
    },
    /// The image service is shutting down.
    #[error("{what}: cancelled")]
    Cancelled {
        /// What was under way.
        what: String,
    },
    /// Another process has the root directory open.
    #[error("image root {root} is in use by another process")]
    RootBusy {
        /// The root directory.
        root: PathBuf,
    },
    /// The local file system refused something.
    #[error("{step} {path}")]
    Storage {
        /// What was attempted.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: Cause,
    },
}

impl Error {
    /// A failure of the local file system; a full disk gets its own variant.
    pub(crate) fn storage(step: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        if is_no_space(&source) {
            return Self::NoSpace { step, path };
        }
        Self::Storage { step, path, source: Arc::new(source) }
    }

    /// What kind of failure it is, in one word: one of a few, fit to be counted by.
    pub fn class(&self) -> &'static str {
        match self {
            Self::NotInRegistry { .. } | Self::ImageNotFound { .. } => "not_found",
            Self::Unauthorized { .. } | Self::InvalidCredentials { .. } => "unauthorized",
            Self::Forbidden { .. } | Self::Blocked { .. } => "forbidden",
            Self::Unavailable { .. } => "unavailable",
            Self::Timeout { .. } => "timeout",
            Self::Insecure { .. } => "insecure",
            Self::BadAnswer { .. } => "bad_answer",
            Self::NoSpace { .. } => "no_space",
            Self::Storage { .. } | Self::RootBusy { .. } => "storage",
            Self::Cancelled { .. } => "cancelled",
            Self::Unsupported { .. } => "unsupported",
            error if error.blames_content() => "bad_content",
            Self::InvalidManifest { .. } | Self::InvalidArchive { .. } => "bad_content",
            _ => "refused",
        }
    }

    /// Whether trying the same thing again, or at another registry, can help.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout { .. })
    }

    /// Whether the bytes that came are at fault, and not the way here or the local disk.
    pub(crate) fn blames_content(&self) -> bool {
        matches!(
            self,
            Self::HostileLayer { .. }
                | Self::CorruptLayer { .. }
                | Self::DigestMismatch { .. }
                | Self::SizeMismatch { .. }
                | Self::TooLarge { .. }
                | Self::Unsupported { .. }
        )
    }
}

/// What is attempted at a registry: to fetch something, unless it says itself what it is.
fn doing(what: &str) -> String {
    let is_verb = ["push ", "log in "].iter().any(|verb| what.starts_with(verb));
    if is_verb { what.to_owned() } else { format!("fetch {what}") }
}

/// Whether an I/O error says that bytes, inodes or quota ran out.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_own_variant() {
        for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
            let error = Error::storage("write", "/x", errno.into());
            assert!(matches!(error, Error::NoSpace { step: "write", .. }), "{errno}: {error}");
        }
        let error = Error::storage("write", "/x", rustix::io::Errno::IO.into());
        assert!(matches!(error, Error::Storage { .. }));
    }
}
