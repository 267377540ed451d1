//! OCI images made from what is on the machine, whole in memory: any layer, any config, any
//! media type, honest or hostile. Knows nothing of registries and daemons.
//!
//! Everything is deterministic: the same calls give the same digests, on any machine with the
//! same busybox.

pub mod archive;
mod big;
mod builder;
mod bulk;
mod busybox;
mod layer;
mod probe;

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use big::big;
pub use builder::ImageBuilder;
pub use bulk::{Bulk, Prose};
pub use layer::{Entry, Layer};
pub use probe::probe;

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A bare tar archive.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878; OCI media types only.
    Zstd,
}

/// Whose media types an image carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI image-spec 1.0.
    Oci,
    /// Docker image manifest version 2, schema 2.
    Docker,
}

impl Format {
    fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    fn layer(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Compression::Gzip) => {
                "application/vnd.docker.image.rootfs.diff.tar.gzip"
            }
            // Docker never had one; what a registry would answer is the OCI type.
            (_, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// Bytes with their digest and media type. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blob {
    /// What the bytes are said to be.
    pub media_type: &'static str,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The content.
    pub bytes: Arc<Vec<u8>>,
}

impl Blob {
    /// Wraps `bytes`, whose digest is computed.
    pub fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self { media_type, digest: digest(&bytes), bytes: Arc::new(bytes) }
    }

    fn json(media_type: &'static str, value: &Value) -> Result<Self> {
        Ok(Self::new(media_type, serde_json::to_vec(value).context("write JSON")?))
    }

    /// The digest without its algorithm.
    pub fn hex(&self) -> &str {
        self.digest.trim_start_matches("sha256:")
    }

    /// The descriptor of image-spec `descriptor.md`.
    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// `sha256:` and the hexadecimal digest of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct Image {
    /// What a tag points at.
    pub manifest: Blob,
    /// Its digest is the image id that CRI reports.
    pub config: Blob,
    /// From the bottom up.
    pub layers: Vec<Blob>,
    platform: Value,
}

impl Image {
    /// An image with no layer.
    pub fn from_scratch() -> ImageBuilder {
        ImageBuilder::new()
    }

    /// An image in which Debian's busybox-static is every command, with users `root` and
    /// `alice` (1000:1000, also in group `staff`, 50), and `sh` as its command.
    pub fn busybox() -> Result<ImageBuilder> {
        let builder = Self::from_scratch().layer(busybox::layer()?);
        Ok(builder.env("PATH", busybox::PATH).cmd(["sh"]))
    }

    /// The pause image that a peer needs: busybox, asleep until it is told to end.
    pub fn pause() -> Result<Self> {
        Self::from_scratch()
            .layer(busybox::alone()?)
            .entrypoint(["/busybox", "sleep", "inf"])
            .build()
    }

    /// The same image with its config and its manifest changed, which need not be true then. The
    /// manifest names the changed config, and `layers` as they are now.
    pub fn changed(
        mut self,
        config: impl FnOnce(&mut Value),
        manifest: impl FnOnce(&mut Value),
    ) -> Result<Self> {
        let mut text = serde_json::from_slice(&self.config.bytes).context("read the config")?;
        config(&mut text);
        self.config = Blob::json(self.config.media_type, &text)?;
        let mut text: Value =
            serde_json::from_slice(&self.manifest.bytes).context("read the manifest")?;
        text["config"] = self.config.descriptor();
        text["layers"] = self.layers.iter().map(Blob::descriptor).collect();
        manifest(&mut text);
        self.manifest = Blob::json(self.manifest.media_type, &text)?;
        Ok(self)
    }

    /// Every blob of the image, the manifest last, as a push sends them.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config, &self.manifest])
    }
}

/// An image index: one name, an image for each platform.
#[derive(Debug, Clone)]
pub struct Index {
    /// What a tag points at.
    pub manifest: Blob,
    /// The images, in the order of the index.
    pub images: Vec<Image>,
}

impl Index {
    /// Lists `images` under their platforms, in their order.
    pub fn new(format: Format, images: Vec<Image>) -> Result<Self> {
        let listed = images.iter().map(|image| {
            let mut descriptor = image.manifest.descriptor();
            descriptor["platform"] = image.platform.clone();
            descriptor
        });
        let listed: Vec<_> = listed.collect();
        let text = json!({ "schemaVersion": 2, "mediaType": format.index(), "manifests": listed });
        Ok(Self { manifest: Blob::json(format.index(), &text)?, images })
    }
}

/// The machine's architecture, as images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
