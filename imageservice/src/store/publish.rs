//! Making an image visible, so that a power cut leaves all of it or nothing.
//!
//! ```text
//! syncfs ─► rename layers, sync directory ─► image record, sync ─► names, sync ─► memory
//! ```
//!
//! Everything that needs space is written before the first record is in its place, so a full disk
//! shows while nothing is visible. A tag moves from one image to another by the rename of one file.

use std::sync::Arc;

use fail::fail_point;
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::record::{self, Durability, Staged, sync_directory};
use super::{Disk, LayerLease, Store, locked};
use crate::accounts::Accounts;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Image, ImageCore, ImageId};
use crate::reference::Reference;

/// What an image is called, and kept for.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    pub(crate) id: ImageId,
    pub(crate) manifest_digest: Digest,
    /// The manifest's very bytes, as far as they are known.
    pub(crate) manifest: Option<String>,
    pub(crate) names: Vec<Reference>,
    pub(crate) pinned: bool,
}

/// All that an image is made of.
#[derive(Debug)]
pub(crate) struct NewImage {
    pub(crate) label: Label,
    /// Of an artifact, its manifest.
    pub(crate) raw_config: String,
    pub(crate) is_artifact: bool,
    /// Bottom first; the same layer may come more than once.
    pub(crate) layers: Vec<Arc<LayerLease>>,
    pub(crate) accounts: Accounts,
    /// Where they were written to.
    pub(crate) disk: Arc<Disk>,
}

/// An image on disk.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub(super) version: u32,
    pub(super) id: ImageId,
    manifest_digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    /// The very bytes whose digest is the id: of the configuration or, of an artifact, of the
    /// manifest.
    config: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_artifact: bool,
    /// Top first, each once.
    pub(super) layers: Vec<u64>,
    size: u64,
    accounts: Accounts,
    pinned: bool,
}

/// A name on disk.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NameRecord {
    pub(super) version: u32,
    pub(super) name: String,
    pub(super) image: ImageId,
}

impl Store {
    /// Publishes an image under its names. An image that is here keeps its layers, and only gets
    /// the names and the pin. Blocks, for as long as the disk needs to sync.
    pub(crate) fn publish(&self, new: NewImage) -> Result<Arc<Image>> {
        let unpublished = self.unpublished(&new.layers);
        if !unpublished.is_empty() {
            self.settle_and_seal(&new.disk, &unpublished)?;
        }
        fail_point!("image.pull.synced");
        let _commit = locked(&self.commit);
        let existing = self.read().image(&new.label.id).cloned();
        let record = match existing {
            Some(image) => ImageRecord::of(&image.core).renewed(&new.label),
            None => self.new_record(&new),
        };
        let used = new.layers.iter().filter(|lease| record.layers.contains(&lease.number()));
        self.publish_layers(&self.unpublished(used))?;
        fail_point!("image.pull.layers");
        self.commit(record, new.label)
    }

    /// Gives an image that is here more names; `None` if it is not here, or not whole. Blocks.
    pub(crate) fn relabel(&self, label: Label) -> Result<Option<Arc<Image>>> {
        let _commit = locked(&self.commit);
        let existing = self.read().image(&label.id).cloned();
        let Some(image) = existing else { return Ok(None) };
        let damage = self.look_at(&image.core.layers);
        if !damage.is_empty() {
            self.condemn_committed(&damage)?;
            return Ok(None);
        }
        if self.has(&image, &label) {
            return Ok(Some(image));
        }
        self.commit(ImageRecord::of(&image.core).renewed(&label), label).map(Some)
    }

    /// Whether there is nothing new in a label.
    fn has(&self, image: &Image, label: &Label) -> bool {
        let names = self.read().names_of(&label.id);
        *image.manifest_digest() == label.manifest_digest
            && (image.core.manifest.is_some() || label.manifest.is_none())
            && (image.pinned() || !label.pinned)
            && label.names.iter().all(|name| names.contains(name))
    }

    /// Writes the records, and shows the image.
    fn commit(&self, record: ImageRecord, label: Label) -> Result<Arc<Image>> {
        let Label { id, names, .. } = label;
        let staged = record::stage(&self.layout.image(&id), &record, Durability::Synced)?;
        let staged_names = self.stage_names(&id, &names)?;
        let core = record.core().map_err(|reason| Error::InvalidManifest {
            what: format!("config of image {id}"),
            reason,
        })?;
        if let Err(error) = self.commit_records(staged, staged_names) {
            if self.read().image(&id).is_none() {
                // Its layers are about to go. The error at hand is the one to tell.
                drop(record::remove(&self.layout.image(&id)));
            }
            return Err(error);
        }
        let mut catalog = self.write();
        catalog.put_image(Arc::new(core));
        for name in names {
            catalog.put_name(name, &id);
        }
        catalog.image(&id).cloned().ok_or_else(|| Error::ImageNotFound { name: id.to_string() })
    }

