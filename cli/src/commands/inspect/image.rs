//! An image, in full.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::info;
use crate::api::runtime::ImageStatusResponse;
use crate::commands::images;
use crate::node::{Cri, Refused};

#[derive(Debug, Serialize)]
pub(super) struct View {
    kind: &'static str,
    #[serde(flatten)]
    image: images::View,
    annotations: BTreeMap<String, String>,
    info: BTreeMap<String, Value>,
}

/// Asks for everything about an image.
pub(super) async fn inspect(cri: &Cri, id: &str) -> Result<View, Refused> {
    Ok(view(cri.image_status(id, true).await?))
}

fn view(answer: ImageStatusResponse) -> View {
    let mut image = answer.image.unwrap_or_default();
    let annotations = image.spec.take().unwrap_or_default().annotations;
    View { kind: "image", image: images::view(image), annotations, info: info(answer.info) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::runtime::Image;

    #[test]
    fn the_json_shape_is_stable() {
        let image = Image { id: "sha256:aa".into(), username: "me".into(), ..Default::default() };
        let info = [("imageSpec".to_owned(), "{}".to_owned())].into();
        let expected = json!({
            "kind": "image",
            "id": "sha256:aa",
            "tags": [],
            "digests": [],
            "size": 0,
            "user": "me",
            "pinned": false,
            "annotations": {},
            "info": { "imageSpec": {} },
        });
        let view = view(ImageStatusResponse { image: Some(image), info });
        assert_eq!(serde_json::to_value(view).unwrap(), expected);
    }
}
