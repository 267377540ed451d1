//! What an archive will have in it, before the first byte is written.

use std::collections::HashMap;
use std::sync::Arc;

use super::tag_of;
use super::write::{Sink, member_size};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::layer::Rewriter;
use crate::reference::Reference;
use crate::store::{LayerLease, Store};

/// An image that was asked for, and the names that it was asked for by.
pub(super) struct Selected {
    pub(super) image: Arc<Image>,
    pub(super) names: Vec<Reference>,
    /// By diff id; they keep the layers here.
    pub(super) leases: HashMap<Digest, LayerLease>,
}

/// All members of an archive, in order.
#[derive(Default)]
pub(super) struct Plan {
    members: Vec<(String, Member)>,
    leases: Vec<LayerLease>,
}

enum Member {
    Bytes(Vec<u8>),
    Layer(Box<Rewriter>),
}

/// Finds the images, each once.
pub(super) fn select(store: &Arc<Store>, texts: &[String]) -> Result<Vec<Selected>> {
    let mut selected: Vec<Selected> = Vec::new();
    for text in texts {
        let not_found = || Error::ImageNotFound { name: text.clone() };
        let image = store.find(text)?.ok_or_else(not_found)?;
        let name = tag_of(text, image.repo_tags());
        if let Some(known) = selected.iter_mut().find(|known| known.image.id() == image.id()) {
            known.names.extend(name.filter(|name| !known.names.contains(name)));
            continue;
        }
        let leases = store.lease_image(image.id()).ok_or_else(not_found)?.into_iter().collect();
        selected.push(Selected { image, names: name.into_iter().collect(), leases });
    }
    Ok(selected)
}

impl Selected {
    /// Diff ids of the layers, bottom first.
    pub(super) fn diff_ids(&self) -> Vec<Digest> {
        let ids = self.image.config().rootfs().diff_ids();
        ids.iter().filter_map(|id| id.parse().ok()).collect()
    }
}

impl Plan {
    /// Adds a member of bytes, once.
    pub(super) fn put(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        let name = name.into();
        if !self.has(&name) {
            self.members.push((name, Member::Bytes(bytes)));
        }
    }

    /// Adds the layers of an image, each once, and answers their sizes, bottom first.
    pub(super) fn put_layers(
        &mut self,
        store: &Store,
        selected: &mut Selected,
        name: impl Fn(&Digest) -> String,
    ) -> Result<Vec<u64>> {
        let mut sizes = Vec::new();
        for diff_id in selected.diff_ids() {
            let name = name(&diff_id);
            let known = self.members.iter().find(|(other, _)| *other == name);
            if let Some((_, member)) = known {
                sizes.push(member.size());
                continue;
            }
            let lease = selected.leases.remove(&diff_id).ok_or_else(|| Error::ImageNotFound {
                name: format!("layer {diff_id} of image {}", selected.image.id()),
            })?;
            let layer = Member::Layer(Box::new(store.rewriter(&lease, &diff_id)?));
            sizes.push(layer.size());
            self.members.push((name, layer));
            self.leases.push(lease);
        }
        Ok(sizes)
    }

    fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(other, _)| other == name)
    }

    /// Bytes of the whole archive.
    pub(super) fn size(&self) -> u64 {
        let members = self.members.iter().map(|(_, member)| member_size(member.size()));
        members.sum::<u64>() + super::write::END
    }

    /// Writes the archive.
    pub(super) fn write<F: FnMut(bytes::Bytes) -> Result<()>>(
        self,
        sink: &mut Sink<F>,
    ) -> Result<()> {
        let Self { members, leases } = self;
        for (name, member) in members {
            let size = member.size();
            sink.begin(&name, size)?;
            match member {
                Member::Bytes(bytes) => sink.write(&bytes)?,
                Member::Layer(layer) => layer.write(|bytes| sink.write(bytes))?,
            }
            sink.pad(size)?;
        }
        drop(leases);
        sink.end()
    }
}

impl Member {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Layer(layer) => layer.size(),
        }
    }
}
