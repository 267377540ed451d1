//! Layers in the making, and the leases that keep finished ones.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};

use super::Store;
use super::catalog::{Layer, LayerKey, LayerRecord};
use super::record::{self, Durability};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Image, ImageId};
use crate::images::ImageLayer;
use crate::layer::Rewriter;
use crate::scan::{self, Space};

/// A place for something that is not finished. Dropped, it is thrown away.
#[derive(Debug)]
pub(crate) struct Ingest {
    store: Arc<Store>,
    number: u64,
    is_finished: AtomicBool,
}

/// One use of a layer. While it lives, the layer is not deleted, even if no image has it.
#[derive(Debug)]
pub(crate) struct LayerLease {
    store: Arc<Store>,
    number: u64,
}

impl Store {
    /// Makes an empty place below the root. Blocks.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<Ingest> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let ingest =
            Ingest { store: Arc::clone(self), number, is_finished: AtomicBool::new(false) };
        make_directory(&ingest.path(), 0o700)?;
        Ok(ingest)
    }

    /// Makes an empty place for a layer. Blocks.
    pub(crate) fn begin_layer(self: &Arc<Self>) -> Result<Ingest> {
        let ingest = self.begin()?;
        // The root directory of the image, as containers see it, has its usual mode in every layer.
        make_directory(&ingest.tree(), 0o755)?;
        make_directory(&ingest.attic(), 0o700)?;
        Ok(ingest)
    }

    /// Takes a lease of a layer that is here, published or not.
    pub(crate) fn lease(self: &Arc<Self>, key: &LayerKey) -> Option<LayerLease> {
        let mut catalog = self.write();
        let number = catalog.layer_by_key(key)?;
        catalog.hold(&[number]);
        drop(catalog);
        Some(LayerLease { store: Arc::clone(self), number })
    }

    /// The layers of an image as its configuration names them, bottom first, with their sizes.
    pub(crate) fn layers_of(&self, image: &Image) -> Vec<ImageLayer> {
        let catalog = self.read();
        let own = image.core.layers.iter().filter_map(|number| catalog.layer(*number));
        let sizes: HashMap<_, _> =
            own.map(|layer| (&layer.record.diff_id, layer.record.space.bytes)).collect();
        let diff_ids = image.config().rootfs().diff_ids().iter().filter_map(|id| id.parse().ok());
        let sized =
            |diff_id| ImageLayer { size: sizes.get(&diff_id).copied().unwrap_or(0), diff_id };
        diff_ids.map(sized).collect()
    }

    /// Takes a lease of the layer with this number, if it is still here.
    pub(super) fn lease_number(self: &Arc<Self>, number: u64) -> Option<LayerLease> {
        let mut catalog = self.write();
        catalog.layer(number)?;
        catalog.hold(&[number]);
        drop(catalog);
        Some(LayerLease { store: Arc::clone(self), number })
    }

    /// Opens the trees of leased layers. Blocks.
    pub(crate) fn open_trees<'a>(
        &self,
        leases: impl IntoIterator<Item = &'a Arc<LayerLease>>,
    ) -> Result<Vec<OwnedFd>> {
        leases.into_iter().map(|lease| self.open_tree(lease.number)).collect()
    }

    /// The layers of an image, top first and each once, with their diff ids; they stay as long as
    /// the leases. `None` if the image is not here.
    pub(crate) fn lease_image(self: &Arc<Self>, id: &ImageId) -> Option<Vec<(Digest, LayerLease)>> {
        let mut catalog = self.write();
        let numbers = catalog.image(id)?.core.layers.clone();
        catalog.hold(&numbers);
        let named = |number: u64| {
            let diff_id = catalog.layer(number)?.record.diff_id.clone();
            Some((diff_id, LayerLease { store: Arc::clone(self), number }))
        };
        // Every layer of an image is in the catalog: it is held by the image.
        Some(numbers.into_iter().filter_map(named).collect())
    }

    /// Opens a leased layer to be written again as it came. Blocks.
    pub(crate) fn rewriter(&self, lease: &LayerLease, diff_id: &Digest) -> Result<Rewriter> {
        let tree = self.open_tree(lease.number)?;
        let published = spine_of(&self.layout.layer(lease.number));
        let spine = File::open(&published)
            .or_else(|_| File::open(spine_of(&self.layout.ingest(lease.number))));
        let spine = match spine {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            spine => Some(spine.map_err(|e| Error::storage("open", &published, e))?),
        };
        Rewriter::open(spine, tree, diff_id.clone())
    }

    /// Another pull may publish the layer meanwhile: what has left its ingest is in its final
    /// place.
    fn open_tree(&self, number: u64) -> Result<OwnedFd> {
        open_directory(&tree_of(&self.layout.ingest(number)))
            .or_else(|_| open_directory(&self.layout.layer_tree(number)))
    }

    /// Throws away layers that the catalog has just forgotten.
    pub(super) fn discard_layers(&self, numbers: &[u64]) {
        for number in numbers {
            self.janitor.discard(self.layout.layer(*number));
            self.janitor.discard(self.layout.ingest(*number));
        }
    }
}

