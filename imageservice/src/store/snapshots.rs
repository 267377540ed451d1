//! Writable layers of containers: two directories and a record each.
//!
//! This is on the way of every container start, so nothing here is synced. The record comes before
//! the directories and goes after them; a power cut may take the record of the last second, and the
//! audit then finds directories that nobody owns.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use fail::fail_point;
use serde::{Deserialize, Serialize};

use super::layers::make_directory;
use super::layout::EMPTY_LAYER;
use super::record::{self, Durability};
use super::{Store, locked};
use crate::error::{Error, Result};
use crate::image::ImageId;
use crate::scan::{self, Space};
use crate::volume;

/// Names a snapshot: the id of a container, or another word of letters, digits, `_`, `.` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotKey(String);

impl SnapshotKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotKey {
    type Err = Error;

    /// It becomes a file name, so it must be one, and stay one with an ending.
    fn from_str(key: &str) -> Result<Self> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let reason = if key.is_empty() || key.len() > 128 {
            "it must have 1 to 128 characters"
        } else if key.starts_with('.') || !key.bytes().all(is_word) {
            "it must have letters, digits, _, . and - only, and not start with a dot"
        } else {
            return Ok(Self(key.to_owned()));
        };
        Err(Error::InvalidKey { key: key.chars().take(256).collect(), reason })
    }
}

impl TryFrom<String> for SnapshotKey {
    type Error = Error;

    fn try_from(key: String) -> Result<Self> {
        key.parse()
    }
}

impl From<SnapshotKey> for String {
    fn from(key: SnapshotKey) -> Self {
        key.0
    }
}

impl fmt::Display for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an overlay mount of a container's root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// Read-only directories, top first, at least one. All are `DIR/N/fs` of one directory `DIR`,
    /// so that a mount helper that goes there can name them shortly.
    pub lowers: Vec<PathBuf>,
    /// The writable directory.
    pub upper: PathBuf,
    /// Overlayfs's own directory, on the file system of `upper`.
    pub work: PathBuf,
}

/// A directory of an image that is mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRequest {
    /// The image, or artifact.
    pub image: ImageId,
    /// A path in it, relative to its root; empty for all of it.
    pub sub_path: String,
}

/// What a read-only overlay mount of an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Directories, top first, at least two: overlayfs takes no less without a writable one.
    pub lowers: Vec<PathBuf>,
}

/// All that a container is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its root file system.
    pub rootfs: Rootfs,
    /// Its volumes, in the order in which they were asked for.
    pub volumes: Vec<Volume>,
}

/// A snapshot and the image that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose writable layer it is.
    pub key: SnapshotKey,
    /// The image below it, which may be removed by now.
    pub image: ImageId,
}

/// A snapshot on disk.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    pub(super) version: u32,
    pub(super) key: SnapshotKey,
    pub(super) image: ImageId,
    /// Top first.
    pub(super) layers: Vec<u64>,
    /// The layers of each volume, top first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) volumes: Vec<Vec<u64>>,
}

impl SnapshotRecord {
    /// Every layer that it uses, as often as it does.
    pub(super) fn all_layers(&self) -> Vec<u64> {
        self.volumes.iter().flatten().chain(&self.layers).copied().collect()
    }
}

impl Store {
    /// Makes the writable layer of a container, or finds it if it was made before. Blocks.
    pub(crate) fn prepare(
        &self,
        image: &ImageId,
        key: &SnapshotKey,
        volumes: &[VolumeRequest],
    ) -> Result<Prepared> {
        let _commit = locked(&self.snapshot_commit);
        if self.read().snapshot(key).is_none() {
            self.check_whole(volumes.iter().map(|volume| &volume.image).chain([image]))?;
        }
        let record = self.reserve(image, key, volumes)?;
        let made = self.find_volumes(&record, volumes).and_then(|volumes| {
            let rootfs = self.make_snapshot(&record)?;
            Ok(Prepared { rootfs, volumes })
        });
        if made.is_err() {
            // The error at hand is the one to tell.
            let _ = self.remove_snapshot(key);
        }
        made
    }

