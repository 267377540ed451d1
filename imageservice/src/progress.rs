//! How far a pull is, for another task to look at: atomics, no locks, no wakeups.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::digest::Digest;

/// A view of a pull or an import under way. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    layers: OnceLock<Vec<LayerMeter>>,
}

/// What the whole operation is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Asking the registry what the reference means, or reading the archive that is imported.
    Resolving = 0,
    /// Fetching and unpacking layers.
    Fetching = 1,
    /// Syncing to disk and making the image visible.
    Publishing = 2,
    /// The image is there, or the operation has failed.
    Done = 3,
}

/// What one layer is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LayerPhase {
    /// Nothing has happened yet, or another pull is fetching it.
    Waiting = 0,
    /// Bytes are coming and are unpacked as they come.
    Fetching = 1,
    /// Unpacked and verified now.
    Fetched = 2,
    /// Was here before.
    Reused = 3,
}

/// One look at an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressReport {
    /// What the whole operation is at.
    pub phase: Phase,
    /// The layers, bottom first; empty until the manifest is known.
    pub layers: Vec<LayerProgress>,
}

/// One look at a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// Digest of the compressed layer.
    pub digest: Digest,
    /// Compressed bytes that have come.
    pub done: u64,
    /// Compressed bytes in all.
    pub total: u64,
    /// What it is at.
    pub phase: LayerPhase,
}

impl Progress {
    /// What the operation is at now.
    pub fn report(&self) -> ProgressReport {
        let layers = self.meters().iter().map(LayerMeter::report).collect();
        ProgressReport { phase: Phase::from(self.0.phase.load(Ordering::Relaxed)), layers }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Says which layers there are; only the first call counts.
    pub(crate) fn begin_layers(&self, layers: impl Iterator<Item = (Digest, u64)>) {
        self.0.layers.get_or_init(|| layers.map(LayerMeter::new).collect());
    }

    /// The meter of the layer at this place in the manifest.
    pub(crate) fn meter(&self, index: usize) -> LayerMeter {
        self.meters()[index].clone()
    }

    fn meters(&self) -> &[LayerMeter] {
        self.0.layers.get().map_or(&[], Vec::as_slice)
    }
}

/// The writing end for one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerMeter(Arc<MeterState>);

#[derive(Debug)]
struct MeterState {
    digest: Digest,
    total: u64,
    done: AtomicU64,
    phase: AtomicU8,
}

impl LayerMeter {
    pub(crate) fn new((digest, total): (Digest, u64)) -> Self {
        Self(Arc::new(MeterState {
            digest,
            total,
            done: AtomicU64::new(0),
            phase: AtomicU8::new(0),
        }))
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Enters a phase; an attempt that starts over counts from zero again.
    pub(crate) fn enter(&self, phase: LayerPhase) {
        match phase {
            LayerPhase::Fetching => self.0.done.store(0, Ordering::Relaxed),
            LayerPhase::Reused => self.0.done.store(self.0.total, Ordering::Relaxed),
            LayerPhase::Waiting | LayerPhase::Fetched => {}
        }
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn report(&self) -> LayerProgress {
        LayerProgress {
            digest: self.0.digest.clone(),
            done: self.0.done.load(Ordering::Relaxed),
            total: self.0.total,
            phase: LayerPhase::from(self.0.phase.load(Ordering::Relaxed)),
        }
    }
}

impl From<u8> for Phase {
    fn from(value: u8) -> Self {
        match value {
            0 => Self::Resolving,
            1 => Self::Fetching,
            2 => Self::Publishing,
            _ => Self::Done,
        }
    }
}

impl From<u8> for LayerPhase {
    fn from(value: u8) -> Self {
        match value {
            0 => Self::Waiting,
            1 => Self::Fetching,
            2 => Self::Fetched,
            _ => Self::Reused,
        }
    }
}
