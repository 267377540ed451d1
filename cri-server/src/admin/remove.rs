//! Remove: a name of an image, or the image.

use std::collections::BTreeSet;

use berth_imageservice::{Image, Reference, Removal as LocalRemoval};
use tonic::Status;

use crate::api::admin::{Removal, RemoveRequest, RemoveResponse};
use crate::node::Node;
use crate::ops::{Key, Operation};
use crate::rpc::Call;
use crate::status;

pub(super) async fn remove(
    node: &Node,
    _: Call,
    request: RemoveRequest,
) -> Result<RemoveResponse, Status> {
    let RemoveRequest { image: text, force } = request;
    let image = super::image(node, &text)?;
    if !force {
        let users = super::users(node).remove(&image.id().to_string()).unwrap_or_default();
        check(&image, &text, &users)?;
    }
    let removal = run(node, text).await?;
    Ok(RemoveResponse { removal: Some(removal) })
}

/// Removes what a name or an id means, whoever uses it: layers that a container has stay as long
/// as it does.
pub(super) async fn run(node: &Node, text: String) -> Result<Removal, Status> {
    let deadline = node.loaded.config.timeouts.container_remove.get();
    let operation = Operation::new(Key::new("RemoveImage", &text), deadline);
    let images = node.images.clone();
    let removal = node
        .ops
        .run(operation, async move |handle| {
            handle.stage("remove");
            images.remove(&text).await.map_err(status::of)
        })
        .await?;
    Ok(view(removal))
}

fn view(removal: LocalRemoval) -> Removal {
    let image_id = removal.image.map(|id| id.to_string()).unwrap_or_default();
    Removal { names: removal.names, image_id, freed: removal.freed }
}

/// Whether a removal does what a person means by it.
fn check(image: &Image, text: &str, users: &[String]) -> Result<(), Status> {
    let repository = |name: &String| name.parse().ok().map(|name: Reference| name.repository());
    let names: Vec<_> = image.repo_tags().iter().chain(image.repo_digests()).collect();
    let repositories: BTreeSet<_> = names.iter().filter_map(|name| repository(name)).collect();
    let is_name = is_name_of(image, text);
    if !is_name && repositories.len() > 1 {
        let repositories = Vec::from_iter(repositories).join(", ");
        return Err(Status::failed_precondition(format!(
            "image {text} has names in several repositories ({repositories}): remove it by name, \
             or with force"
        )));
    }
    // A name of several only goes away; then nobody loses anything.
    let is_last = !is_name || image.repo_tags().len() <= 1 && repositories.len() <= 1;
    match users {
        [first, rest @ ..] if is_last => {
            let more =
                if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            Err(Status::failed_precondition(format!(
                "image {text} is used by container {first}{more}: remove that first, or use force"
            )))
        }
        _ => Ok(()),
    }
}

/// Whether an image was found by a name and not by its id.
fn is_name_of(image: &Image, text: &str) -> bool {
    let Ok(name) = text.parse::<Reference>() else { return false };
    let name = name.to_string();
    image.repo_tags().iter().chain(image.repo_digests()).any(|other| *other == name)
}
