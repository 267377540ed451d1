//! Verify: whether an image is still what it was.

use tonic::Status;

use crate::api::admin::{VerifyRequest, VerifyResponse};
use crate::node::Node;
use crate::rpc::Call;
use crate::status;

pub(super) async fn verify(
    node: &Node,
    _: Call,
    request: VerifyRequest,
) -> Result<VerifyResponse, Status> {
    let image = super::image(node, &request.image)?;
    let bytes = node.images.verify(image.id()).await.map_err(status::of)?;
    Ok(VerifyResponse { image_id: image.id().to_string(), bytes })
}
