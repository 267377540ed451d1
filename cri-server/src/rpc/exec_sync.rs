//! ExecSync: run a command in a container and tell what came of it.

use std::time::Duration;

use berth_runtime::containers::ExecSpec;
use tonic::Status;

use super::{Call, lookup};
use crate::api::runtime::{ExecSyncRequest, ExecSyncResponse};
use crate::node::Node;
use crate::ops::{Key, Operation};
use crate::status;

/// How long a command without a limit of its own may run.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(super) async fn exec_sync(
    node: &Node,
    _: Call,
    request: ExecSyncRequest,
) -> Result<ExecSyncResponse, Status> {
    let container = lookup::container(node, &request.container_id)?;
    if request.cmd.first().is_none_or(String::is_empty) {
        return Err(Status::invalid_argument("cmd is missing"));
    }
    let timeout = u64::try_from(request.timeout).ok().filter(|seconds| *seconds > 0);
    let timeout = timeout.map(Duration::from_secs);
    let timeouts = &node.loaded.config.timeouts;
    let margin = timeouts.exec_margin.get() + timeouts.exec_drain;
    let deadline = timeout.unwrap_or(FOR_EVER) + margin;
    let id = container.spec.id.clone();
    let operation = Operation::attended(Key::new("ExecSync", &id), deadline);
    let containers = node.containers.clone();
    let output = node
        .ops
        .run(operation, async move |handle| {
            let exec = ExecSpec { args: request.cmd, timeout, cancel: handle.stopping() };
            let stage = |stage| handle.stage(stage);
            containers.exec_sync(&id, exec, stage).await.map_err(status::of)
        })
        .await?;
    Ok(ExecSyncResponse { stdout: output.stdout, stderr: output.stderr, exit_code: output.code })
}
