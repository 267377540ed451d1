//! Operations: work that belongs to berthd and not to whoever asked for it.
//!
//! No side effect runs inside an RPC future (ARCHITECTURE, invariant 2). A
//! handler describes what it wants as an [`Operation`] and awaits its result;
//! the work itself is a task of this module. So:
//!
//! - a client that leaves drops its waiting and nothing else;
//! - the same request again *joins* the operation in flight and gets its result;
//! - the result of a finished creation is kept: the same request gets the same
//!   id for as long as the object exists. No path answers "name is reserved";
//! - operations on one object run in the order in which they came, each behind
//!   the one before; operations on different objects, and reads, never queue;
//! - every operation has a deadline. Its clients are answered then, with the
//!   stage that it stood in; the work gets a grace to undo itself.
//!
//! ```text
//!            same key in flight            ┌─ answered ──► clients that wait
//!   run ────────────┬──── join ────────────┤
//!                   │                      │  deadline, superseded, abandoned:
//!                   └─ queue ─► work ──────┤  the handle says stop, clients are
//!                      (the object's)      │  answered, the work undoes itself
//!                                          └─ ended ────► next in the queue,
//!                                                         next try of the key
//! ```
//!
//! What an operation does, and how it is undone, is the caller's. The registry
//! is one mutex over three maps that is never held across an await.

mod creation;
mod drive;
mod key;
mod registry;
mod running;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_metrics::Metrics;
use tokio_util::task::TaskTracker;
use tonic::Status;

pub use key::{Fingerprint, Key, Operation};
pub use running::{Handle, Snapshot, StageSnapshot};

use registry::{Next, Registry};

/// The operations of one daemon: a cheap-clone handle.
#[derive(Debug, Clone)]
pub struct Ops(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Mutex<Registry>,
    tasks: TaskTracker,
    /// What work that is told to stop gets to undo itself.
    grace: Duration,
    metrics: Metrics,
}

impl Ops {
    /// No operations yet. Work that is told to stop gets `grace` to undo itself.
    #[must_use]
    pub fn new(grace: Duration, metrics: Metrics) -> Self {
        // Records carry the ids of operations, so ids must not come again
        // after a restart.
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self(Arc::new(Inner {
            registry: Mutex::new(Registry::new(epoch)),
            tasks: TaskTracker::new(),
            grace,
            metrics,
        }))
    }

    /// Runs `work` as an operation of its own and waits for its result, or
    /// joins the operation of the same key and fingerprint that is in flight.
    ///
    /// Dropping the returned future drops the waiting and leaves the work,
    /// unless the operation is [`Operation::attended`].
    ///
    /// # Errors
    /// What the work returns; and `DEADLINE_EXCEEDED` with the stage that it
    /// stood in, `UNAVAILABLE` when berthd is stopping, `INTERNAL` when the
    /// work panics.
    pub async fn run<T, F, W>(&self, operation: Operation, work: W) -> Result<T, Status>
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
        W: FnOnce(Handle) -> F + Send + 'static,
    {
        loop {
            let next = self.registry().action(&operation)?;
            let mut waiter = match next {
                Next::After(ended) => {
                    ended.cancelled().await;
                    continue;
                }
                Next::Join(waiter) => waiter,
                Next::Start(launch) => {
                    let waiter = launch.waiter();
                    self.launch(launch, work, |_, _| ());
                    waiter
                }
            };
            return waiter.result().await;
        }
    }

    /// What runs now, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Snapshot> {
        let running = self.registry().running();
        running.iter().map(|running| running.snapshot()).collect()
    }

    /// Refuses new operations and waits for those in flight, for `limit` at
    /// most. Returns what still runs then.
    pub async fn drain(&self, limit: Duration) -> Vec<Snapshot> {
        self.registry().close();
        self.0.tasks.close();
        // Whether time ran out shows in the list.
        let _ = tokio::time::timeout(limit, self.0.tasks.wait()).await;
        self.list()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // No code under the lock stops half-way, so a poisoned map is whole.
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
