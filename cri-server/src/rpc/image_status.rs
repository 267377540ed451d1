//! ImageStatus: an image by any of its names; nothing if it is not here.

use std::collections::BTreeMap;

use tonic::Status;

use super::{Call, list_images};
use crate::api::runtime::{ImageStatusRequest, ImageStatusResponse};
use crate::node::Node;
use crate::status;

pub(super) async fn image_status(
    node: &Node,
    _: Call,
    request: ImageStatusRequest,
) -> Result<ImageStatusResponse, Status> {
    let name = request.image.unwrap_or_default().image;
    if name.is_empty() {
        return Err(Status::invalid_argument("image.image is missing"));
    }
    let Some(image) = node.images.find(&name).map_err(status::of)? else {
        return Ok(ImageStatusResponse::default());
    };
    let mut info = BTreeMap::new();
    if request.verbose {
        let config = serde_json::from_str::<serde_json::Value>(image.raw_config());
        let text = serde_json::json!({
            "imageSpec": config.unwrap_or_default(),
            "manifestDigest": image.manifest_digest().as_str(),
        });
        info.insert("info".to_owned(), text.to_string());
    }
    Ok(ImageStatusResponse { image: Some(list_images::of(node, &image)), info })
}
