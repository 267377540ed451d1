//! Work that waits for the disk, on threads that may wait.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};

/// Runs `work` on a blocking thread. It runs to its end even if nobody waits for it any more.
pub(crate) async fn blocking<T: Send + 'static>(
    tasks: &TaskTracker,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tasks.spawn_blocking(work).await.unwrap_or_else(|crash| {
        Err(Error::Storage {
            step: "run a task for",
            path: "the image service".into(),
            source: Arc::new(crash),
        })
    })
}
