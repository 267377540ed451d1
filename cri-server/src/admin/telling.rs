//! Telling a client how far a pull or a push is, a few times a second, until it ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use berth_imageservice::{LayerPhase, LayerProgress, Phase, Progress, Reference};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tonic::Status;

use crate::api::admin::{Layer, PullProgress, PullResolved};

/// How often a client hears of progress: a few times a second, as a person sees it.
const INTERVAL: Duration = Duration::from_millis(100);

/// What is told on the way.
pub(super) enum News {
    Resolved(PullResolved),
    Progress(PullProgress),
}

/// Tells one client of one operation.
pub(super) struct Teller<R> {
    reference: Reference,
    progress: Progress,
    client: mpsc::Sender<Result<R, Status>>,
    answer: fn(News) -> R,
    /// What was told last of each layer.
    told: HashMap<String, LayerProgress>,
}

impl<R> Teller<R> {
    pub(super) fn new(
        reference: Reference,
        progress: Progress,
        client: mpsc::Sender<Result<R, Status>>,
        answer: fn(News) -> R,
    ) -> Self {
        Self { reference, progress, client, answer, told: HashMap::new() }
    }

    /// Tells until the end of it, or until the client has left.
    pub(super) async fn tell<T>(
        mut self,
        outcome: impl Future<Output = Result<T, Status>>,
        done: impl FnOnce(T, Duration) -> R,
    ) {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(outcome);
        let outcome = loop {
            tokio::select! {
                outcome = &mut outcome => break outcome,
                _ = ticks.tick() => {
                    if !self.tell_progress().await {
                        return;
                    }
                }
            }
        };
        let last = match outcome {
            Ok(outcome) => {
                self.tell_progress().await;
                Ok(done(outcome, begun.elapsed()))
            }
            Err(refused) => Err(refused),
        };
        // A client that has left does not hear how it ended.
        let _ = self.client.send(last).await;
    }

    /// Tells what has changed; `false` if nobody listens any more.
    async fn tell_progress(&mut self) -> bool {
        let report = self.progress.report();
        if report.phase == Phase::Resolving || report.layers.is_empty() {
            return !self.client.is_closed();
        }
        let mut news = Vec::new();
        if self.told.is_empty() {
            news.push(News::Resolved(resolved(&self.reference, &report.layers)));
        }
        for layer in report.layers {
            let digest = layer.digest.as_str().to_owned();
            if self.told.get(&digest) != Some(&layer) {
                news.push(News::Progress(progress(&layer)));
                self.told.insert(digest, layer);
            }
        }
        for told in news {
            if self.client.send(Ok((self.answer)(told))).await.is_err() {
                return false;
            }
        }
        true
    }
}

fn resolved(reference: &Reference, layers: &[LayerProgress]) -> PullResolved {
    let layers = layers.iter().map(|layer| Layer {
        digest: layer.digest.as_str().to_owned(),
        size: layer.total,
        present: layer.phase == LayerPhase::Reused,
    });
    PullResolved { reference: reference.to_string(), layers: layers.collect() }
}

fn progress(layer: &LayerProgress) -> PullProgress {
    PullProgress {
        digest: layer.digest.as_str().to_owned(),
        received: layer.done,
        complete: matches!(layer.phase, LayerPhase::Fetched | LayerPhase::Reused),
    }
}
