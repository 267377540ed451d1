//! What `docker save` writes: `manifest.json` names a configuration and layers by their files.

use serde_json::json;

use super::plan::{Plan, Selected};
use crate::digest::Digest;
use crate::error::Result;
use crate::reference::Reference;
use crate::store::Store;

/// The docker archive of some images.
pub(super) fn plan(store: &Store, selection: Vec<Selected>) -> Result<Plan> {
    let (mut plan, mut entries) = (Plan::default(), Vec::new());
    for mut selected in selection {
        plan.put_layers(store, &mut selected, layer)?;
        let config = format!("{}.json", selected.image.id().hex());
        plan.put(&config, selected.image.raw_config().as_bytes().to_vec());
        entries.push(json!({
            "Config": config,
            "RepoTags": selected.names.iter().map(Reference::to_string).collect::<Vec<_>>(),
            "Layers": selected.diff_ids().iter().map(layer).collect::<Vec<_>>(),
        }));
    }
    plan.put("manifest.json", json!(entries).to_string().into_bytes());
    Ok(plan)
}

fn layer(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.hex())
}
