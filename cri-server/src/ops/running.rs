//! An operation that runs: its stages, its clients, and how it is told to stop.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use berth_metrics::Metrics;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::key::{Key, Operation};

/// The result of an operation, once it has one.
pub(super) type Answer<T> = Option<Result<T, Status>>;

/// The deadline of who asks for more than a clock can hold: thirty years.
const FAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Why an operation is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Deadline,
    /// Nobody waits for it, and a request with other parameters came.
    Superseded,
    /// The one client that it was for has left.
    Abandoned,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: String,
    pub(super) serial: u64,
    pub(super) key: Key,
    pub(super) object: Option<String>,
    pub(super) attended: bool,
    /// Fires when the work is over, undone if need be, and the next operation
    /// in the queue may run.
    pub(super) ended: CancellationToken,
    started: Instant,
    started_at: SystemTime,
    deadline: Instant,
    clients: AtomicUsize,
    rivals: AtomicUsize,
    stages: Mutex<Vec<Stage>>,
    stop: OnceLock<Stop>,
    stopping: CancellationToken,
}

#[derive(Debug)]
struct Stage {
    name: Cow<'static, str>,
    since: Instant,
    waits_for: Option<String>,
}

impl Running {
    pub(super) fn new(epoch: u64, serial: u64, operation: &Operation) -> Self {
        let started = Instant::now();
        Self {
            id: format!("{epoch:x}-{serial}"),
            serial,
            key: operation.key.clone(),
            object: operation.object.clone(),
            attended: operation.attended,
            ended: CancellationToken::new(),
            started,
            started_at: SystemTime::now(),
            deadline: started.checked_add(operation.deadline).unwrap_or(started + FAR_FUTURE),
            clients: AtomicUsize::new(0),
            rivals: AtomicUsize::new(0),
            stages: Mutex::default(),
            stop: OnceLock::new(),
            stopping: CancellationToken::new(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Clients that wait for the result now.
    pub(super) fn clients(&self) -> usize {
        self.clients.load(Ordering::SeqCst)
    }

    pub(super) fn enter(&self, name: impl Into<Cow<'static, str>>) {
        let stage = Stage { name: name.into(), since: Instant::now(), waits_for: None };
        tracing::debug!(stage = %stage.name, "stage");
        self.stages().push(stage);
    }

    pub(super) fn waits_for(&self, what: impl Into<String>) {
        if let Some(stage) = self.stages().last_mut() {
            stage.waits_for = Some(what.into());
        }
    }

    /// Tells the work to stop. The first reason counts.
    pub(super) fn stop(&self, reason: Stop) {
        let _ = self.stop.set(reason);
        self.stopping.cancel();
    }

    /// Stops if nobody waits for the result and somebody for the end.
    ///
    /// Of the two counts whoever changes one reads the other afterwards, so that one of the two
    /// sees both.
    fn give_way(&self) {
        if self.clients() == 0 && self.rivals.load(Ordering::SeqCst) > 0 {
            self.stop(Stop::Superseded);
        }
    }

    /// Waits until the work is told to stop, or tells it when time is up.
    pub(super) async fn stopped(&self) -> Stop {
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = tokio::time::sleep_until(self.deadline) => self.stop(Stop::Deadline),
        }
        *self.stop.get().unwrap_or(&Stop::Deadline)
    }

    /// What clients are told when the work has to stop: where it stood.
    pub(super) fn stopped_status(&self, reason: Stop) -> Status {
        let (code, what) = match reason {
            Stop::Deadline => (Code::DeadlineExceeded, "deadline exceeded"),
            Stop::Superseded => (Code::Aborted, "gave way to a request with other parameters"),
            Stop::Abandoned => (Code::Cancelled, "its client left"),
        };
        let mut message = format!("{}: {what}", self.key);
        if let Some(stage) = self.stages().last() {
            message.push_str(&format!(" in stage `{}`", stage.name));
        }
        message.push_str(&format!(" after {:?}", to_millis(self.elapsed())));
        if let Some(waits_for) = self.stages().last().and_then(|s| s.waits_for.as_deref()) {
            message.push_str(&format!(", waiting for {waits_for}"));
        }
        Status::new(code, message)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let stages = self.stages();
        Snapshot {
            id: self.id.clone(),
            key: self.key.clone(),
            object: self.object.clone(),
            started_at: self.started_at,
            elapsed: self.elapsed(),
            remaining: self.deadline.saturating_duration_since(Instant::now()),
            clients: self.clients(),
            stages: timed(&stages).map(|(stage, elapsed)| stage.snapshot(elapsed)).collect(),
        }
    }

    /// Counts how long each stage took, once the last one has ended.
    pub(super) fn count_stages(&self, metrics: &Metrics) {
        for (stage, elapsed) in timed(&self.stages()) {
            // Names that are made up as it goes are for people: there is no end of them.
            if let Cow::Borrowed(name) = stage.name {
                metrics.stage(self.key.name, name, elapsed);
            }
        }
    }

    fn stages(&self) -> MutexGuard<'_, Vec<Stage>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stages with the time from the begin of each to that of the next; the last one has not ended.
fn timed(stages: &[Stage]) -> impl Iterator<Item = (&Stage, Duration)> {
    let ends = stages.iter().skip(1).map(|next| next.since).chain([Instant::now()]);
    stages.iter().zip(ends).map(|(stage, end)| (stage, end.saturating_duration_since(stage.since)))
}

impl Stage {
    fn snapshot(&self, elapsed: Duration) -> StageSnapshot {
        StageSnapshot { name: self.name.to_string(), elapsed, waits_for: self.waits_for.clone() }
    }
}

/// What the work of an operation knows about it.
#[derive(Debug, Clone)]
pub struct Handle(pub(super) Arc<Running>);

impl Handle {
    /// Id of the operation, unique over restarts: what it makes is tagged
    /// with it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Tells that a step begins, as in `network add`, and with it that the
    /// step before has ended. A handful per operation.
    pub fn stage(&self, name: impl Into<Cow<'static, str>>) {
        self.0.enter(name);
    }

    /// Tells what the current step waits for, as in `plugin bridge (pid 77)`.
    pub fn waits_for(&self, what: impl Into<String>) {
        self.0.waits_for(what);
    }

    /// Fires when the work has to stop: at the deadline, or because nobody
    /// wants its result. From then on it has a grace to undo what it did, and
    /// is dropped where it stands when that is over.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.0.stopping.clone()
    }

    /// Time until the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.0.deadline.saturating_duration_since(Instant::now())
    }
}

/// A client that waits. Counted for as long as it lives.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    answer: watch::Receiver<Answer<T>>,
    running: Arc<Running>,
}

