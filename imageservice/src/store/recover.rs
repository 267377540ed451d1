//! From what is on disk to a catalog, whatever state a crash or a careless hand has left it in.
//!
//! Nothing here refuses to go on because of one bad object: what cannot be understood is renamed
//! into `quarantine/` with a warning, and what was never finished is thrown away.

use std::collections::BTreeSet;
use std::fs::ReadDir;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::catalog::{Catalog, Layer, LayerRecord};
use super::layout::{EMPTY_LAYER, Layout};
use super::publish::{ImageRecord, NameRecord};
use super::record::{self, TEMPORARY};
use super::repair::read_seal;
use super::snapshots::SnapshotRecord;
use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::seal::Stamp;

/// The state of a store that was opened.
pub(super) struct Recovered {
    pub(super) catalog: Catalog,
    /// What to delete.
    pub(super) rubbish: Vec<PathBuf>,
    /// Greater than every number in use.
    pub(super) next_number: u64,
}

/// Reads everything and sorts it out. Fails only if a directory of ours cannot be read.
pub(super) fn recover(layout: &Layout) -> Result<Recovered> {
    let mut recovery = Recovery { layout, catalog: Catalog::default(), quarantined: 0 };
    let mut rubbish = paths(&layout.trash())?;
    rubbish.extend(paths(&layout.ingests())?);
    let mut next_number = 1 + largest_number(&rubbish);
    next_number = next_number.max(1 + recovery.layers()?);
    recovery.images()?;
    recovery.names()?;
    let before = recovery.quarantined;
    recovery.snapshots()?;
    // A container may run on layers that only its lost record knew.
    if recovery.quarantined == before {
        let unused = recovery.catalog.take_unused_layers();
        rubbish.extend(unused.iter().map(|number| layout.layer(*number)));
    }
    Ok(Recovered { catalog: recovery.catalog, rubbish, next_number })
}

struct Recovery<'a> {
    layout: &'a Layout,
    catalog: Catalog,
    quarantined: usize,
}

impl Recovery<'_> {
    /// Tells the largest number of a layer.
    fn layers(&mut self) -> Result<u64> {
        let paths = paths(&self.layout.layers())?;
        for path in &paths {
            let Some(number) = number_of(path) else {
                self.set_aside(path, "not a layer");
                continue;
            };
            if number == EMPTY_LAYER {
                continue;
            }
            match read_layer(path) {
                Ok((record, stamp)) => {
                    let layer = Layer { record, users: 0, is_published: true, stamp };
                    self.catalog.put_layer(number, layer);
                }
                Err(error) => self.set_aside(path, &error.to_string()),
            }
        }
        Ok(largest_number(&paths))
    }

    fn images(&mut self) -> Result<()> {
        for path in self.records(&self.layout.images())? {
            let read = record::read::<ImageRecord>(&path).map_err(|e| e.to_string());
            let core = read.and_then(|record| {
                self.check_layers(&record.layers)?;
                check_place(&path, &self.layout.image(&record.id))?;
                record.core()
            });
            match core {
                Ok(core) => self.catalog.put_image(Arc::new(core)),
                Err(reason) => self.set_aside(&path, &reason),
            }
        }
        Ok(())
    }

    fn names(&mut self) -> Result<()> {
        for path in self.records(&self.layout.names())? {
            let read = record::read::<NameRecord>(&path).map_err(|e| e.to_string());
            let name = read.and_then(|record| {
                let name: Reference = record.name.parse().map_err(|e: Error| e.to_string())?;
                check_place(&path, &self.layout.name(&name))?;
                match self.catalog.image(&record.image) {
                    Some(_) => Ok((name, record.image)),
                    None => Err(format!("image {} is not here", record.image)),
                }
            });
            match name {
                Ok((name, image)) => self.catalog.put_name(name, &image),
                Err(reason) => self.set_aside(&path, &reason),
            }
        }
        Ok(())
    }

    fn snapshots(&mut self) -> Result<()> {
        for path in self.records(&self.layout.snapshot_records())? {
            let read = record::read::<SnapshotRecord>(&path).map_err(|e| e.to_string());
            let snapshot = read.and_then(|record| {
                self.check_layers(&record.all_layers())?;
                check_place(&path, &self.layout.snapshot_record(&record.key)).map(|()| record)
            });
            match snapshot {
                Ok(snapshot) => self.catalog.put_snapshot(Arc::new(snapshot)),
                Err(reason) => self.set_aside(&path, &reason),
            }
        }
        Ok(())
    }

    /// The records of a directory; those that were never committed are removed.
    fn records(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        let is_temporary = |path: &PathBuf| path.extension().is_some_and(|e| e == TEMPORARY);
        let (temporary, records) =
            paths(directory)?.into_iter().partition::<Vec<_>, _>(is_temporary);
        for path in temporary {
            record::remove(&path)?;
        }
        Ok(records)
    }

    fn check_layers(&self, layers: &[u64]) -> Result<(), String> {
        match layers.iter().find(|number| self.catalog.layer(**number).is_none()) {
            Some(missing) => Err(format!("layer {missing} is not here")),
            None => Ok(()),
        }
    }

    fn set_aside(&mut self, path: &Path, reason: &str) {
        self.quarantined += 1;
        let name = path.file_name().unwrap_or_default();
        let class = path.parent().and_then(Path::file_name).unwrap_or_default();
        let place = (0u32..).map(|attempt| {
            let name = format!("{}-{}-{attempt}", class.display(), name.display());
            self.layout.quarantine().join(name)
        });
        let place = place.into_iter().find(|place| place.symlink_metadata().is_err());
        let moved = place.map_or(Ok(()), |place| std::fs::rename(path, place));
        let moved = moved
            .err()
            .map_or_else(|| "moved to quarantine".to_owned(), |e| format!("cannot be moved: {e}"));
        tracing::warn!(path = %path.display(), reason, "broken object {moved}, ignoring");
    }
}

/// Nothing in a layer's root has come or gone: one look tells. All of it is for a scrub to read.
fn read_layer(path: &Path) -> io::Result<(LayerRecord, Option<Stamp>)> {
    let found = Stamp::of(&path.join("fs"))?;
    let stamp = read_seal(path).map(|seal| seal.stamp);
    if stamp.is_some_and(|expected| expected != found) {
        return Err(io::Error::other("its tree was changed"));
    }
    Ok((record::read(&path.join("layer.json"))?, stamp))
}

/// A record that was copied or renamed by hand speaks for another place.
fn check_place(path: &Path, expected: &Path) -> Result<(), String> {
    if path == expected { Ok(()) } else { Err(format!("belongs at {}", expected.display())) }
}

fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.parse().ok().filter(|number: &u64| number.to_string() == name)
}

fn largest_number(paths: &[PathBuf]) -> u64 {
    paths.iter().filter_map(|path| number_of(path)).max().unwrap_or(EMPTY_LAYER)
}

/// Everything in a directory, by name.
pub(super) fn paths(directory: &Path) -> Result<Vec<PathBuf>> {
    let list = |entries: ReadDir| {
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<BTreeSet<_>>>()
    };
    std::fs::read_dir(directory)
        .and_then(list)
        .map(|paths| paths.into_iter().collect())
        .map_err(|e| Error::storage("read directory", directory, e))
}
