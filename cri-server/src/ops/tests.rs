//! Operations as a client meets them: joining, creating, order, stopping.

mod creating;
mod joining;
mod order;
mod stopping;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_metrics::{Build, Metrics};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::{Fingerprint, Handle, Key, Operation, Ops};

const MINUTE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);

/// Operations, clients that wait for them in tasks, and a count of effects.
struct Scene {
    ops: Ops,
    metrics: Metrics,
    clients: TaskTracker,
    effects: Arc<AtomicUsize>,
    /// Lets the work of [`Scene::gated`] end.
    gate: Arc<Notify>,
}

impl Scene {
    fn new() -> Self {
        let metrics = Metrics::new(Build { version: "", revision: "", rustc: "" }).unwrap();
        Self {
            ops: Ops::new(GRACE, metrics.clone()),
            metrics,
            clients: TaskTracker::new(),
            effects: Arc::default(),
            gate: Arc::default(),
        }
    }

    fn effects(&self) -> usize {
        self.effects.load(Ordering::SeqCst)
    }

    /// Work that counts itself, waits at the gate, and returns its count.
    fn gated(
        &self,
    ) -> impl FnOnce(Handle) -> futures_util::future::BoxFuture<'static, Result<usize, Status>>
    + Send
    + 'static {
        let (effects, gate) = (Arc::clone(&self.effects), Arc::clone(&self.gate));
        move |handle| {
            Box::pin(async move {
                let count = effects.fetch_add(1, Ordering::SeqCst) + 1;
                handle.stage("gate");
                gate.notified().await;
                Ok(count)
            })
        }
    }

    /// A client that waits for `operation` in a task of its own.
    fn client<T: Clone + Send + Sync + 'static>(
        &self,
        operation: Operation,
        work: impl FnOnce(Handle) -> futures_util::future::BoxFuture<'static, Result<T, Status>>
        + Send
        + 'static,
    ) -> JoinHandle<Result<T, Status>> {
        let ops = self.ops.clone();
        self.clients.spawn(async move { ops.run(operation, work).await })
    }

    /// Lets every task run until it waits for something.
    async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until nothing runs, so that only what is kept remains.
    async fn idle(&self) {
        let running = self.ops.registry().running();
        for operation in running {
            operation.ended.cancelled().await;
        }
    }
}

fn start(id: &str) -> Operation {
    Operation::new(Key::new("StartContainer", id), MINUTE).on(id)
}

fn stop(id: &str) -> Operation {
    Operation::new(Key::new("StopContainer", id), MINUTE).on(id)
}

fn remove(id: &str) -> Operation {
    Operation::new(Key::new("RemoveContainer", id), MINUTE).on(id)
}

/// RunPodSandbox of the pod `default/web` with a configuration named `config`.
fn run_pod(config: &str) -> Operation {
    let config = crate::api::runtime::VersionRequest { version: config.to_owned() };
    Operation::new(Key::new("RunPodSandbox", "default/web"), MINUTE)
        .fingerprint(Fingerprint::of(&config))
}
