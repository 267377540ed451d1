//! Where each thing is below the root.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::snapshots::SnapshotKey;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::ImageId;
use crate::reference::Reference;

/// The directory of a layer that is always there and always empty: what overlayfs stacks an image
/// without layers on, since it takes no less than one lower directory.
pub(super) const EMPTY_LAYER: u64 = 0;

/// Knows the names below the root, and nothing of what is in them.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes all directories that are missing. Only root may look into them.
    pub(super) fn create(root: &Path) -> Result<Self> {
        let layout = Self { root: root.to_owned() };
        let empty_layer = layout.layer_tree(EMPTY_LAYER);
        for directory in layout.directories().iter().chain([&empty_layer, &layout.no_layer()]) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|e| Error::storage("make directory", directory, e))?;
        }
        // The root directory of an image, as containers see it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&empty_layer, mode)
            .map_err(|e| Error::storage("set mode of", &empty_layer, e))?;
        Ok(layout)
    }

    /// Every directory that belongs here, by itself.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        vec![
            self.layers(),
            self.ingests(),
            self.partials(),
            self.root.join("records"),
            self.images(),
            self.names(),
            self.snapshot_records(),
            self.signatures(),
            self.snapshots(),
            self.trash(),
            self.quarantine(),
        ]
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(super) fn layer(&self, number: u64) -> PathBuf {
        self.layers().join(number.to_string())
    }

    pub(super) fn layer_tree(&self, number: u64) -> PathBuf {
        self.layer(number).join("fs")
    }

    /// A directory that is always there and always empty, and no layer's tree: overlayfs refuses the
    /// same directory twice.
    pub(super) fn no_layer(&self) -> PathBuf {
        self.layer(EMPTY_LAYER).join("none")
    }

    pub(super) fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(super) fn ingest(&self, number: u64) -> PathBuf {
        self.ingests().join(number.to_string())
    }

    pub(super) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(super) fn images(&self) -> PathBuf {
        self.root.join("records/images")
    }

    pub(super) fn image(&self, id: &ImageId) -> PathBuf {
        self.images().join(format!("{}.json", id.hex()))
    }

    pub(super) fn names(&self) -> PathBuf {
        self.root.join("records/names")
    }

    /// A name may be longer than a file's can be, so its hash stands for it.
    pub(super) fn name(&self, name: &Reference) -> PathBuf {
        let hash = Digest::sha256(name.to_string().as_bytes());
        self.names().join(format!("{}.json", hash.hex()))
    }

    pub(super) fn snapshot_records(&self) -> PathBuf {
        self.root.join("records/snapshots")
    }

    pub(super) fn snapshot_record(&self, key: &SnapshotKey) -> PathBuf {
        self.snapshot_records().join(format!("{key}.json"))
    }

    /// Kept by [`crate::trust`].
    pub(super) fn signatures(&self) -> PathBuf {
        self.root.join("records/signatures")
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(super) fn snapshot(&self, key: &SnapshotKey) -> PathBuf {
        self.snapshots().join(key.as_str())
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
}
