//! Push: an image to a registry, and how far it is.

use berth_imageservice::{PushRequest as Request, Reference};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codegen::BoxStream;

use super::telling::{News, Teller};
use super::{nanoseconds, pull};
use crate::api::admin::push_response::Event;
use crate::api::admin::{PushDone, PushRequest, PushResponse};
use crate::node::Node;
use crate::ops::{Fingerprint, Key, Operation};
use crate::rpc::{Call, pull_image};
use crate::status;

pub(super) async fn push(
    node: &Node,
    _: Call,
    request: PushRequest,
) -> Result<BoxStream<PushResponse>, Status> {
    let PushRequest { image: text, target, credentials } = request;
    let image = super::image(node, &text)?;
    let target = if target.is_empty() { text } else { target };
    let target: Reference = target.parse().map_err(status::of)?;
    let auth = pull::auth(credentials.unwrap_or_default());
    let subject = format!("{} as {target}", image.id());
    let deadline = node.loaded.config.timeouts.pull.get();
    let operation = Operation::new(Key::new("PushImage", subject), deadline)
        .fingerprint(Fingerprint::of(&auth));
    let request = Request {
        image: image.id().to_string(),
        target: target.clone(),
        credentials: pull_image::credentials(&auth)?,
    };
    let (progress, outcome) = node.images.push(request);
    let ops = node.ops.clone();
    let outcome = async move {
        ops.run(operation, async move |handle| {
            handle.stage("push");
            outcome.await.map_err(status::of)
        })
        .await
    };
    let (sender, receiver) = mpsc::channel(16);
    let teller = Teller::new(target.clone(), progress, sender, news);
    node.tell(teller.tell(outcome, move |outcome, elapsed| {
        event(Event::Done(PushDone {
            reference: target.to_string(),
            digest: outcome.digest.to_string(),
            sent: outcome.bytes_sent,
            elapsed: nanoseconds(elapsed),
        }))
    }));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn news(news: News) -> PushResponse {
    event(match news {
        News::Resolved(resolved) => Event::Resolved(resolved),
        News::Progress(progress) => Event::Progress(progress),
    })
}

fn event(event: Event) -> PushResponse {
    PushResponse { event: Some(event) }
}
