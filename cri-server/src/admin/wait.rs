//! Wait: how a container ended, when it has.

use tonic::Status;

use crate::api::admin::{WaitRequest, WaitResponse};
use crate::node::Node;
use crate::rpc::{Call, lookup};

pub(super) async fn wait(
    node: &Node,
    _: Call,
    request: WaitRequest,
) -> Result<WaitResponse, Status> {
    let container = lookup::container(node, &request.container_id)?;
    let exited = tokio::select! {
        exited = container.ended() => exited,
        () = node.stopping.cancelled() => {
            return Err(Status::unavailable("berthd is stopping; the container goes on"));
        }
    };
    Ok(WaitResponse {
        exit_code: exited.code,
        signal: exited.signal,
        reason: exited.reason().to_owned(),
        finished_at: exited.finished_at,
    })
}
