//! What `docker save` writes: `manifest.json` names a configuration and layers by their files.
//!
//! There is no manifest with a digest in it, so one is made up, the same for the same image.

use serde::Deserialize;
use serde_json::json;

use super::archive::Archive;
use crate::assemble::Recipe;
use crate::config::Config;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Configuration, DOCKER_MANIFEST, Document};
use crate::reference::Reference;
use crate::store::Label;

pub(super) const MANIFEST: &str = "manifest.json";
const CONFIG_TYPE: &str = "application/vnd.docker.container.image.v1+json";
const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The images of a docker archive.
pub(super) fn recipes(archive: &Archive, config: &Config) -> Result<Vec<Recipe>> {
    let saved = archive.read(MANIFEST, config.limits.document)?;
    let saved: Vec<SavedImage> = serde_json::from_slice(&saved)
        .map_err(|e| Error::InvalidArchive { reason: format!("manifest.json: {e}") })?;
    saved.into_iter().map(|image| recipe(archive, image, config)).collect()
}

fn recipe(archive: &Archive, saved: SavedImage, config: &Config) -> Result<Recipe> {
    let raw = archive.read(&saved.config, config.limits.document)?;
    let layers = saved.layers.unwrap_or_default();
    let descriptors = layers.iter().map(|name| {
        let digest = archive.digest(name)?;
        archive.has_blob(digest.clone(), name);
        Ok(json!({ "mediaType": LAYER_TYPE, "digest": digest, "size": archive.size(name)? }))
    });
    let made_up = json!({
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": { "mediaType": CONFIG_TYPE, "digest": Digest::sha256(&raw), "size": raw.len() },
        "layers": descriptors.collect::<Result<Vec<_>>>()?,
    });
    let made_up = made_up.to_string();
    let names = saved.repo_tags.unwrap_or_default();
    let names = names.iter().map(|tag| tag.parse()).collect::<Result<Vec<Reference>>>()?;
    let title = names.first().map_or_else(|| saved.config.clone(), Reference::to_string);
    let what = format!("manifest of {title}");
    let parsed = Document::parse(made_up.as_bytes(), &[], &config.limits, &what)?;
    let Document::Image(manifest) = parsed else { unreachable!("it was made up as a manifest") };
    let what = format!("config of {title}");
    let configuration = Configuration::parse(raw, layers.len(), &config.platform, &what)?;
    let label = Label {
        id: manifest.config.digest.clone().into(),
        manifest_digest: Digest::sha256(made_up.as_bytes()),
        manifest: Some(made_up),
        names,
        pinned: false,
    };
    Ok(Recipe { title, label, manifest, configuration })
}
