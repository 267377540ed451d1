//! ListImages: the images that are here, all of them or one.

use std::sync::Arc;

use berth_imageservice::Image as LocalImage;
use tonic::Status;

use super::{Call, pull_image};
use crate::api::runtime::{Image, ImageSpec, Int64Value, ListImagesRequest, ListImagesResponse};
use crate::node::Node;
use crate::status;

pub(super) async fn list_images(
    node: &Node,
    _: Call,
    request: ListImagesRequest,
) -> Result<ListImagesResponse, Status> {
    let name = request.filter.and_then(|filter| filter.image).unwrap_or_default().image;
    let images: Vec<Arc<LocalImage>> = if name.is_empty() {
        node.images.list()
    } else {
        node.images.find(&name).map_err(status::of)?.into_iter().collect()
    };
    Ok(ListImagesResponse { images: images.iter().map(|image| of(node, image)).collect() })
}

/// An image as CRI shows it.
pub(super) fn of(node: &Node, image: &LocalImage) -> Image {
    let config = image.config().config().as_ref();
    let user = config.and_then(|config| config.user().clone()).unwrap_or_default();
    // A number stands for itself; a name is for the kubelet to judge.
    let name = user.split(':').next().unwrap_or_default();
    let uid = name.parse().ok().map(|value| Int64Value { value });
    let username = if uid.is_some() { String::new() } else { name.to_owned() };
    Image {
        id: image.id().to_string(),
        repo_tags: image.repo_tags().to_vec(),
        repo_digests: image.repo_digests().to_vec(),
        size: image.size(),
        uid,
        username,
        spec: Some(ImageSpec { image: image.id().to_string(), ..ImageSpec::default() }),
        pinned: pull_image::stays(node, image),
    }
}
