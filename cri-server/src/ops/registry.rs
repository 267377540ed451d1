//! Who may start, who joins, who waits: decided under one lock, in one look.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::key::{Fingerprint, Key, Operation};
use super::running::{Answer, Rival, Running, Waiter};

/// What an action that is asked for does next.
pub(super) enum Next<T> {
    /// The same is in flight.
    Join(Waiter<T>),
    /// The same has answered its clients and undoes its work; ask again then.
    After(CancellationToken),
    Start(Launch<T>),
}

/// What a creation that is asked for does next.
pub(super) enum NextCreation {
    Join(Waiter<String>),
    /// One is in flight that cannot be joined; ask again when it has ended. One with other
    /// parameters has a `rival` in this request, and gives way if no client waits for it.
    After {
        ended: CancellationToken,
        rival: Option<Rival>,
    },
    /// `unclaimed` was made with other parameters and no client ever heard of
    /// it: it goes first.
    Start {
        launch: Launch<String>,
        unclaimed: Option<String>,
    },
    /// It was made by the same request before.
    Made(String),
    /// It was made by a request with other parameters, whose client knows it.
    Taken(String),
}

/// An operation that is registered and has to be driven.
pub(super) struct Launch<T> {
    pub(super) running: Arc<Running>,
    /// The one before in the object's queue.
    pub(super) previous: Option<Arc<Running>>,
    pub(super) answer: watch::Sender<Answer<T>>,
}

impl<T: Clone> Launch<T> {
    pub(super) fn waiter(&self) -> Waiter<T> {
        Waiter::new(self.answer.subscribe(), Arc::clone(&self.running))
    }
}

/// By what an operation in flight is found again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Slot {
    Action(Key, Fingerprint),
    /// At most one per key, whatever its parameters.
    Creation(Key),
    /// Never found.
    Attended(u64),
}

#[derive(Debug)]
struct Flight {
    running: Arc<Running>,
    fingerprint: Fingerprint,
    /// A `watch::Receiver<Answer<T>>`. Operations of one name have one T.
    answer: Box<dyn Any + Send + Sync>,
}

/// The result of a creation, kept while the object exists.
#[derive(Debug)]
struct Kept {
    id: String,
    fingerprint: Fingerprint,
    /// A client has got the id.
    claimed: bool,
    /// Clients of this one may be about to get it.
    maker: Option<Arc<Running>>,
}

#[derive(Debug)]
pub(super) struct Registry {
    epoch: u64,
    serial: u64,
    closed: bool,
    flights: HashMap<Slot, Flight>,
    /// The last operation in each object's queue.
    tails: HashMap<String, Arc<Running>>,
    kept: HashMap<Key, Kept>,
}

impl Registry {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            serial: 0,
            closed: false,
            flights: HashMap::new(),
            tails: HashMap::new(),
            kept: HashMap::new(),
        }
    }

    /// Refuses to start anything from now on.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Oldest first.
    pub(super) fn running(&self) -> Vec<Arc<Running>> {
        let mut running: Vec<_> = self.flights.values().map(|f| Arc::clone(&f.running)).collect();
        running.sort_by_key(|running| running.serial);
        running
    }

    pub(super) fn action<T>(&mut self, operation: &Operation) -> Result<Next<T>, Status>
    where
        T: Clone + Send + Sync + 'static,
    {
        let slot = if operation.attended {
            Slot::Attended(self.serial + 1)
        } else {
            Slot::Action(operation.key.clone(), operation.fingerprint)
        };
        match self.flights.get(&slot) {
            Some(flight) => Ok(match flight.join() {
                Some(waiter) => Next::Join(waiter),
                None => Next::After(flight.running.ended.clone()),
            }),
            None => self.start(slot, operation).map(Next::Start),
        }
    }

    pub(super) fn creation(&mut self, operation: &Operation) -> Result<NextCreation, Status> {
        let slot = Slot::Creation(operation.key.clone());
        if let Some(flight) = self.flights.get(&slot) {
            let same = flight.fingerprint == operation.fingerprint;
            if same && let Some(waiter) = flight.join() {
                return Ok(NextCreation::Join(waiter));
            }
            let rival = (!same).then(|| Rival::new(&flight.running));
            return Ok(NextCreation::After { ended: flight.running.ended.clone(), rival });
        }
        let mut unclaimed = None;
        if let Some(kept) = self.kept.get_mut(&operation.key) {
            if kept.fingerprint == operation.fingerprint {
                kept.claimed = true;
                return Ok(NextCreation::Made(kept.id.clone()));
            }
            if kept.claimed || kept.maker.as_ref().is_some_and(|maker| maker.clients() > 0) {
                return Ok(NextCreation::Taken(kept.id.clone()));
            }
            unclaimed = Some(kept.id.clone());
        }
        let launch = self.start(slot, operation)?;
        Ok(NextCreation::Start { launch, unclaimed })
    }

    /// Keeps what a creation has made.
    pub(super) fn keep(&mut self, maker: &Arc<Running>, fingerprint: Fingerprint, id: String) {
        let kept = Kept { id, fingerprint, claimed: false, maker: Some(Arc::clone(maker)) };
        self.kept.insert(maker.key.clone(), kept);
    }

    /// Keeps what an earlier berthd has made. Its client may know it, so it
    /// never gives way.
    pub(super) fn adopt(&mut self, key: Key, fingerprint: Fingerprint, id: String) {
        self.kept.insert(key, Kept { id, fingerprint, claimed: true, maker: None });
    }

    /// A client has got the id.
    pub(super) fn claim(&mut self, key: &Key, id: &str) {
        if let Some(kept) = self.kept.get_mut(key).filter(|kept| kept.id == id) {
            kept.claimed = true;
            kept.maker = None;
        }
    }

    /// The object does not exist any more.
    pub(super) fn forget(&mut self, id: &str) {
        self.kept.retain(|_, kept| kept.id != id);
    }

    /// An operation has ended; its key and its place in the queue are free.
    pub(super) fn end(&mut self, ended: &Running) {
        self.flights.retain(|_, flight| flight.running.serial != ended.serial);
        if let Some(object) = &ended.object
            && self.tails.get(object).is_some_and(|tail| tail.serial == ended.serial)
        {
            self.tails.remove(object);
        }
    }

    fn start<T>(&mut self, slot: Slot, operation: &Operation) -> Result<Launch<T>, Status>
    where
        T: Clone + Send + Sync + 'static,
    {
        if self.closed {
            let message = format!("{}: berthd is stopping", operation.key);
            return Err(Status::unavailable(message));
        }
        self.serial += 1;
        let running = Arc::new(Running::new(self.epoch, self.serial, operation));
        let (answer, receiver) = watch::channel(None::<Result<T, Status>>);
        let flight = Flight {
            running: Arc::clone(&running),
            fingerprint: operation.fingerprint,
            answer: Box::new(receiver),
        };
        self.flights.insert(slot, flight);
        let previous = operation
            .object
            .as_ref()
            .and_then(|object| self.tails.insert(object.clone(), Arc::clone(&running)));
        Ok(Launch { running, previous, answer })
    }
}

impl Flight {
    /// A waiter, unless the clients have been answered already.
    fn join<T: Clone + 'static>(&self) -> Option<Waiter<T>> {
        let answer = self.answer.downcast_ref::<watch::Receiver<Answer<T>>>()?;
        let open = answer.borrow().is_none();
        open.then(|| Waiter::new(answer.clone(), Arc::clone(&self.running)))
    }
}