    /// Puts the snapshot on the books, so that its layers stay.
    fn reserve(
        &self,
        image: &ImageId,
        key: &SnapshotKey,
        volumes: &[VolumeRequest],
    ) -> Result<Arc<SnapshotRecord>> {
        let mut catalog = self.write();
        if let Some(existing) = catalog.snapshot(key) {
            if existing.image == *image && existing.volumes.len() == volumes.len() {
                return Ok(Arc::clone(existing));
            }
            let (what, by) = (format!("snapshot {key}"), format!("image {}", existing.image));
            return Err(Error::InUse { what, by });
        }
        let layers = |image: &ImageId| match catalog.image(image) {
            Some(found) => Ok(found.core.layers.clone()),
            None => Err(Error::ImageNotFound { name: image.to_string() }),
        };
        let record = Arc::new(SnapshotRecord {
            version: 1,
            key: key.clone(),
            image: image.clone(),
            layers: layers(image)?,
            volumes: volumes.iter().map(|v| layers(&v.image)).collect::<Result<_>>()?,
        });
        catalog.put_snapshot(Arc::clone(&record));
        Ok(record)
    }

    fn make_snapshot(&self, snapshot: &SnapshotRecord) -> Result<Rootfs> {
        let path = self.layout.snapshot_record(&snapshot.key);
        let directory = self.layout.snapshot(&snapshot.key);
        let rootfs = Rootfs {
            lowers: self.lowers(&snapshot.layers),
            upper: directory.join("upper"),
            work: directory.join("work"),
        };
        if rootfs.work.exists() {
            return Ok(rootfs);
        }
        record::stage(&path, snapshot, Durability::Volatile)?.commit()?;
        fail_point!("snapshot.prepare.record");
        // Of an earlier life, cut short.
        self.janitor.clear(&directory)?;
        make_directory(&directory, 0o700)?;
        make_directory(&rootfs.upper, 0o755)?;
        make_directory(&rootfs.work, 0o700)?;
        Ok(rootfs)
    }

    fn find_volumes(
        &self,
        snapshot: &SnapshotRecord,
        requests: &[VolumeRequest],
    ) -> Result<Vec<Volume>> {
        let find = |(layers, request): (&Vec<u64>, &VolumeRequest)| {
            let VolumeRequest { image, sub_path } = request;
            let refuse = |fault| match fault {
                volume::Fault::Disk(e) => Error::storage("look into image", image.to_string(), e),
                volume::Fault::Path(reason) => Error::BadSubPath {
                    image: image.to_string(),
                    path: sub_path.chars().take(256).collect(),
                    reason: reason.to_owned(),
                },
            };
            let mut lowers = volume::directories(self.lowers(layers), sub_path).map_err(refuse)?;
            if lowers.len() == 1 {
                lowers.push(self.layout.no_layer());
            }
            Ok(Volume { lowers })
        };
        snapshot.volumes.iter().zip(requests).map(find).collect()
    }

    fn lowers(&self, layers: &[u64]) -> Vec<PathBuf> {
        let layers = if layers.is_empty() { &[EMPTY_LAYER] } else { layers };
        layers.iter().map(|number| self.layout.layer_tree(*number)).collect()
    }

    /// Throws a container's writable layer away; one that is not there is gone already. Blocks.
    pub(crate) fn release(&self, key: &SnapshotKey) -> Result<()> {
        let _commit = locked(&self.snapshot_commit);
        self.remove_snapshot(key)
    }

    fn remove_snapshot(&self, key: &SnapshotKey) -> Result<()> {
        self.janitor.clear(&self.layout.snapshot(key))?;
        fail_point!("snapshot.release.cleared");
        record::remove(&self.layout.snapshot_record(key))?;
        let unused = self.write().take_snapshot(key);
        self.measurements.forget(key);
        self.discard_layers(&unused);
        Ok(())
    }

    /// All snapshots, by key.
    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        let catalog = self.read();
        let snapshot = |record: &Arc<SnapshotRecord>| Snapshot {
            key: record.key.clone(),
            image: record.image.clone(),
        };
        catalog.snapshots().map(snapshot).collect()
    }

    /// What a container has written, by walking its writable layer. Blocks.
    pub(crate) fn snapshot_usage(&self, key: &SnapshotKey) -> Result<Option<Space>> {
        if self.read().snapshot(key).is_none() {
            return Ok(None);
        }
        let upper = self.layout.snapshot(key).join("upper");
        match scan::measure(&upper) {
            Ok(space) => {
                self.measurements.put(key, space);
                if self.read().snapshot(key).is_none() {
                    self.measurements.forget(key);
                }
                Ok(Some(space))
            }
            // Released meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::storage("measure", &upper, error)),
        }
    }
}
