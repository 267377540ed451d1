//! RemoveImage: an image with all of its names.

use tonic::Status;

use super::Call;
use crate::api::runtime::{RemoveImageRequest, RemoveImageResponse};
use crate::node::Node;
use crate::ops::{Key, Operation};
use crate::status;

pub(super) async fn remove_image(
    node: &Node,
    _: Call,
    request: RemoveImageRequest,
) -> Result<RemoveImageResponse, Status> {
    let name = request.image.unwrap_or_default().image;
    if name.is_empty() {
        return Err(Status::invalid_argument("image.image is missing"));
    }
    let Some(image) = node.images.find(&name).map_err(status::of)? else {
        return Ok(RemoveImageResponse {});
    };
    let id = image.id().to_string();
    let deadline = node.loaded.config.timeouts.container_remove.get();
    let operation = Operation::new(Key::new("RemoveImage", &id), deadline);
    let images = node.images.clone();
    node.ops
        .run(operation, async move |handle| {
            handle.stage("remove");
            images.remove(&id).await.map_err(status::of).map(drop)
        })
        .await?;
    Ok(RemoveImageResponse {})
}
