//! Inspect: all that is known of one image.

use tonic::Status;

use crate::api::admin::{ImageLayer, InspectRequest, InspectResponse};
use crate::node::Node;
use crate::rpc::Call;
use crate::rpc::pull_image::stays;

pub(super) async fn inspect(
    node: &Node,
    _: Call,
    request: InspectRequest,
) -> Result<InspectResponse, Status> {
    let image = super::image(node, &request.image)?;
    let layers = node.images.layers(&image).into_iter();
    Ok(InspectResponse {
        image_id: image.id().to_string(),
        tags: image.repo_tags().to_vec(),
        digests: image.repo_digests().to_vec(),
        manifest_digest: image.manifest_digest().to_string(),
        config: image.raw_config().to_owned(),
        size: image.size(),
        pinned: stays(node, &image),
        layers: layers
            .map(|layer| ImageLayer { diff_id: layer.diff_id.to_string(), size: layer.size })
            .collect(),
        containers: super::users(node).remove(&image.id().to_string()).unwrap_or_default(),
    })
}
