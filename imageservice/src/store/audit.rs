//! Everything below the root that no record owns, and every record that owns nothing.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Store;
use super::layout::{EMPTY_LAYER, Layout};
use super::recover::paths;
use super::snapshots::SnapshotKey;
use crate::error::Result;

/// Something that is there and should not be, or the other way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// What kind of thing it is.
    pub kind: StrayKind,
    /// Where it is, or should be.
    pub path: PathBuf,
}

/// Kinds of strays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StrayKind {
    /// A file that has no business here.
    Unknown,
    /// A layer's directory that no image and no snapshot uses.
    Layer,
    /// A layer that an image or a snapshot uses, and that is not there.
    MissingLayer,
    /// Something half made that nobody is making.
    Ingest,
    /// A record that the catalog does not have.
    Record,
    /// A record that the catalog has, and the disk does not.
    MissingRecord,
    /// A container's writable layer without a record.
    SnapshotDirectory,
    /// A snapshot on record whose container does not exist.
    Snapshot,
    /// Something that could not be understood at a start and was set aside.
    Quarantined,
}

/// What the catalog says should be on disk.
struct Expected {
    layers: HashSet<PathBuf>,
    trees: Vec<PathBuf>,
    ingests: HashSet<PathBuf>,
    records: HashSet<PathBuf>,
    snapshots: Vec<(SnapshotKey, PathBuf)>,
}

impl Store {
    /// Compares the disk with the catalog, and the snapshots with those that containers own. What
    /// is under way is not a stray, but may look like one if it begins or ends meanwhile: wait
    /// until pulls are through. Blocks.
    pub(crate) fn audit(&self, live: &HashSet<SnapshotKey>) -> Result<Vec<Stray>> {
        let expected = self.expected();
        let mut found = Found::read(&self.layout)?;
        found.layers.retain(|path| !expected.layers.contains(path));
        found.ingests.retain(|path| !expected.ingests.contains(path));
        let snapshots: HashSet<&PathBuf> =
            expected.snapshots.iter().map(|(_, path)| path).collect();
        found.snapshots.retain(|path| !snapshots.contains(path));
        let is_recorded = |path: &PathBuf| found.records.contains(path);
        let missing_records = expected.records.iter().filter(|path| !is_recorded(path)).cloned();
        let strange_records = found.records.difference(&expected.records).cloned();
        let dead = expected.snapshots.iter().filter(|(key, _)| !live.contains(key));
        let strays =
            |kind, paths: Vec<PathBuf>| paths.into_iter().map(move |path| Stray { kind, path });
        Ok(strays(StrayKind::Unknown, found.unknown)
            .chain(strays(StrayKind::MissingRecord, missing_records.collect()))
            .chain(strays(StrayKind::Record, strange_records.collect()))
            .chain(strays(StrayKind::Layer, found.layers))
            .chain(strays(StrayKind::Ingest, found.ingests))
            .chain(strays(StrayKind::Quarantined, found.quarantined))
            .chain(strays(StrayKind::SnapshotDirectory, found.snapshots))
            .chain(strays(StrayKind::Snapshot, dead.map(|(_, path)| path.clone()).collect()))
            .chain(strays(
                StrayKind::MissingLayer,
                expected.trees.into_iter().filter(|tree| !tree.is_dir()).collect(),
            ))
            .collect())
    }

    fn expected(&self) -> Expected {
        let (catalog, layout) = (self.read(), &self.layout);
        let (published, fresh): (Vec<_>, Vec<_>) =
            catalog.layers().partition(|(_, layer)| layer.is_published);
        let images = catalog.images().map(|image| layout.image(image.id()));
        let names = catalog.names().map(|(name, _)| layout.name(name));
        let snapshots = catalog.snapshots().map(|snapshot| layout.snapshot_record(&snapshot.key));
        let empty = layout.layer(EMPTY_LAYER);
        Expected {
            layers: published.iter().map(|(n, _)| layout.layer(**n)).chain([empty]).collect(),
            trees: published.iter().map(|(number, _)| layout.layer_tree(**number)).collect(),
            ingests: fresh.iter().map(|(number, _)| layout.ingest(**number)).collect(),
            records: images.chain(names).chain(snapshots).collect(),
            snapshots: catalog
                .snapshots()
                .map(|snapshot| (snapshot.key.clone(), layout.snapshot(&snapshot.key)))
                .collect(),
        }
    }
}

/// What is on disk.
struct Found {
    unknown: Vec<PathBuf>,
    layers: Vec<PathBuf>,
    ingests: Vec<PathBuf>,
    records: HashSet<PathBuf>,
    snapshots: Vec<PathBuf>,
    quarantined: Vec<PathBuf>,
}

impl Found {
    fn read(layout: &Layout) -> Result<Self> {
        let ours = layout.directories();
        let mut unknown = paths(layout.root())?;
        unknown.extend(paths(&layout.root().join("records"))?);
        unknown.retain(|path| !ours.contains(path) && *path != layout.lock());
        unknown.extend(paths(&layout.trash())?);
        let mut records = HashSet::new();
        for directory in [layout.images(), layout.names(), layout.snapshot_records()] {
            records.extend(paths(&directory)?);
        }
        Ok(Self {
            unknown,
            records,
            layers: paths(&layout.layers())?,
            ingests: paths(&layout.ingests())?,
            snapshots: paths(&layout.snapshots())?,
            quarantined: paths(&layout.quarantine())?,
        })
    }
}