impl Ingest {
    pub(crate) fn path(&self) -> PathBuf {
        self.store.layout.ingest(self.number)
    }

    fn tree(&self) -> PathBuf {
        tree_of(&self.path())
    }

    fn attic(&self) -> PathBuf {
        self.path().join("attic")
    }

    /// Opens the layer's own tree. Blocks.
    pub(crate) fn open_tree(&self) -> Result<OwnedFd> {
        open_directory(&self.tree())
    }

    /// Makes the file for what of the layer's archive is in no file of its tree. Blocks.
    pub(crate) fn create_spine(&self) -> Result<()> {
        let path = spine_of(&self.path());
        File::create(&path).map(drop).map_err(|e| Error::storage("create", &path, e))
    }

    /// The layer is complete: measures it, writes its record beside it and makes it findable for
    /// other pulls. It is not yet safe from a power cut; [`Store::publish`] sees to that. Blocks.
    pub(crate) fn finish(&self, key: LayerKey, diff_id: Digest) -> Result<LayerLease> {
        self.store.janitor.clear(&self.attic())?;
        let tree = self.tree();
        let mut space = scan::measure(&tree).map_err(|e| Error::storage("measure", &tree, e))?;
        let spine = spine_of(&self.path()).metadata();
        space +=
            spine.map(|spine| Space { bytes: spine.blocks() * 512, inodes: 1 }).unwrap_or_default();
        let record = LayerRecord { version: 1, key, diff_id, space };
        record::stage(&self.path().join("layer.json"), &record, Durability::Volatile)?.commit()?;
        let layer = Layer { record, users: 1, is_published: false, stamp: None };
        self.store.write().put_layer(self.number, layer);
        self.is_finished.store(true, Ordering::Relaxed);
        Ok(LayerLease { store: Arc::clone(&self.store), number: self.number })
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.is_finished.load(Ordering::Relaxed) {
            self.store.janitor.discard(self.path());
        }
    }
}

impl LayerLease {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for LayerLease {
    fn drop(&mut self) {
        let unused = self.store.write().release(&[self.number]);
        self.store.discard_layers(&unused);
    }
}

fn spine_of(layer: &Path) -> PathBuf {
    layer.join("spine")
}

fn tree_of(layer: &Path) -> PathBuf {
    layer.join("fs")
}

/// Makes a directory of exactly this mode, whatever the process's umask is.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let make = || -> std::io::Result<()> {
        DirBuilder::new().mode(mode).create(path)?;
        // Looking is much cheaper than setting, which is a transaction of the file system.
        if path.symlink_metadata()?.mode() & 0o7777 != mode {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
        }
        Ok(())
    };
    make().map_err(|e| Error::storage("make directory", path, e))
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::storage("open directory", path, e.into()))
}
