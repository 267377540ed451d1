//! Layers that some pull is fetching now, so that no other one fetches them too.
//!
//! A follower does not take the leader's result: it waits for the end of the flight, and looks
//! again. What the leader has finished is then found like any other layer; if the leader failed, by
//! its own credentials or its own deadline, the follower leads the next flight.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::digest::Digest;

/// All flights under way, by what a layer is known by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<Digest, watch::Receiver<()>>>>);

/// What a pull finds when it wants a layer.
pub(crate) enum Boarding {
    /// Nobody fetches it: do it, and hold this until it is done.
    Lead(Lead),
    /// Somebody does: wait, then look again.
    Follow(watch::Receiver<()>),
}

/// The right to fetch a layer. Dropped, the flight is over.
pub(crate) struct Lead {
    flights: Flights,
    layer: Digest,
    _end: watch::Sender<()>,
}

impl Flights {
    pub(crate) fn board(&self, layer: &Digest) -> Boarding {
        let mut flights = self.locked();
        if let Some(flight) = flights.get(layer) {
            return Boarding::Follow(flight.clone());
        }
        let (end, flight) = watch::channel(());
        flights.insert(layer.clone(), flight);
        Boarding::Lead(Lead { flights: self.clone(), layer: layer.clone(), _end: end })
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.locked().remove(&self.layer);
    }
}
