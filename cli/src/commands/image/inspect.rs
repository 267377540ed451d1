//! `berth image inspect`: everything about images.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::api::admin::{ImageLayer, InspectResponse};
use crate::commands::for_each;
use crate::exit;
use crate::node::Node;
use crate::output::print_json;

const JSON: &str = "\
JSON: a list of objects with
  id              digest of the image's configuration
  tags, digests   lists of names
  manifestDigest  digest of the manifest that it was made from last
  created         when it was made, as its configuration says
  platform        as in linux/amd64
  size            bytes on the node, those of layers that other images share included
  pinned          whether it is kept when space is needed
  layers          list of objects, bottom first: diffId, size
  containers      ids of the containers that were made from it
  config          the image configuration (OCI image specification, config.md)";

/// Print everything about images, as JSON
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Inspect {
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,

    /// Print the configuration alone, as the very bytes whose digest is the image's id
    #[arg(long)]
    raw: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    id: String,
    tags: Vec<String>,
    digests: Vec<String>,
    manifest_digest: String,
    created: Option<String>,
    platform: String,
    size: u64,
    pinned: bool,
    layers: Vec<LayerView>,
    containers: Vec<String>,
    config: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LayerView {
    diff_id: String,
    size: u64,
}

/// Prints the images that are there, and complains about the others.
pub(super) async fn execute(node: &Node, options: Inspect) -> anyhow::Result<ExitCode> {
    let admin = node.admin().await?;
    if options.raw {
        return for_each(&options.images, async |text| {
            crate::output::print(admin.inspect(text).await?.config)
        })
        .await;
    }
    let (mut views, mut code) = (Vec::new(), ExitCode::SUCCESS);
    for text in &options.images {
        match admin.inspect(text).await {
            Ok(image) => views.push(view(image)),
            Err(refused) => code = exit::failed(&refused.into()),
        }
    }
    print_json(&views)?;
    Ok(code)
}

fn view(image: InspectResponse) -> View {
    let config: Value = serde_json::from_str(&image.config).unwrap_or_default();
    let text = |key: &str| config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let platform: Vec<_> = ["os", "architecture", "variant"].into_iter().filter_map(text).collect();
    let layer = |ImageLayer { diff_id, size }| LayerView { diff_id, size };
    View {
        id: image.image_id,
        tags: image.tags,
        digests: image.digests,
        manifest_digest: image.manifest_digest,
        created: text("created").map(str::to_owned),
        platform: platform.join("/"),
        size: image.size,
        pinned: image.pinned,
        layers: image.layers.into_iter().map(layer).collect(),
        containers: image.containers,
        config,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_json_shape_is_stable() {
        let config = json!({ "os": "linux", "architecture": "arm64", "variant": "v8" });
        let image = InspectResponse {
            image_id: "sha256:aa".into(),
            tags: vec!["docker.io/library/app:1".into()],
            manifest_digest: "sha256:bb".into(),
            config: config.to_string(),
            size: 5,
            layers: vec![ImageLayer { diff_id: "sha256:cc".into(), size: 5 }],
            ..Default::default()
        };
        let expected = json!({
            "id": "sha256:aa",
            "tags": ["docker.io/library/app:1"],
            "digests": [],
            "manifestDigest": "sha256:bb",
            "created": null,
            "platform": "linux/arm64/v8",
            "size": 5,
            "pinned": false,
            "layers": [{ "diffId": "sha256:cc", "size": 5 }],
            "containers": [],
            "config": config,
        });
        assert_eq!(serde_json::to_value(view(image)).unwrap(), expected);
    }
}
