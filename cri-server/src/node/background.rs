//! Tasks that run beside requests: the watcher of network configurations, the
//! listeners of shims, the syncer of records.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Node;

/// How long records that are not synced yet may take to be.
const SYNC_WITHIN: Duration = Duration::from_secs(5);

/// Tasks that live as long as the node.
#[derive(Debug, Default)]
pub(super) struct Background {
    /// Those that end with the process, whatever they are at.
    pub(super) tasks: TaskTracker,
    /// Those that are waited for.
    pub(super) syncing: TaskTracker,
    /// Tells all of them to end.
    pub(super) stop: CancellationToken,
}

impl Background {
    /// Ends them, with all records synced.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.syncing.close();
        if tokio::time::timeout(SYNC_WITHIN, self.syncing.wait()).await.is_err() {
            tracing::warn!("records are not synced yet: the kernel writes them back by itself");
        }
    }
}

impl Node {
    /// Runs something that only tells a client what happens elsewhere. It ends with the process.
    pub fn tell(&self, telling: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        self.background.tasks.spawn(async move {
            stopping.run_until_cancelled(telling).await;
        });
    }
}
