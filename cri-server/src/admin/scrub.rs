//! Scrub: reads all images again.

use berth_imageservice::Finding as Found;
use tonic::Status;

use crate::api::admin::{Finding, ScrubRequest, ScrubResponse};
use crate::node::Node;
use crate::rpc::Call;
use crate::status;

pub(super) async fn scrub(
    node: &Node,
    _: Call,
    request: ScrubRequest,
) -> Result<ScrubResponse, Status> {
    let findings = node.images.scrub(request.repair).await.map_err(status::of)?;
    Ok(ScrubResponse { findings: findings.into_iter().map(view).collect() })
}

fn view(found: Found) -> Finding {
    let Found { object, path, problem, images, is_repaired } = found;
    let path = path.display().to_string();
    Finding { object, path, problem, images, repaired: is_repaired }
}
