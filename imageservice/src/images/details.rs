//! What people ask of a node's images: what is on its way, what an image is made of, and one more
//! name for it.

use std::time::Instant;

use super::Images;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::export::{self, Export, ExportRequest};
use crate::image::{Image, ImageId};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::Label;

/// A pull under way, as others than who asked for it see it.
#[derive(Debug, Clone)]
pub struct PullInFlight {
    /// What is pulled.
    pub reference: Reference,
    /// Whether the registry is shown credentials.
    pub authenticated: bool,
    /// When it began.
    pub since: Instant,
    /// How far it is.
    pub progress: Progress,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    /// Digest of its uncompressed archive.
    pub diff_id: Digest,
    /// Bytes on disk.
    pub size: u64,
}

impl Images {
    /// The pulls under way, in no particular order.
    pub fn pulls(&self) -> Vec<PullInFlight> {
        let pulls = self.0.pulls();
        let view = |(key, pull): (&super::PullKey, &super::Pull)| PullInFlight {
            reference: key.reference.clone(),
            authenticated: key.credentials.is_some(),
            since: pull.since,
            progress: pull.progress().clone(),
        };
        pulls.iter().map(view).collect()
    }

    /// The layers of an image, bottom first; one that comes twice is there twice.
    pub fn layers(&self, image: &Image) -> Vec<ImageLayer> {
        self.store().layers_of(image)
    }

    /// Begins to write images as an archive.
    ///
    /// # Errors
    /// [`ImageNotFound`](Error::ImageNotFound), [`AmbiguousId`](Error::AmbiguousId);
    /// [`Unsupported`](Error::Unsupported) if a layer cannot be written again as it came.
    pub async fn export(&self, request: ExportRequest) -> Result<Export> {
        let operation = self.0.operation(format!("export {}", request.images.join(", ")));
        export::export(&self.0.assembler, request, operation).await
    }

    /// Gives an image one more name, away from the image that had it.
    ///
    /// # Errors
    /// [`ImageNotFound`](Error::ImageNotFound), and [`Storage`](Error::Storage).
    pub async fn tag(&self, id: &ImageId, name: &Reference) -> Result<()> {
        let (id, name) = (id.clone(), name.clone());
        self.blocking(move |store| {
            let not_found = || Error::ImageNotFound { name: id.to_string() };
            let image = store.find(&id.to_string())?.ok_or_else(not_found)?;
            let label = Label {
                id: id.clone(),
                manifest_digest: image.manifest_digest().clone(),
                manifest: image.core.manifest.clone(),
                names: vec![name],
                pinned: false,
            };
            store.relabel(label)?.map(drop).ok_or_else(not_found)
        })
        .await
    }
}
