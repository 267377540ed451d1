//! A pull or an import under way: how far it is, and whether it should stop.
//!
//! An operation that is to stop is not dropped in the middle: its threads write to directories that
//! would then be deleted under them. It is told, stops waiting for the network at once, and ends
//! when its threads have.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::progress::Progress;

/// What the parts of an operation share. Clones are the same operation.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// How messages call it.
    pub(crate) what: String,
    pub(crate) progress: Progress,
    pub(crate) stop: CancellationToken,
}

impl Operation {
    /// A part of this one that can be stopped alone.
    pub(crate) fn part(&self) -> Self {
        Self { stop: self.stop.child_token(), ..self.clone() }
    }

    /// Does work that can be dropped at any time, such as waiting for a network.
    pub(crate) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.stop.run_until_cancelled(work).await.unwrap_or_else(|| Err(self.cancelled()))
    }

    /// Does the whole work of the operation, and stops it when its time is over.
    pub(crate) async fn within<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::pin!(work);
        if let Ok(outcome) = timeout(deadline, &mut work).await {
            return outcome;
        }
        self.stop.cancel();
        // What can no longer be stopped may still succeed.
        work.await.map_err(|_| Error::Timeout {
            what: self.what.clone(),
            after: deadline,
            reason: "it is not done",
        })
    }

    pub(crate) fn cancelled(&self) -> Error {
        Error::Cancelled { what: self.what.clone() }
    }
}
