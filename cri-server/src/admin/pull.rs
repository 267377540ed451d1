//! Pull: an image, and how far it is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use berth_imageservice::{LayerPhase, LayerProgress, Phase, Progress, PullOutcome, Reference};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codegen::BoxStream;

use super::nanoseconds;
use crate::api::admin::pull_response::Event;
use crate::api::admin::{
    Credentials as AdminCredentials, Layer, PullDone, PullProgress, PullRequest as AdminRequest,
    PullResolved, PullResponse,
};
use crate::api::runtime::AuthConfig;
use crate::node::Node;
use crate::rpc::{Call, pull_image};
use crate::status;

/// How often a client hears of progress: a few times a second, as a person sees it.
const INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn pull(
    node: &Node,
    _: Call,
    request: AdminRequest,
) -> Result<BoxStream<PullResponse>, Status> {
    let reference = node.images.meanings(&request.image).map_err(status::of)?.remove(0);
    let AdminCredentials { username, password, identity_token, registry_token } =
        request.credentials.unwrap_or_default();
    let auth =
        AuthConfig { username, password, identity_token, registry_token, ..AuthConfig::default() };
    let (progress, outcome) = pull_image::pull(node, &request.image, &auth)?;
    let teller = Teller { reference, progress, told: HashMap::new() };
    let (sender, receiver) = mpsc::channel(16);
    // The pull is an operation; this task only tells of it, and ends with the client or with it.
    node.tell(teller.tell(outcome, sender));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

struct Teller {
    reference: Reference,
    progress: Progress,
    /// What was told last of each layer.
    told: HashMap<String, LayerProgress>,
}

impl Teller {
    async fn tell(
        mut self,
        outcome: impl Future<Output = Result<PullOutcome, Status>>,
        client: mpsc::Sender<Result<PullResponse, Status>>,
    ) {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(outcome);
        let outcome = loop {
            tokio::select! {
                outcome = &mut outcome => break outcome,
                _ = ticks.tick() => {
                    if !self.tell_progress(&client).await {
                        return;
                    }
                }
            }
        };
        let last = match outcome {
            Ok(outcome) => {
                self.tell_progress(&client).await;
                Ok(event(Event::Done(done(&outcome, begun.elapsed()))))
            }
            Err(refused) => Err(refused),
        };
        // A client that has left does not hear how it ended.
        let _ = client.send(last).await;
    }

    /// Tells what has changed; `false` if nobody listens any more.
    async fn tell_progress(&mut self, client: &mpsc::Sender<Result<PullResponse, Status>>) -> bool {
        let report = self.progress.report();
        if report.phase == Phase::Resolving || report.layers.is_empty() {
            return !client.is_closed();
        }
        let mut events = Vec::new();
        if self.told.is_empty() {
            events.push(Event::Resolved(resolved(&self.reference, &report.layers)));
        }
        for layer in report.layers {
            let digest = layer.digest.as_str().to_owned();
            if self.told.get(&digest) != Some(&layer) {
                events.push(Event::Progress(progress(&layer)));
                self.told.insert(digest, layer);
            }
        }
        for told in events {
            if client.send(Ok(event(told))).await.is_err() {
                return false;
            }
        }
        true
    }
}

fn event(event: Event) -> PullResponse {
    PullResponse { event: Some(event) }
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

fn done(outcome: &PullOutcome, elapsed: Duration) -> PullDone {
    PullDone {
        image_id: outcome.image.to_string(),
        received: outcome.bytes_fetched,
        elapsed: nanoseconds(elapsed),
    }
}
