//! Tag: one more name for an image.

use tonic::Status;

use crate::api::admin::{TagRequest, TagResponse};
use crate::node::Node;
use crate::rpc::Call;
use crate::status;

pub(super) async fn tag(node: &Node, _: Call, request: TagRequest) -> Result<TagResponse, Status> {
    let name = request.name.parse().map_err(status::of)?;
    let image = super::image(node, &request.image)?;
    node.images.tag(image.id(), &name).await.map_err(status::of)?;
    Ok(TagResponse { image_id: image.id().to_string(), name: name.to_string() })
}
