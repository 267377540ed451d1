//! The task of an operation, from its place in the queue to its end.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use tonic::{Code, Status};
use tracing::Instrument;

use super::Ops;
use super::registry::{Launch, Registry};
use super::running::{Answer, Handle, Running};

impl Ops {
    /// Runs a registered operation as a task of its own. When its work has
    /// succeeded, `settle` is called in the same look at the registry that
    /// ends it, so that no request falls between.
    pub(super) fn launch<T, F, W, S>(&self, launch: Launch<T>, work: W, settle: S)
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
        W: FnOnce(Handle) -> F + Send + 'static,
        S: FnOnce(&mut Registry, &T) + Send + 'static,
    {
        let running = &launch.running;
        // Of its own: it outlives the request, and others may have joined it.
        let span = tracing::info_span!(
            parent: None,
            "operation",
            id = running.id,
            // Not "name": in JSON that is the span's own.
            rpc = running.key.name,
            subject = running.key.subject,
            object = running.object,
        );
        let task = drive(self.clone(), launch, work, settle);
        self.0.tasks.spawn(task.instrument(span));
    }
}

async fn drive<T, F, W, S>(ops: Ops, launch: Launch<T>, work: W, settle: S)
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, Status>> + Send + 'static,
    W: FnOnce(Handle) -> F + Send + 'static,
    S: FnOnce(&mut Registry, &T) + Send + 'static,
{
    let Launch { running, previous, answer } = launch;
    let _in_flight = ops.0.metrics.in_flight();
    // However this task ends, the next in the queue goes on.
    let _ended = running.ended.clone().drop_guard();

    let result = match turn(&running, previous.as_deref()).await {
        Ok(()) => attempt(&ops, &running, &answer, work).await,
        Err(stopped) => {
            reply(&answer, &Err(stopped.clone()));
            // Whoever is next in the queue waits for what is in front of us.
            if let Some(previous) = previous {
                previous.ended.cancelled().await;
            }
            Err(stopped)
        }
    };

    {
        let mut registry = ops.registry();
        if let Ok(value) = &result {
            settle(&mut registry, value);
        }
        registry.end(&running);
    }
    report(&ops, &running, result.as_ref().err());
    reply(&answer, &result);
}

/// Waits for the operation in front, if there is one.
async fn turn(running: &Running, previous: Option<&Running>) -> Result<(), Status> {
    let Some(previous) = previous.filter(|previous| !previous.ended.is_cancelled()) else {
        return Ok(());
    };
    running.enter("queue");
    running.waits_for(format!("{} (operation {})", previous.key, previous.id));
    tokio::select! {
        biased;
        () = previous.ended.cancelled() => Ok(()),
        stop = running.stopped() => Err(running.stopped_status(stop)),
    }
}

/// Does the work. When it has to stop, the clients are answered first and it
/// gets the grace to undo itself; what it then returns is the result.
async fn attempt<T, F, W>(
    ops: &Ops,
    running: &Arc<Running>,
    answer: &watch::Sender<Answer<T>>,
    work: W,
) -> Result<T, Status>
where
    T: Clone,
    F: Future<Output = Result<T, Status>>,
    W: FnOnce(Handle) -> F,
{
    let handle = Handle(Arc::clone(running));
    // The call is inside, so that a panic in it is caught too.
    let work = AssertUnwindSafe(async move { work(handle).await }).catch_unwind();
    let mut work = pin!(work);
    let stop = tokio::select! {
        biased;
        result = &mut work => return ended(ops, running, result),
        stop = running.stopped() => stop,
    };
    let stopped = running.stopped_status(stop);
    reply(answer, &Err(stopped.clone()));
    match tokio::time::timeout(ops.0.grace, work).await {
        Ok(result) => ended(ops, running, result),
        Err(_) => {
            tracing::warn!(grace = ?ops.0.grace, "told to stop, did not end in time, given up");
            Err(stopped)
        }
    }
}

fn ended<T>(
    ops: &Ops,
    running: &Running,
    result: Result<Result<T, Status>, Box<dyn Any + Send>>,
) -> Result<T, Status> {
    result.unwrap_or_else(|_| {
        ops.0.metrics.panic_caught();
        Err(Status::internal(format!(
            "{}: berthd failed in operation {}; its log says where",
            running.key, running.id
        )))
    })
}

/// Answers the clients, once.
fn reply<T: Clone>(answer: &watch::Sender<Answer<T>>, result: &Result<T, Status>) {
    answer.send_if_modified(|answer| {
        let first = answer.is_none();
        if first {
            *answer = Some(result.clone());
        }
        first
    });
}

/// A client's failure is logged where the client is answered; without one,
/// here.
fn report(ops: &Ops, running: &Running, error: Option<&Status>) {
    let elapsed = running.elapsed();
    if error.is_none() {
        running.count_stages(&ops.0.metrics);
    }
    match error {
        None if running.attended => tracing::debug!(?elapsed, "done"),
        None => tracing::info!(?elapsed, "done"),
        Some(error) if running.clients() > 0 || error.code() == Code::Cancelled => {
            tracing::debug!(?elapsed, error = error.message(), "failed");
        }
        Some(error) => {
            tracing::warn!(?elapsed, error = error.message(), "failed, and no client waits");
        }
    }
}
