//! Images as single files, as people hand them around: an OCI layout in a tar archive, and the
//! archive of `docker save`.

use anyhow::{Context, Result};
use serde_json::json;

use super::{Blob, Entry, Image, Layer};

/// A tar archive that holds an OCI image layout (image-spec `image-layout.md`) with `image`
/// under the reference `name`, such as `localhost/app:1`.
pub fn oci(name: &str, image: &Image) -> Result<Vec<u8>> {
    let mut root = image.manifest.descriptor();
    root["annotations"] = json!({
        "org.opencontainers.image.ref.name": name,
        // Where containerd looks for the whole reference.
        "io.containerd.image.name": name,
    });
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [root] }))
        .context("write index.json")?;
    let blobs = image.blobs().map(|blob| entry(&format!("blobs/sha256/{}", blob.hex()), blob));
    Layer::new()
        .with(Entry::file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#))
        .with(Entry::file("index.json", index))
        .with_all(["blobs", "blobs/sha256"].map(Entry::dir))
        .with_all(blobs)
        .tar()
}

/// The archive of `docker save`: `manifest.json`, the config, the layers.
pub fn docker(name: &str, image: &Image) -> Result<Vec<u8>> {
    let config = format!("{}.json", image.config.hex());
    let layers: Vec<_> = image.layers.iter().map(|l| format!("{}/layer.tar", l.hex())).collect();
    let manifest = json!([{ "Config": config, "RepoTags": [name], "Layers": layers }]);
    let manifest = serde_json::to_vec(&manifest).context("write manifest.json")?;
    Layer::new()
        .with(Entry::file("manifest.json", manifest))
        .with(entry(&config, &image.config))
        .with_all(image.layers.iter().map(|layer| Entry::dir(layer.hex())))
        .with_all(layers.iter().zip(&image.layers).map(|(path, layer)| entry(path, layer)))
        .tar()
}

fn entry(path: &str, blob: &Blob) -> Entry {
    Entry::file(path, blob.bytes.as_slice())
}
