//! Which image a person means.

use tonic::Code;

use super::error::NameError;
use crate::api::runtime::Image;
use crate::node::{Cri, Refused};
use crate::table;

/// Finds an image that is on the node: by its name, as the daemon understands it, or by its id or
/// the beginning of its id.
pub(crate) async fn find_image(cri: &Cri, text: &str) -> anyhow::Result<Option<Image>> {
    if let Some(image) = image_by_name(cri, text).await? {
        return Ok(Some(image));
    }
    let mut images = cri.list_images().await?;
    images.retain(|image| has_prefix(image, text));
    match images.len() {
        0 | 1 => Ok(images.pop()),
        _ => Err(NameError::ambiguous(text, images.iter().map(describe)).into()),
    }
}

/// Finds an image by its name or its whole id.
pub(crate) async fn image_by_name(cri: &Cri, text: &str) -> Result<Option<Image>, Refused> {
    match cri.image_status(text, false).await {
        Ok(answer) => Ok(answer.image),
        // What is no name may still be the beginning of an id.
        Err(error) if matches!(error.code, Code::NotFound | Code::InvalidArgument) => Ok(None),
        Err(error) => Err(error),
    }
}

fn has_prefix(image: &Image, text: &str) -> bool {
    let bare = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).to_owned();
    let text = bare(text);
    !text.is_empty() && bare(&image.id).starts_with(&text)
}

fn describe(image: &Image) -> String {
    format!("image {} ({})", table::id(&image.id, false), image_name(image))
}

/// How an image is called: by its first tag, else by its first digest.
pub(crate) fn image_name(image: &Image) -> &str {
    let name = image.repo_tags.first().or(image.repo_digests.first());
    name.map_or("<none>", String::as_str)
}
