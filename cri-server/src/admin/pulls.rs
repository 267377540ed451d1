//! Pulls: what comes onto the node now, and who waits for it.

use berth_imageservice::{LayerPhase, LayerProgress, Phase, PullInFlight as LocalPull};
use tonic::Status;

use super::nanoseconds;
use crate::api::admin::{PullInFlight, PullLayer, PullsRequest, PullsResponse};
use crate::api::admin::{pull_in_flight, pull_layer};
use crate::node::Node;
use crate::ops::Snapshot;
use crate::rpc::Call;

pub(super) async fn pulls(node: &Node, _: Call, _: PullsRequest) -> Result<PullsResponse, Status> {
    let operations = node.ops.list();
    let pulls = node.images.pulls();
    let mut pulls: Vec<_> = pulls.iter().map(|pull| view(pull, &operations)).collect();
    pulls.sort_by_key(|pull| std::cmp::Reverse(pull.elapsed));
    Ok(PullsResponse { pulls })
}

fn view(pull: &LocalPull, operations: &[Snapshot]) -> PullInFlight {
    let reference = pull.reference.to_string();
    // The operation of a pull with credentials is called after these, too: see `pull_image`.
    let is_its = |operation: &&Snapshot| {
        let subject = operation.key.subject.strip_prefix(&reference);
        operation.key.name == "PullImage"
            && subject.is_some_and(|rest| match pull.authenticated {
                true => rest.starts_with(" as "),
                false => rest.is_empty(),
            })
    };
    let operation = operations.iter().find(is_its);
    let report = pull.progress.report();
    PullInFlight {
        reference,
        authenticated: pull.authenticated,
        phase: phase(report.phase).into(),
        layers: report.layers.iter().map(layer).collect(),
        operation: operation.map(|operation| operation.id.clone()).unwrap_or_default(),
        elapsed: nanoseconds(pull.since.elapsed()),
        remaining: operation.map_or(0, |operation| nanoseconds(operation.remaining)),
        waiting: operation
            .map_or(0, |operation| u32::try_from(operation.clients).unwrap_or(u32::MAX)),
    }
}

fn phase(phase: Phase) -> pull_in_flight::Phase {
    match phase {
        Phase::Resolving => pull_in_flight::Phase::Resolving,
        Phase::Fetching => pull_in_flight::Phase::Fetching,
        Phase::Publishing => pull_in_flight::Phase::Publishing,
        Phase::Done => pull_in_flight::Phase::Ended,
    }
}

fn layer(layer: &LayerProgress) -> PullLayer {
    let phase = match layer.phase {
        LayerPhase::Waiting => pull_layer::Phase::Waiting,
        LayerPhase::Fetching => pull_layer::Phase::Fetching,
        LayerPhase::Fetched => pull_layer::Phase::Fetched,
        LayerPhase::Reused => pull_layer::Phase::Reused,
    };
    PullLayer {
        digest: layer.digest.as_str().to_owned(),
        size: layer.total,
        received: layer.done,
        phase: phase.into(),
    }
}
