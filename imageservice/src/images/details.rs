//! What people ask of a node's images: what is on its way, what an image is made of, and one more
//! name for it.

use std::time::Instant;

use super::Images;
use crate::assemble::Assembler;
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::export::{self, Export, ExportRequest};
use crate::image::{Image, ImageId};
use crate::progress::{Phase, Progress};
use crate::push::{self, PushOutcome, PushRequest};
use crate::reference::Reference;
use crate::registry::{Registry, Upload};
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

    /// Answers how far a push is, and what comes of it. It begins when it is first waited for, and
    /// goes on when nobody waits for it any more.
    ///
    /// # Errors
    /// Of the future: [`ImageNotFound`](Error::ImageNotFound), [`Unsupported`](Error::Unsupported)
    /// if a layer cannot be written again as it came, and whatever a registry may say.
    pub fn push(
        &self,
        request: PushRequest,
    ) -> (Progress, impl Future<Output = Result<PushOutcome>> + use<>) {
        let (images, operation) =
            (self.clone(), self.0.operation(format!("push {}", request.target)));
        let (progress, cancelled) = (operation.progress.clone(), operation.cancelled());
        let tasks = self.0.assembler.tasks.clone();
        // On the heap: it is large, and is handed on many times before it runs.
        let pushing = Box::pin(async move {
            let super::Inner { assembler, registries, .. } = &*images.0;
            let work = push::push(assembler, registries, request, &operation);
            let outcome = operation.within(assembler.config.deadline, work).await;
            operation.progress.enter(Phase::Done);
            outcome
        });
        (progress, async move { tasks.spawn(pushing).await.unwrap_or(Err(cancelled)) })
    }

    /// Reads all files of an image, and compares each layer with its digest. Answers the bytes of
    /// the layers' archives.
    ///
    /// # Errors
    /// [`ImageNotFound`](Error::ImageNotFound); [`DigestMismatch`](Error::DigestMismatch) or
    /// [`Storage`](Error::Storage) if a layer is not what it was;
    /// [`Unsupported`](Error::Unsupported) if that cannot be told of one.
    pub async fn verify(&self, id: &ImageId) -> Result<u64> {
        let id = id.clone();
        let stop = self.0.operation(format!("verify {id}"));
        self.blocking(move |store| {
            let not_found = || Error::ImageNotFound { name: id.to_string() };
            let mut bytes = 0;
            for (diff_id, lease) in store.lease_image(&id).ok_or_else(not_found)? {
                store.rewriter(&lease, &diff_id)?.write(|chunk| {
                    bytes += chunk.len() as u64;
                    if stop.stop.is_cancelled() { Err(stop.cancelled()) } else { Ok(()) }
                })?;
            }
            Ok(bytes)
        })
        .await
    }

    /// Shows credentials to a registry, and answers its name in normal form if it takes them.
    ///
    /// # Errors
    /// [`Unauthorized`](Error::Unauthorized) if it does not, and whatever else a registry may say.
    pub async fn check_login(&self, server: &str, credentials: Credentials) -> Result<String> {
        // Any repository does: nothing is asked of it.
        let reference: Reference = format!("{server}/berth/login").parse()?;
        let operation = self.0.operation(format!("log in to {server}"));
        let Assembler { config, tasks, .. } = &self.0.assembler;
        let opening =
            Registry::open(reference.clone(), config, Some(credentials), &self.0.registries, tasks);
        let greeting = Box::pin(async { Upload::of(opening.await?)?.greet().await });
        operation.unless_stopped(greeting).await?;
        Ok(reference.domain().to_owned())
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
