//! Layers that are not what they were: found by a look at them before they are used, and taken out
//! of use with the images that need them, so that the next pull fetches them again.

use std::path::Path;
use std::sync::Arc;

use super::catalog::LayerKey;
use super::layers::LayerLease;
use super::record::{self, Durability};
use super::{Store, locked};
use crate::error::{Error, Result};
use crate::image::{Image, ImageId};
use crate::seal::{self, Seal, Stamp};

/// A layer, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) number: u64,
    pub(super) reason: String,
}

/// Name of the seal beside a layer's tree. It may be missing: it is not worth a sync, and the next
/// scrub makes it.
pub(super) fn read_seal(layer: &Path) -> Option<Seal> {
    record::read(&layer.join("seal.json")).ok()
}

impl Store {
    /// Reads a layer's tree and writes its seal beside it. What fails leaves the layer unsealed.
    pub(super) fn seal(&self, number: u64, layer: &Path) {
        let sealed = || -> Result<()> {
            let tree = layer.join("fs");
            let seal = seal::seal(&tree).map_err(|e| Error::storage("read layer", &tree, e))?;
            let _one = locked(&self.seal_commit);
            record::stage(&layer.join("seal.json"), &seal, Durability::Volatile)?.commit()?;
            if let Some(layer) = self.write().layer_mut(number) {
                layer.stamp = Some(seal.stamp);
            }
            Ok(())
        };
        if let Err(error) = sealed() {
            tracing::debug!(layer = number, %error, "cannot seal a layer, ignoring");
        }
    }

    /// Takes a lease of the first of these layers that is here, and whole as far as one look tells.
    /// One that is not is condemned. Blocks.
    pub(crate) fn lease_whole(self: &Arc<Self>, keys: &[LayerKey]) -> Result<Option<LayerLease>> {
        for key in keys {
            while let Some(lease) = self.lease(key) {
                let damage = self.look_at(&[lease.number()]);
                if damage.is_empty() {
                    return Ok(Some(lease));
                }
                self.condemn(&damage)?;
            }
        }
        Ok(None)
    }

    /// Looks at published layers: that they are there, and that nothing in their root has come or
    /// gone.
    pub(super) fn look_at(&self, layers: &[u64]) -> Vec<Damage> {
        let look = |number: &u64| {
            let expected = {
                let catalog = self.read();
                let layer = catalog.layer(*number).filter(|layer| layer.is_published)?;
                layer.stamp
            };
            let reason = match Stamp::of(&self.layout.layer_tree(*number)) {
                Err(error) => format!("its tree cannot be read: {error}"),
                Ok(found) if expected.is_some_and(|expected| expected != found) => {
                    "its tree was changed".to_owned()
                }
                Ok(_) => return None,
            };
            Some(Damage { number: *number, reason })
        };
        layers.iter().filter_map(look).collect()
    }

    /// Takes layers out of use: the images that need them go, nobody finds them any more, and they
    /// go with the last container that still runs on them.
    pub(super) fn condemn(&self, damage: &[Damage]) -> Result<()> {
        let _commit = locked(&self.commit);
        self.condemn_committed(damage)
    }

    /// As [`Store::condemn`], for who holds the right to commit.
    pub(super) fn condemn_committed(&self, damage: &[Damage]) -> Result<()> {
        for Damage { number, reason } in damage {
            tracing::warn!(layer = number, reason, "damaged layer, taking it out of use");
            self.write().disown(*number);
        }
        for image in self.images_on(damage) {
            tracing::warn!(image = %image.id(), "removing an image, one of its layers is damaged");
            let names = self.read().names_of(image.id());
            self.remove_names(&names)?;
            self.remove_image(&image)?;
        }
        Ok(())
    }

    /// The images that have one of these layers.
    pub(super) fn images_on(&self, damage: &[Damage]) -> Vec<Arc<Image>> {
        let has = |image: &&Arc<Image>| {
            damage.iter().any(|damage| image.core.layers.contains(&damage.number))
        };
        self.read().images().filter(has).cloned().collect()
    }

    /// Refuses to make anything of images with damaged layers, and condemns these.
    pub(super) fn check_whole<'a>(
        &self,
        images: impl IntoIterator<Item = &'a ImageId>,
    ) -> Result<()> {
        for id in images {
            let image = self.read().image(id).cloned();
            let damage = image.map(|image| self.look_at(&image.core.layers)).unwrap_or_default();
            if let Some(first) = damage.first() {
                self.condemn(&damage)?;
                let layer = format!("layer {}: {}", first.number, first.reason);
                return Err(Error::ImageDamaged { image: id.to_string(), reason: layer });
            }
        }
        Ok(())
    }
}
