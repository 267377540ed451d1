//! `berth push`: sends an image to its registry.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::pull::Creds;
use super::pull::progress::{PUSH, Progress};
use crate::api::admin::pull_response;
use crate::api::admin::push_response::Event;
use crate::api::admin::{PullDone, PushDone, PushRequest};
use crate::node::Node;
use crate::output::{Format, Output, Stream, print, print_json};

const JSON: &str = "\
JSON: an object with
  image            the name in the registry
  digest           of the manifest that it means now
  sentBytes        of layers, compressed
  elapsedSeconds";

/// Send an image to its registry
///
/// Layers that the registry has, also in another repository that the image came from, are not sent.
/// How far it is goes to standard error, the name by digest to standard output. The push goes on
/// when berth is interrupted.
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Push {
    /// The image: a name, an id, or the beginning of one
    image: String,

    /// The name that it gets in its registry, if that is another one
    #[arg(value_name = "NAME")]
    target: Option<String>,

    #[command(flatten)]
    creds: Creds,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    image: String,
    digest: String,
    sent_bytes: u64,
    elapsed_seconds: f64,
}

/// Pushes, and prints what the image is called now.
pub(crate) async fn execute(node: &Node, options: Push) -> anyhow::Result<ExitCode> {
    let Push { image, target, creds, quiet, output } = options;
    let admin = node.admin().await?;
    let target = target.unwrap_or_default();
    let title = if target.is_empty() { image.clone() } else { target.clone() };
    let request = PushRequest { image, target, credentials: creds.credentials()? };
    let mut answers = admin.push(request).await?;
    let mut progress = (!quiet).then(|| Progress::new(&title, Stream::Stderr, PUSH));
    while let Some(answer) = answers.next().await? {
        let Some(event) = answer.event else { continue };
        if let Some(progress) = &mut progress {
            progress.tell(&as_pulls(&event))?;
        }
        if let Event::Done(done) = event {
            let view = view(done);
            match output.format {
                Format::Table => print(format!("{}\n", by_digest(&view)))?,
                Format::Json => print_json(&view)?,
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
    bail!("push {title}: berthd ended it without a result")
}

/// The same as an event of a pull, which is told in the same way.
fn as_pulls(event: &Event) -> pull_response::Event {
    match event {
        Event::Resolved(resolved) => pull_response::Event::Resolved(resolved.clone()),
        Event::Progress(progress) => pull_response::Event::Progress(progress.clone()),
        Event::Done(PushDone { sent, elapsed, .. }) => pull_response::Event::Done(PullDone {
            image_id: String::new(),
            received: *sent,
            elapsed: *elapsed,
        }),
    }
}

fn view(done: PushDone) -> View {
    View {
        image: done.reference,
        digest: done.digest,
        sent_bytes: done.sent,
        elapsed_seconds: Duration::from_nanos(done.elapsed.unsigned_abs()).as_secs_f64(),
    }
}

/// `REPOSITORY@DIGEST`.
fn by_digest(view: &View) -> String {
    let repository = match view.image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => &view.image,
    };
    format!("{repository}@{}", view.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_named_by_digest() {
        for (image, expected) in [
            ("docker.io/library/app:1", "docker.io/library/app@sha256:aa"),
            ("[::1]:5000/app:1", "[::1]:5000/app@sha256:aa"),
            ("localhost:5000/app", "localhost:5000/app@sha256:aa"),
        ] {
            let done = PushDone {
                reference: image.into(),
                digest: "sha256:aa".into(),
                ..Default::default()
            };
            assert_eq!(by_digest(&view(done)), expected);
        }
    }
}