    fn commit_records(&self, image: Staged, names: Vec<Staged>) -> Result<()> {
        image.commit()?;
        sync_directory(&self.layout.images())?;
        fail_point!("image.pull.record");
        names.into_iter().try_for_each(Staged::commit)?;
        sync_directory(&self.layout.names())?;
        fail_point!("image.pull.names");
        Ok(())
    }

    fn new_record(&self, new: &NewImage) -> ImageRecord {
        // A layer that comes twice does nothing the second time: what it brings or hides, its upper
        // twin brings or hides above it. Overlayfs refuses the same directory twice.
        let mut layers: Vec<u64> = Vec::new();
        for lease in new.layers.iter().rev() {
            if !layers.contains(&lease.number()) {
                layers.push(lease.number());
            }
        }
        let catalog = self.read();
        let sizes = layers.iter().filter_map(|number| catalog.layer(*number));
        ImageRecord {
            version: 1,
            id: new.label.id.clone(),
            manifest_digest: new.label.manifest_digest.clone(),
            manifest: new.label.manifest.clone(),
            config: new.raw_config.clone(),
            is_artifact: new.is_artifact,
            size: sizes.map(|layer| layer.record.space.bytes).sum(),
            layers,
            accounts: new.accounts.clone(),
            pinned: new.label.pinned,
        }
    }

    fn unpublished<'a>(&self, leases: impl IntoIterator<Item = &'a Arc<LayerLease>>) -> Vec<u64> {
        let catalog = self.read();
        let mut numbers: Vec<u64> = leases.into_iter().map(|lease| lease.number()).collect();
        numbers.retain(|number| catalog.layer(*number).is_some_and(|layer| !layer.is_published));
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Layers are sealed while the disk is busy: what they are read from is the page cache.
    fn settle_and_seal(&self, disk: &Disk, numbers: &[u64]) -> Result<()> {
        std::thread::scope(|scope| {
            let seal = || {
                for number in numbers {
                    self.seal(*number, &self.layout.ingest(*number));
                }
            };
            // Without a thread, and after a panic, they stay unsealed.
            let sealing = std::thread::Builder::new().name("seal-layers".to_owned());
            let sealing = sealing.spawn_scoped(scope, seal);
            let settled = disk.settle();
            drop(sealing.map(std::thread::ScopedJoinHandle::join));
            settled
        })
    }

    /// Moves layers to their final place. Their bytes are synced; one whose image does not get its
    /// record is found without users, now by its last lease or after a crash by the next start.
    fn publish_layers(&self, numbers: &[u64]) -> Result<()> {
        for number in numbers {
            let (from, to) = (self.layout.ingest(*number), self.layout.layer(*number));
            std::fs::rename(&from, &to).map_err(|e| Error::storage("publish layer", &from, e))?;
            if let Some(layer) = self.write().layer_mut(*number) {
                layer.is_published = true;
            }
        }
        if numbers.is_empty() { Ok(()) } else { sync_directory(&self.layout.layers()) }
    }

    fn stage_names(&self, image: &ImageId, names: &[Reference]) -> Result<Vec<Staged>> {
        let stage = |name: &Reference| {
            let record = NameRecord { version: 1, name: name.to_string(), image: image.clone() };
            record::stage(&self.layout.name(name), &record, Durability::Synced)
        };
        names.iter().map(stage).collect()
    }
}

impl ImageRecord {
    pub(super) fn of(core: &ImageCore) -> Self {
        Self {
            version: 1,
            id: core.id.clone(),
            manifest_digest: core.manifest_digest.clone(),
            manifest: core.manifest.clone(),
            config: core.raw_config.clone(),
            is_artifact: core.is_artifact,
            layers: core.layers.clone(),
            size: core.size,
            accounts: core.accounts.clone(),
            pinned: core.pinned,
        }
    }

    /// The same image, as it was pulled again.
    fn renewed(self, label: &Label) -> Self {
        let manifest_digest = label.manifest_digest.clone();
        let manifest = label.manifest.clone();
        Self { manifest_digest, manifest, pinned: self.pinned || label.pinned, ..self }
    }

    /// The image that the record is of, if the record is whole: its configuration proves it.
    pub(super) fn core(self) -> Result<ImageCore, String> {
        self.id
            .digest()
            .check(self.config.as_bytes())
            .map_err(|got| format!("config has digest {got}"))?;
        let config = match self.is_artifact {
            true => ImageConfiguration::default(),
            false => serde_json::from_str(&self.config).map_err(|e| e.to_string())?,
        };
        Ok(ImageCore {
            id: self.id,
            manifest_digest: self.manifest_digest,
            manifest: self.manifest,
            raw_config: self.config,
            is_artifact: self.is_artifact,
            config,
            layers: self.layers,
            size: self.size,
            accounts: self.accounts,
            pinned: self.pinned,
        })
    }
}
