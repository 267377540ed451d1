//! Taking an image's names away, and the image when it has none left.

use std::sync::Arc;

use fail::fail_point;

use super::record::{self, sync_directory};
use super::{Store, locked};
use crate::error::Result;
use crate::image::{Image, ImageId};
use crate::reference::{Reference, Target};

/// What a removal took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// Names that were removed, in normal form.
    pub names: Vec<String>,
    /// The image, if it is gone.
    pub image: Option<ImageId>,
    /// Bytes of the layers that nobody uses any more.
    pub freed: u64,
}

impl Store {
    /// Removes what the query means: by an id, the image with all its names; by a name, that name,
    /// and the image if it was the last. Digest names go with the last tag of their repository.
    /// What is not here is removed already. Layers that a snapshot uses stay until it goes. Blocks.
    pub(crate) fn remove(&self, query: &str) -> Result<Removal> {
        let _commit = locked(&self.commit);
        let catalog = self.read();
        let Some(found) = catalog.find(query)? else { return Ok(Removal::default()) };
        let names = catalog.names_of(found.image.id());
        drop(catalog);
        let doomed: Vec<Reference> = match &found.name {
            None => names.clone(),
            Some(name) => {
                names.iter().filter(|other| goes_with(other, name, &names)).cloned().collect()
            }
        };
        let mut removal = Removal::default();
        self.remove_names(&doomed)?;
        fail_point!("image.remove.names");
        removal.names = doomed.iter().map(Reference::to_string).collect();
        if doomed.len() == names.len() {
            removal.freed = self.remove_image(&found.image)?;
            removal.image = Some(found.image.id().clone());
        }
        Ok(removal)
    }

    pub(super) fn remove_names(&self, names: &[Reference]) -> Result<()> {
        for name in names {
            record::remove(&self.layout.name(name))?;
            self.write().take_name(name);
        }
        if names.is_empty() { Ok(()) } else { sync_directory(&self.layout.names()) }
    }

    /// The record is gone for good before the first layer is: an image that came back after a power
    /// cut without its layers would be worse than none.
    pub(super) fn remove_image(&self, image: &Arc<Image>) -> Result<u64> {
        record::remove(&self.layout.image(image.id()))?;
        sync_directory(&self.layout.images())?;
        fail_point!("image.remove.record");
        let mut catalog = self.write();
        let before = catalog.usage().bytes;
        let unused = catalog.take_image(image.id());
        let freed = before - catalog.usage().bytes;
        drop(catalog);
        self.discard_layers(&unused);
        Ok(freed)
    }
}

/// Whether a name of an image goes when `name` does.
fn goes_with(other: &Reference, name: &Reference, names: &[Reference]) -> bool {
    let is_tag = |name: &Reference| matches!(name.target(), Target::Tag(_));
    let same_repository = |other: &Reference| other.repository() == name.repository();
    let tags_left = names.iter().any(|tag| is_tag(tag) && tag != name && same_repository(tag));
    other == name || (is_tag(name) && !tags_left && !is_tag(other) && same_repository(other))
}
