//! Logs: what a container has written, and what it goes on to write.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codegen::BoxStream;

use crate::api::admin::{LogsRequest, LogsResponse};
use crate::logs::{Reader, Wanted};
use crate::node::Node;
use crate::rpc::{Call, lookup};

pub(super) async fn logs(
    node: &Node,
    _: Call,
    request: LogsRequest,
) -> Result<BoxStream<LogsResponse>, Status> {
    let container = lookup::container(node, &request.container_id)?;
    let id = &container.spec.id;
    let log = container.spec.log.as_ref();
    let log =
        log.ok_or_else(|| Status::failed_precondition(format!("container {id} has no log")))?;
    let path = log.directory.join(&log.path);
    let wanted = Wanted { since: request.since, tail: request.tail, follow: request.follow };
    let (sender, receiver) = mpsc::channel(8);
    node.tell(async move {
        let mut reader = Reader::new(path, wanted);
        let told = tokio::select! {
            told = reader.tell(&container, &sender) => told,
            () = sender.closed() => return,
        };
        if let Err(error) = told {
            let message = format!("read log {}: {error}", reader.path().display());
            let _ = sender.send(Err(Status::internal(message))).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}
