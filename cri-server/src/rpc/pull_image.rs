//! PullImage: bring an image here.

use std::time::{Duration, Instant};

use berth_imageservice::{
    AuthFields, Credentials, Error, Image, Progress, PullOutcome, PullRequest, Reference,
};
use berth_metrics::Metrics;
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
    let (_, outcome) = pull(node, name, &request.auth.unwrap_or_default())?;
    Ok(PullImageResponse { image_ref: outcome.await?.image.to_string() })
}

/// Pulls as an operation of its own: answers how far it is, and what comes of it. Clients that ask
/// for the same with the same credentials share it; with others they never get a result that they
/// might not be entitled to.
pub(crate) fn pull(
    node: &Node,
    name: &str,
    auth: &AuthConfig,
) -> Result<(Progress, impl Future<Output = Result<PullOutcome, Status>> + use<>), Status> {
    let mut meanings = node.images.meanings(name).map_err(status::of)?.into_iter();
    let usual: Reference = name.parse().map_err(status::of)?;
    let reference = meanings.next().unwrap_or_else(|| usual.clone());
    let alternatives: Vec<_> = meanings.collect();
    // A client that knows nothing of aliases has looked for credentials of the usual registry.
    let credentials = credentials(auth)?.map(|credentials| credentials.bound_to(usual.domain()));
    let asker = match credentials {
        Some(_) => format!(" as {}", &Fingerprint::of(auth).to_string()[..8]),
        None => String::new(),
    };
    let operation = Operation::new(
        Key::new("PullImage", format!("{reference}{asker}")),
        node.loaded.config.timeouts.pull.get(),
    );
    let pinned = is_pinned(&node.loaded.config.image.pinned, &reference.to_string());
    let name = reference.clone();
    let request = PullRequest { alternatives, credentials, pinned, ..PullRequest::new(name) };
    let pull = node.images.start_pull(request);
    let progress = pull.progress().clone();
    let registry = reference.domain().to_owned();
    let (ops, metrics) = (node.ops.clone(), node.metrics.clone());
    let outcome = async move {
        ops.run(operation, async move |handle| {
            handle.stage("pull");
            let (_in_flight, begun) = (metrics.pull_in_flight(), Instant::now());
            let outcome = pull.outcome().await;
            tell(&metrics, &registry, begun.elapsed(), &outcome);
            outcome.map_err(status::of)
        })
        .await
    };
    Ok((progress, outcome))
}

/// Counts a pull, and says in the log what came of it; that it failed is said by who answers.
fn tell(
    metrics: &Metrics,
    registry: &str,
    elapsed: Duration,
    outcome: &Result<PullOutcome, Error>,
) {
    match outcome {
        Err(error) => metrics.pull_failed(registry, error.class()),
        Ok(outcome) => {
            let PullOutcome { image, bytes_fetched, layers_fetched, layers_reused, .. } = outcome;
            metrics.pulled(*bytes_fetched);
            metrics.pull_done(elapsed, *layers_fetched as u64, *layers_reused as u64);
            let seconds = elapsed.as_secs_f64();
            tracing::info!(
                registry, %image, bytes = bytes_fetched, layers_fetched, layers_reused, seconds,
                "image pulled"
            );
        }
    }
}

/// The credentials that a client sends; none if it sends empty ones.
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

/// Whether an image is to stay: it was pinned when it came, or the configuration names it now.
pub(crate) fn stays(node: &Node, image: &Image) -> bool {
    let patterns = &node.loaded.config.image.pinned;
    let mut names = image.repo_tags().iter().chain(image.repo_digests());
    image.pinned() || names.any(|name| is_pinned(patterns, name))
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

    /// Each kind of secret, and whom it is for: none is mistaken for another, or lost on the way.
    #[test]
    fn credentials_of_every_kind_are_taken() {
        let given: [fn(&mut AuthConfig); 5] = [
            |auth| (auth.username, auth.password) = ("alice".into(), "secret".into()),
            |auth| auth.auth = "Ym9iOnNlY3JldA==".into(),
            |auth| auth.identity_token = "secret".into(),
            |auth| auth.registry_token = "secret".into(),
            |auth| {
                auth.registry_token = "secret".into();
                auth.server_address = "registry.test".into();
            },
        ];
        let taken = given.map(|change| {
            let mut auth = AuthConfig::default();
            change(&mut auth);
            credentials(&auth).unwrap().unwrap()
        });
        for (index, one) in taken.iter().enumerate() {
            assert!(taken[..index].iter().all(|other| other != one), "{index}");
        }
    }

    #[test]
    fn empty_credentials_are_none() {
        assert!(credentials(&AuthConfig::default()).unwrap().is_none());
    }
}
