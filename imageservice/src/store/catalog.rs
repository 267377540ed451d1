//! All that is known of the store, in memory: what reads are answered from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::snapshots::{SnapshotKey, SnapshotRecord};
use crate::digest::{Digest, is_lower_hex};
use crate::error::{Error, Result};
use crate::image::{Image, ImageCore, ImageId};
use crate::reference::{Reference, is_image_id};
use crate::scan::Space;
use crate::seal::Stamp;

/// Shorter beginnings of ids are not accepted: they would be taken for names that do not exist.
const SHORTEST_ID: usize = 4;

/// What makes a layer the one that is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LayerKey {
    /// The same above any layers: by blob and diff id.
    Portable(Digest),
    /// Completed for the layers below it: by these and itself.
    Chained(Digest),
}

/// What is beside a layer's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) version: u32,
    pub(super) key: LayerKey,
    pub(super) diff_id: Digest,
    pub(super) space: Space,
}

/// A layer and how many images, snapshots and leases use it.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) record: LayerRecord,
    pub(super) users: usize,
    /// Whether it is in its final place, or still in that of its ingest.
    pub(super) is_published: bool,
    /// How its root looked when it was sealed.
    pub(super) stamp: Option<Stamp>,
}

/// The state of the store. It follows from the records on disk, but for leases.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    images: BTreeMap<ImageId, Arc<Image>>,
    names: BTreeMap<Reference, ImageId>,
    layers: BTreeMap<u64, Layer>,
    numbers: HashMap<LayerKey, u64>,
    snapshots: BTreeMap<SnapshotKey, Arc<SnapshotRecord>>,
}

/// How an image was found.
pub(super) struct Match {
    pub(super) image: Arc<Image>,
    /// The name, if it was found by one and not by its id.
    pub(super) name: Option<Reference>,
}

