//! From an id in a request to the object: the whole id, or a beginning of it
//! that fits one object only, as people type it.

use std::sync::Arc;

use berth_runtime::containers::Container;
use berth_sandbox::Sandbox;
use tonic::Status;

use crate::node::Node;

/// Shortest beginning of an id that is taken for one.
const PREFIX_MIN: usize = 4;

/// The sandbox with this id.
///
/// # Errors
/// `NOT_FOUND`; `INVALID_ARGUMENT` for an id that is missing or ambiguous.
pub(crate) fn sandbox(node: &Node, id: &str) -> Result<Arc<Sandbox>, Status> {
    find_sandbox(node, id)?
        .ok_or_else(|| Status::not_found(format!("sandbox {} not found", shown(id))))
}

/// The sandbox with this id, if there is one.
pub(crate) fn find_sandbox(node: &Node, id: &str) -> Result<Option<Arc<Sandbox>>, Status> {
    present("pod_sandbox_id", id)?;
    match node.sandboxes.find(id) {
        Some(sandbox) => Ok(Some(sandbox)),
        None => one_of(id, node.sandboxes.list(), |sandbox| &sandbox.spec.id),
    }
}

/// The container with this id.
///
/// # Errors
/// As [`sandbox`].
pub(crate) fn container(node: &Node, id: &str) -> Result<Arc<Container>, Status> {
    find_container(node, id)?
        .ok_or_else(|| Status::not_found(format!("container {} not found", shown(id))))
}

/// The container with this id, if there is one.
pub(crate) fn find_container(node: &Node, id: &str) -> Result<Option<Arc<Container>>, Status> {
    present("container_id", id)?;
    match node.containers.find(id) {
        Some(container) => Ok(Some(container)),
        None => one_of(id, node.containers.list(), |container| &container.spec.id),
    }
}

fn present(field: &str, id: &str) -> Result<(), Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument(format!("{field} is missing")));
    }
    Ok(())
}

fn one_of<T>(
    prefix: &str,
    objects: Vec<Arc<T>>,
    id: impl Fn(&T) -> &str,
) -> Result<Option<Arc<T>>, Status> {
    if prefix.len() < PREFIX_MIN {
        return Ok(None);
    }
    let mut fitting = objects.into_iter().filter(|object| id(object).starts_with(prefix));
    let first = fitting.next();
    if fitting.next().is_some() {
        return Err(Status::invalid_argument(format!("id {prefix} fits several objects")));
    }
    Ok(first)
}

/// An id as it may stand in a message: a client can send anything.
fn shown(id: &str) -> String {
    let plain = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_graphic());
    if plain { id.to_owned() } else { format!("{:?}", id.chars().take(64).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(prefix: &str) -> Result<Option<Arc<String>>, Status> {
        let ids = ["abcd11", "abcd22", "ffff33"].map(|id| Arc::new(id.to_owned()));
        one_of(prefix, ids.to_vec(), |id| id)
    }

    #[test]
    fn a_beginning_counts_if_it_fits_one() {
        assert_eq!(*found("ffff").unwrap().unwrap(), "ffff33");
        assert!(found("fff").unwrap().is_none());
        assert!(found("eeee").unwrap().is_none());
        assert!(found("abcd").is_err());
    }

    #[test]
    fn an_id_of_any_bytes_can_be_shown() {
        assert_eq!(shown("abc"), "abc");
        assert_eq!(shown("a\nb"), "\"a\\nb\"");
        assert!(shown(&"x".repeat(1000)).len() < 80);
    }
}
