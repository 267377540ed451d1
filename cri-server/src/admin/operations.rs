//! Operations: what runs now, and where it stands.

use tonic::Status;

use super::{nanoseconds, timestamp};
use crate::api::admin::{Operation, OperationsRequest, OperationsResponse, Stage};
use crate::node::Node;
use crate::ops::{Snapshot, StageSnapshot};
use crate::rpc::Call;

pub(super) async fn operations(
    node: &Node,
    _: Call,
    request: OperationsRequest,
) -> Result<OperationsResponse, Status> {
    let wanted = |snapshot: &Snapshot| {
        request.object.is_empty() || snapshot.object.as_ref() == Some(&request.object)
    };
    let operations = node.ops.list().into_iter().filter(wanted).map(operation).collect();
    Ok(OperationsResponse { operations })
}

fn operation(snapshot: Snapshot) -> Operation {
    Operation {
        id: snapshot.id,
        name: snapshot.key.name.to_owned(),
        subject: snapshot.key.subject,
        object: snapshot.object.unwrap_or_default(),
        started_at: timestamp(snapshot.started_at),
        elapsed: nanoseconds(snapshot.elapsed),
        remaining: nanoseconds(snapshot.remaining),
        waiting: u32::try_from(snapshot.clients).unwrap_or(u32::MAX),
        stages: snapshot.stages.into_iter().map(stage).collect(),
    }
}

fn stage(snapshot: StageSnapshot) -> Stage {
    Stage {
        name: snapshot.name,
        elapsed: nanoseconds(snapshot.elapsed),
        waits_for: snapshot.waits_for.unwrap_or_default(),
    }
}