impl Catalog {
    pub(super) fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.images.values()
    }

    pub(super) fn image(&self, id: &ImageId) -> Option<&Arc<Image>> {
        self.images.get(id)
    }

    /// Ids first, whole or, if no image has that name, by an unambiguous beginning.
    pub(super) fn find(&self, query: &str) -> Result<Option<Match>> {
        let by_id = |image: &Arc<Image>| Match { image: Arc::clone(image), name: None };
        let (has_algorithm, hex) = match query.strip_prefix("sha256:") {
            Some(hex) => (true, hex),
            None => (false, query),
        };
        if is_image_id(hex) {
            let id = ImageId::of_hex(hex);
            return Ok(id.and_then(|id| self.images.get(&id)).map(by_id));
        }
        let is_short_id = hex.len() >= SHORTEST_ID && hex.len() < 64 && is_lower_hex(hex);
        if !(has_algorithm && is_short_id) {
            let name: Reference = query.parse()?;
            if let Some(image) = self.names.get(&name).and_then(|id| self.images.get(id)) {
                return Ok(Some(Match { image: Arc::clone(image), name: Some(name) }));
            }
        }
        if !is_short_id {
            return Ok(None);
        }
        let mut matching = self.images.values().filter(|image| image.id().hex().starts_with(hex));
        match (matching.next(), matching.next()) {
            (Some(_), Some(_)) => Err(Error::AmbiguousId { id: query.to_owned() }),
            (first, _) => Ok(first.map(by_id)),
        }
    }

    pub(super) fn usage(&self) -> Space {
        let mut sum = Space::default();
        for layer in self.layers.values() {
            sum += layer.record.space;
        }
        sum
    }

    /// Adds an image, or puts a newer record of it in the place of the old one.
    pub(super) fn put_image(&mut self, core: Arc<ImageCore>) {
        let id = core.id.clone();
        let layers = core.layers.clone();
        if self.images.insert(id.clone(), Arc::new(Image::new(core))).is_none() {
            self.hold(&layers);
        }
        self.refresh(&id);
    }

    /// Takes an image away. Its names must be gone; the layers that nobody uses now are returned.
    pub(super) fn take_image(&mut self, id: &ImageId) -> Vec<u64> {
        match self.images.remove(id) {
            Some(image) => self.release(&image.core.layers),
            None => Vec::new(),
        }
    }

    /// Points a name to an image, away from any other.
    pub(super) fn put_name(&mut self, name: Reference, id: &ImageId) {
        if let Some(before) = self.names.insert(name, id.clone()) {
            self.refresh(&before);
        }
        self.refresh(id);
    }

    pub(super) fn take_name(&mut self, name: &Reference) {
        if let Some(id) = self.names.remove(name) {
            self.refresh(&id);
        }
    }

    pub(super) fn names_of(&self, id: &ImageId) -> Vec<Reference> {
        self.names.iter().filter(|(_, image)| *image == id).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&Reference, &ImageId)> {
        self.names.iter()
    }

    pub(super) fn put_layer(&mut self, number: u64, layer: Layer) {
        self.numbers.insert(layer.record.key.clone(), number);
        self.layers.insert(number, layer);
    }

    pub(super) fn layer(&self, number: u64) -> Option<&Layer> {
        self.layers.get(&number)
    }

    pub(super) fn layer_mut(&mut self, number: u64) -> Option<&mut Layer> {
        self.layers.get_mut(&number)
    }

    pub(super) fn layers(&self) -> impl Iterator<Item = (&u64, &Layer)> {
        self.layers.iter()
    }

    pub(super) fn layer_by_key(&self, key: &LayerKey) -> Option<u64> {
        self.numbers.get(key).copied()
    }

    /// Takes away every layer without users, and tells which.
    pub(super) fn take_unused_layers(&mut self) -> Vec<u64> {
        let unused = self.layers.iter().filter(|(_, layer)| layer.users == 0);
        let unused: Vec<u64> = unused.map(|(number, _)| *number).collect();
        unused.iter().for_each(|number| self.forget_layer(*number));
        unused
    }

    /// One more user for each of these layers.
    pub(super) fn hold(&mut self, layers: &[u64]) {
        for number in layers {
            if let Some(layer) = self.layers.get_mut(number) {
                layer.users += 1;
            }
        }
    }

    /// One user less for each of these layers; those without any are forgotten and returned.
    pub(super) fn release(&mut self, layers: &[u64]) -> Vec<u64> {
        let mut unused = Vec::new();
        for number in layers {
            if let Some(layer) = self.layers.get_mut(number) {
                layer.users -= 1;
                if layer.users == 0 {
                    self.forget_layer(*number);
                    unused.push(*number);
                }
            }
        }
        unused
    }

    /// Has nobody find a layer any more by what it is.
    pub(super) fn disown(&mut self, number: u64) {
        self.numbers.retain(|_, known| *known != number);
    }

    fn forget_layer(&mut self, number: u64) {
        if let Some(layer) = self.layers.remove(&number) {
            // Another layer of the same key may have come meanwhile.
            if self.numbers.get(&layer.record.key) == Some(&number) {
                self.numbers.remove(&layer.record.key);
            }
        }
    }

    pub(super) fn put_snapshot(&mut self, snapshot: Arc<SnapshotRecord>) {
        let layers = snapshot.all_layers();
        if self.snapshots.insert(snapshot.key.clone(), snapshot).is_none() {
            self.hold(&layers);
        }
    }

    /// Takes a snapshot away; the layers that nobody uses now are returned.
    pub(super) fn take_snapshot(&mut self, key: &SnapshotKey) -> Vec<u64> {
        match self.snapshots.remove(key) {
            Some(snapshot) => self.release(&snapshot.all_layers()),
            None => Vec::new(),
        }
    }

    pub(super) fn snapshot(&self, key: &SnapshotKey) -> Option<&Arc<SnapshotRecord>> {
        self.snapshots.get(key)
    }

    pub(super) fn snapshots(&self) -> impl Iterator<Item = &Arc<SnapshotRecord>> {
        self.snapshots.values()
    }

    /// Gives an image's view the names that it has now.
    fn refresh(&mut self, id: &ImageId) {
        let names = self.names_of(id);
        if let Some(image) = self.images.get_mut(id) {
            *image = Arc::new(image.with_names(&names));
        }
    }
}
