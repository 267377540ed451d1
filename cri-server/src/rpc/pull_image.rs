//! PullImage: bring an image here.

use berth_imageservice::{AuthFields, Credentials, PullRequest, Reference};
use prost::Message as _;
use tonic::Status;

use super::Call;
use crate::api::runtime::{AuthConfig, PullImageRequest, PullImageResponse};
use crate::node::Node;
use crate::ops::{Fingerprint, Key, Operation};
use crate::status;

pub(super) async fn pull_image(
    node: &Node,
    _: Call,
    request: PullImageRequest,
) -> Result<PullImageResponse, Status> {
    let name = request.image.as_ref().map_or("", |image| &image.image);
    if name.is_empty() {
        return Err(Status::invalid_argument("image.image is missing"));
    }
    let reference: Reference = name.parse().map_err(status::of)?;
    let credentials = request.auth.as_ref().map(credentials).transpose()?.flatten();
    let outcome = pull(node, reference, credentials, request.auth.as_ref()).await?;
    Ok(PullImageResponse { image_ref: outcome.image.to_string() })
}

/// Pulls as an operation of its own. Clients that ask for the same with the
/// same credentials share it; with others they never get a result that they
/// might not be entitled to.
pub(crate) async fn pull(
    node: &Node,
    reference: Reference,
    credentials: Option<Credentials>,
    auth: Option<&AuthConfig>,
) -> Result<berth_imageservice::PullOutcome, Status> {
    let fingerprint = auth.map(|auth| Fingerprint::of(auth).to_string()).unwrap_or_default();
    let scope = if fingerprint.is_empty() { "" } else { &fingerprint[..8] };
    let key = Key::new(
        "PullImage",
        format!("{reference}{}{scope}", if scope.is_empty() { "" } else { " as " }),
    );
    let operation = Operation::new(key, node.loaded.config.timeouts.pull.get());
    let request = request(node, reference, credentials);
    let (images, metrics) = (node.images.clone(), node.metrics.clone());
    node.ops
        .run(operation, async move |handle| {
            handle.stage("pull");
            let outcome = images.pull(request).await.map_err(status::of)?;
            metrics.pulled(outcome.bytes_fetched);
            Ok(outcome)
        })
        .await
}

/// What is asked of the image service, by whichever client: the operator pins by name.
pub(crate) fn request(
    node: &Node,
    reference: Reference,
    credentials: Option<Credentials>,
) -> PullRequest {
    let pinned = is_pinned(&node.loaded.config.image.pinned, &reference.to_string());
    PullRequest { credentials, pinned, ..PullRequest::new(reference) }
}

/// The credentials that a kubelet sends; none if it sends empty ones.
pub(crate) fn credentials(auth: &AuthConfig) -> Result<Option<Credentials>, Status> {
    let auth = auth.clone();
    if auth.encoded_len() == 0 {
        return Ok(None);
    }
    Credentials::from_fields(AuthFields {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    })
    .map_err(status::of)
}

/// Whether one of the patterns fits, in which `*` stands for any run of
/// characters.
fn is_pinned(patterns: &[String], reference: &str) -> bool {
    patterns.iter().any(|pattern| fits(pattern, reference))
}

fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    loop {
        if fits(rest, text) {
            return true;
        }
        let Some(next) = text.chars().next() else { return false };
        text = &text[next.len_utf8()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("a/b:1", "a/b:1", true),
            ("a/b:1", "a/b:2", false),
            ("a/*", "a/b:1", true),
            ("*:1", "a/b:1", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn empty_credentials_are_none() {
        assert!(credentials(&AuthConfig::default()).unwrap().is_none());
    }
}
