//! What containers have written, measured now and then.
//!
//! Who asks gets what was measured last, and has it measured again if that was a while ago: an answer
//! waits for no disk, however much a container has written.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::Store;
use super::snapshots::SnapshotKey;
use crate::error::Result;
use crate::scan::Space;

/// How old a measurement may get when somebody asks for it.
const FRESH: Duration = Duration::from_secs(10);

/// What a container had written at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    /// What its writable layer took.
    pub space: Space,
    /// When it was measured.
    pub at: SystemTime,
}

/// The last measurements.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    last: Mutex<HashMap<SnapshotKey, Measurement>>,
    /// Whether somebody measures now.
    is_under_way: AtomicBool,
}

impl Measurements {
    pub(super) fn put(&self, key: &SnapshotKey, space: Space) {
        self.locked().insert(key.clone(), Measurement { space, at: SystemTime::now() });
    }

    pub(super) fn forget(&self, key: &SnapshotKey) {
        self.locked().remove(key);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<SnapshotKey, Measurement>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// What was measured last of a container.
    pub(crate) fn last_usage(&self, key: &SnapshotKey) -> Option<Measurement> {
        self.measurements.locked().get(key).copied()
    }

    /// What was measured last of all containers together.
    pub(crate) fn last_usage_of_all(&self) -> Space {
        let mut sum = Space::default();
        for measurement in self.measurements.locked().values() {
            sum += measurement.space;
        }
        sum
    }

    /// Whether there is anything to measure, and nobody does it; then the caller is to call
    /// [`Store::measure`].
    pub(crate) fn wants_measuring(&self) -> bool {
        !self.stale().is_empty() && !self.measurements.is_under_way.swap(true, Ordering::AcqRel)
    }

    /// Measures what was not measured for a while. Blocks.
    pub(crate) fn measure(&self) -> Result<()> {
        let measured = self.stale().iter().try_for_each(|key| self.snapshot_usage(key).map(drop));
        self.measurements.is_under_way.store(false, Ordering::Release);
        measured
    }

    fn stale(&self) -> Vec<SnapshotKey> {
        let last = self.measurements.locked();
        let is_fresh = |key: &SnapshotKey| {
            let age = last.get(key).and_then(|measurement| measurement.at.elapsed().ok());
            age.is_some_and(|age| age < FRESH)
        };
        let catalog = self.read();
        let keys = catalog.snapshots().map(|snapshot| snapshot.key.clone());
        keys.filter(|key| !is_fresh(key)).collect()
    }
}
