//! Images from an archive: an OCI image layout in a tar stream, or what `docker save` writes.
//!
//! The stream is spooled to disk, inflated, because manifests come after the blobs that they name;
//! from there everything goes the way of a pull, with the same checks.

mod archive;
mod docker;
mod layout;
mod spool;

use std::sync::Arc;

use tokio::io::AsyncRead;

pub(crate) use self::archive::Archive;
use crate::assemble::{Assembler, Recipe};
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::image::ImageId;
use crate::operation::Operation;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::source::Source;

/// How to import an archive.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// Names for the image, instead of those in the archive, which must then have one image.
    pub names: Vec<Reference>,
    /// Whether the images are to be kept from garbage collection.
    pub pinned: bool,
}

/// Imports all images of an archive that are for this platform. If one fails, those before it are
/// here and the others are not.
pub(crate) async fn import(
    assembler: &Assembler,
    reader: impl AsyncRead + Unpin,
    request: ImportRequest,
    operation: &Operation,
) -> Result<Vec<ImageId>> {
    let archive = Arc::new(spool::spool(assembler, reader, operation).await?);
    let (config, source) = (Arc::clone(&assembler.config), Arc::clone(&archive));
    let recipes = blocking(&assembler.tasks, move || recipes(&source, &config, request)).await?;
    let source = Source::Archive(archive);
    let mut images = Vec::new();
    for recipe in recipes {
        // Each image has layers of its own to count.
        let operation = Operation { progress: Progress::default(), ..operation.clone() };
        let assembled = assembler.assemble(&source, recipe, &operation).await?;
        images.push(assembled.image.id().clone());
    }
    Ok(images)
}

fn recipes(
    archive: &Archive,
    config: &crate::config::Config,
    request: ImportRequest,
) -> Result<Vec<Recipe>> {
    let mut recipes = if archive.has(layout::INDEX) {
        layout::recipes(archive, config)?
    } else if archive.has(docker::MANIFEST) {
        docker::recipes(archive, config)?
    } else {
        let reason =
            "neither an OCI image layout nor a docker archive: no index.json, no manifest.json";
        return Err(Error::InvalidArchive { reason: reason.to_owned() });
    };
    if !request.names.is_empty() {
        let [recipe] = recipes.as_mut_slice() else {
            let reason = format!("names were given for one image, it has {}", recipes.len());
            return Err(Error::InvalidArchive { reason });
        };
        recipe.label.names = request.names;
    }
    for recipe in &mut recipes {
        recipe.label.pinned = request.pinned;
    }
    Ok(recipes)
}
