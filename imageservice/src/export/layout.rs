//! An OCI image layout (OCI image specification, "Image Layout").

use serde_json::{Value, json};

use super::plan::{Plan, Selected};
use crate::digest::Digest;
use crate::error::Result;
use crate::manifest::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use crate::reference::{Reference, Target};
use crate::store::Store;

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// The layout of some images.
pub(super) fn plan(store: &Store, selection: Vec<Selected>) -> Result<Plan> {
    let (mut blobs, mut entries) = (Plan::default(), Vec::new());
    for mut selected in selection {
        let raw = selected.image.raw_config().as_bytes().to_vec();
        let sizes = blobs.put_layers(store, &mut selected, blob)?;
        let layers: Vec<_> = selected
            .diff_ids()
            .iter()
            .zip(sizes)
            .map(|(diff_id, size)| {
                json!({ "mediaType": LAYER_TYPE, "digest": diff_id, "size": size })
            })
            .collect();
        let id = selected.image.id().digest();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": { "mediaType": OCI_CONFIG, "digest": id, "size": raw.len() },
            "layers": layers,
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = Digest::sha256(&manifest);
        entries.extend(descriptors(&selected, &digest, manifest.len()));
        blobs.put(blob(id), raw);
        blobs.put(blob(&digest), manifest);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
    blobs.put("index.json", index.to_string().into_bytes());
    blobs.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    Ok(blobs)
}

/// An entry of the index for each name, as containerd writes them; one without a name if there is
/// none.
fn descriptors(selected: &Selected, digest: &Digest, size: usize) -> Vec<Value> {
    let config = selected.image.config();
    let mut platform = json!({
        "architecture": config.architecture().to_string(),
        "os": config.os().to_string(),
    });
    if let Some(variant) = config.variant() {
        platform["variant"] = json!(variant);
    }
    let plain = json!({
        "mediaType": OCI_MANIFEST,
        "digest": digest,
        "size": size,
        "platform": platform,
    });
    if selected.names.is_empty() {
        return vec![plain];
    }
    let named = |name: &Reference| {
        let mut entry = plain.clone();
        entry["annotations"] = json!({
            "io.containerd.image.name": name.to_string(),
            "org.opencontainers.image.ref.name": tag(name),
        });
        entry
    };
    selected.names.iter().map(named).collect()
}

fn tag(name: &Reference) -> &str {
    match name.target() {
        Target::Tag(tag) => tag,
        Target::Digest(digest) => digest.as_str(),
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/{}", digest.as_str().replace(':', "/"))
}
