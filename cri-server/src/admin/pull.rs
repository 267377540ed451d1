//! Pull: an image, and how far it is.

use std::time::Duration;

use berth_imageservice::PullOutcome;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codegen::BoxStream;

use super::nanoseconds;
use super::telling::{News, Teller};
use crate::api::admin::pull_response::Event;
use crate::api::admin::{Credentials, PullDone, PullRequest, PullResponse};
use crate::api::runtime::AuthConfig;
use crate::node::Node;
use crate::rpc::{Call, pull_image};
use crate::status;

pub(super) async fn pull(
    node: &Node,
    _: Call,
    request: PullRequest,
) -> Result<BoxStream<PullResponse>, Status> {
    let reference = node.images.meanings(&request.image).map_err(status::of)?.remove(0);
    let auth = auth(request.credentials.unwrap_or_default());
    let (progress, outcome) = pull_image::pull(node, &request.image, &auth)?;
    let (sender, receiver) = mpsc::channel(16);
    let teller = Teller::new(reference, progress, sender, news);
    // The pull is an operation; this task only tells of it, and ends with the client or with it.
    node.tell(teller.tell(outcome, done));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Credentials as the CRI has them.
pub(super) fn auth(credentials: Credentials) -> AuthConfig {
    let Credentials { username, password, identity_token, registry_token } = credentials;
    AuthConfig { username, password, identity_token, registry_token, ..AuthConfig::default() }
}

fn news(news: News) -> PullResponse {
    event(match news {
        News::Resolved(resolved) => Event::Resolved(resolved),
        News::Progress(progress) => Event::Progress(progress),
    })
}

fn event(event: Event) -> PullResponse {
    PullResponse { event: Some(event) }
}

fn done(outcome: PullOutcome, elapsed: Duration) -> PullResponse {
    event(Event::Done(PullDone {
        image_id: outcome.image.to_string(),
        received: outcome.bytes_fetched,
        elapsed: nanoseconds(elapsed),
    }))
}
