//! An OCI image layout: `index.json` names manifests, blobs lie by digest (OCI image specification,
//! "Image Layout").

use super::archive::Archive;
use crate::assemble::Recipe;
use crate::config::Config;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Configuration, Descriptor, Document, Manifest};
use crate::pull::choose;
use crate::reference::Reference;
use crate::store::Label;

pub(super) const INDEX: &str = "index.json";
/// containerd's full name of an image, which docker writes too.
const FULL_NAME: &str = "io.containerd.image.name";
/// By the specification a tag; some tools write a full name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const MAX_INDEXES: usize = 4;

/// The images of a layout that are for this platform.
pub(super) fn recipes(archive: &Archive, config: &Config) -> Result<Vec<Recipe>> {
    let index = archive.read(INDEX, config.limits.document)?;
    let what = "index.json of the archive";
    let Document::Index(entries) = Document::parse(&index, &[], &config.limits, what)? else {
        return Err(Error::InvalidArchive { reason: "index.json is no index".to_owned() });
    };
    let runs_here = |entry: &&Descriptor| {
        entry.platform.as_ref().is_none_or(|offered| config.platform.rank(offered).is_some())
    };
    let recipes: Vec<Recipe> = entries
        .iter()
        .filter(runs_here)
        .map(|entry| recipe(archive, entry, config))
        .collect::<Result<_>>()?;
    if recipes.is_empty() {
        // Says which platforms there are.
        choose(&entries, &config.platform, what)?;
    }
    Ok(recipes)
}

fn recipe(archive: &Archive, entry: &Descriptor, config: &Config) -> Result<Recipe> {
    let names = names(entry);
    let title = names.first().map_or_else(|| entry.digest.to_string(), Reference::to_string);
    let (manifest_digest, raw_manifest, manifest) = find_manifest(archive, entry, config, &title)?;
    for layer in &manifest.layers {
        archive.has_blob(layer.digest.clone(), &blob(&layer.digest));
    }
    let configuration = match manifest.stand_in() {
        Some(stand_in) => stand_in,
        None => {
            let what = format!("config {} of {title}", manifest.config.digest);
            let raw = verified(archive, &manifest.config, config, &what)?;
            Configuration::parse(raw, manifest.layers.len(), &config.platform, &what)?
        }
    };
    let digests: Vec<_> = names.iter().map(|name| name.with_digest(entry.digest.clone())).collect();
    let label = Label {
        id: manifest.id(),
        manifest_digest,
        manifest: Some(raw_manifest),
        names: [names, digests].concat(),
        pinned: false,
    };
    Ok(Recipe { title, label, manifest, configuration })
}

fn find_manifest(
    archive: &Archive,
    entry: &Descriptor,
    config: &Config,
    title: &str,
) -> Result<(Digest, String, Manifest)> {
    let what = format!("manifest of {title}");
    let mut entry = entry.clone();
    for _ in 0..=MAX_INDEXES {
        let bytes = verified(archive, &entry, config, &what)?;
        match Document::parse(&bytes, &[&entry.media_type], &config.limits, &what)? {
            Document::Image(manifest) => {
                // JSON that was understood is UTF-8.
                let raw = String::from_utf8_lossy(&bytes).into_owned();
                return Ok((entry.digest, raw, manifest));
            }
            Document::Index(entries) => entry = choose(&entries, &config.platform, &what)?,
        }
    }
    let reason = "an index of an index of an index, and so on".to_owned();
    Err(Error::InvalidManifest { what, reason })
}

/// A blob that is what its descriptor says.
fn verified(archive: &Archive, entry: &Descriptor, config: &Config, what: &str) -> Result<Vec<u8>> {
    let bytes = archive.read(&blob(&entry.digest), config.limits.document)?;
    let (what, expected) = (what.to_owned(), entry.digest.clone());
    if bytes.len() as u64 != entry.size {
        return Err(Error::SizeMismatch { what, expected: entry.size, got: bytes.len() as u64 });
    }
    match entry.digest.check(&bytes) {
        Ok(()) => Ok(bytes),
        Err(got) => Err(Error::DigestMismatch { what, expected, got }),
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/{}", digest.as_str().replace(':', "/"))
}

/// A bare tag is no name: of which repository it is, the archive does not say.
fn names(entry: &Descriptor) -> Vec<Reference> {
    let is_full = |name: &&String| name.contains(['/', ':']);
    let name = entry.annotations.get(FULL_NAME);
    let name = name.or_else(|| entry.annotations.get(REF_NAME).filter(is_full));
    name.and_then(|name| name.parse().ok()).into_iter().collect()
}
