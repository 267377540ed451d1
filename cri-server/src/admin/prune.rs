//! Prune: removes images that nobody needs.

use tonic::Status;

use super::remove;
use crate::api::admin::{PruneRequest, PruneResponse};
use crate::node::Node;
use crate::rpc::Call;
use crate::rpc::pull_image::stays;

pub(super) async fn prune(
    node: &Node,
    _: Call,
    request: PruneRequest,
) -> Result<PruneResponse, Status> {
    let users = super::users(node);
    let is_unused = |id: &str| !users.contains_key(id);
    let mut removals = Vec::new();
    for image in node.images.list() {
        let id = image.id().to_string();
        let is_wanted = stays(node, &image) || !(request.all || image.repo_tags().is_empty());
        if !is_wanted && is_unused(&id) {
            removals.push(remove::run(node, id).await?);
        }
    }
    Ok(PruneResponse { removals })
}