impl<T: Clone> Waiter<T> {
    pub(super) fn new(answer: watch::Receiver<Answer<T>>, running: Arc<Running>) -> Self {
        running.clients.fetch_add(1, Ordering::SeqCst);
        // The span of the request, if it has the field.
        tracing::Span::current().record("operation", &running.id);
        Self { answer, running }
    }

    /// The result. Whoever has got it still counts as waiting until the waiter
    /// is dropped.
    pub(super) async fn result(&mut self) -> Result<T, Status> {
        let answer = self.answer.wait_for(Option::is_some).await;
        let answer = answer.ok().and_then(|answer| answer.clone());
        answer.unwrap_or_else(|| {
            Err(Status::unavailable(format!(
                "{}: berthd stopped before it ended",
                self.running.key
            )))
        })
    }
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        let last = self.running.clients.fetch_sub(1, Ordering::SeqCst) == 1;
        // Without effect when the work has ended.
        if last && self.running.attended {
            self.running.stop(Stop::Abandoned);
        } else if last {
            self.running.give_way();
        }
    }
}

/// A request with other parameters that waits for the end of an operation, and for the leaving
/// of its last client: that one may be seen to leave only after this one has come.
#[derive(Debug)]
pub(super) struct Rival(Arc<Running>);

impl Rival {
    pub(super) fn new(running: &Arc<Running>) -> Self {
        running.rivals.fetch_add(1, Ordering::SeqCst);
        running.give_way();
        Self(Arc::clone(running))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.0.rivals.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An operation in flight, as it stands at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Unique over restarts.
    pub id: String,
    /// What it does, and to what.
    pub key: Key,
    /// The object whose queue it is in.
    pub object: Option<String>,
    /// Wall clock, for display.
    pub started_at: SystemTime,
    /// Since it was asked for.
    pub elapsed: Duration,
    /// Until its deadline.
    pub remaining: Duration,
    /// Clients that wait for its result.
    pub clients: usize,
    /// Oldest first; the last one is where it stands.
    pub stages: Vec<StageSnapshot>,
}

/// A step of an operation.
#[derive(Debug, Clone)]
pub struct StageSnapshot {
    /// As in `network add`.
    pub name: String,
    /// How long it took, or has taken so far.
    pub elapsed: Duration,
    /// What it waits for, or waited for at its end.
    pub waits_for: Option<String>,
}

fn to_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
