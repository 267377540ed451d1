//! `berth pull`: brings an image onto the node.

pub(super) mod progress;

use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use self::progress::{PULL, Progress};
use crate::api::admin::pull_response::Event;
use crate::api::admin::{Credentials, Layer, PullDone, PullResolved};
use crate::exit::Failure;
use crate::node::{Admin, Node};
use crate::output::{Format, Output, Stream, print, print_json};

const JSON: &str = "\
JSON: an object with
  id               of the image
  image            its whole reference
  receivedBytes    what came over the network, compressed
  elapsedSeconds
  layers           list of objects, bottom first: digest, size (both compressed), present (before
                   the pull); empty if the image was here already";

/// Bring an image onto the node from its registry
///
/// How far it is goes to standard error, the image's id to standard output. The pull goes on when
/// berth is interrupted, and the same pull again joins it. Mirrors and certificates of registries
/// are berthd's to know: see `image.certs_dirs` in its configuration.
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Pull {
    /// The image, as in busybox, registry.example/app:1.2 or app@sha256:...
    image: String,

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
    id: String,
    image: String,
    received_bytes: u64,
    elapsed_seconds: f64,
    layers: Vec<LayerView>,
}

#[derive(Debug, Serialize)]
struct LayerView {
    digest: String,
    size: u64,
    present: bool,
}

/// How a registry knows us.
#[derive(Debug, Clone, Args)]
pub(crate) struct Creds {
    /// User and password for the registry; safer in the environment than among arguments, which
    /// other users of the node can see
    #[arg(long, value_name = "USER:PASSWORD", env = "BERTH_CREDS", hide_env_values = true)]
    creds: Option<Secret>,
}

/// A text that is never shown.
#[derive(Clone)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Takes any text: an error of parsing would show it.
impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl Creds {
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, Failure> {
        let Some(Secret(text)) = self.creds.as_ref().filter(|secret| !secret.0.is_empty()) else {
            return Ok(None);
        };
        let (username, password) = text
            .split_once(':')
            .ok_or_else(|| Failure::usage("--creds is not of the form USER:PASSWORD"))?;
        Ok(Some(Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        }))
    }
}

/// What a person hears of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// How far it is, on standard error.
    Progress,
    /// Nothing.
    Nothing,
}

/// Pulls, and prints the image's id.
pub(crate) async fn execute(node: &Node, options: Pull) -> anyhow::Result<ExitCode> {
    let tell = if options.quiet { Tell::Nothing } else { Tell::Progress };
    let admin = node.admin().await?;
    let view = run(&admin, &options.image, &options.creds, tell).await?;
    match options.output.format {
        Format::Table => print(format!("{}\n", view.id))?,
        Format::Json => print_json(&view)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Pulls an image, and answers its id.
pub(crate) async fn pull(
    admin: &Admin,
    image: &str,
    creds: &Creds,
    tell: Tell,
) -> anyhow::Result<String> {
    Ok(run(admin, image, creds, tell).await?.id)
}

async fn run(admin: &Admin, image: &str, creds: &Creds, tell: Tell) -> anyhow::Result<View> {
    let mut answers = admin.pull(image, creds.credentials()?).await?;
    let mut progress = match tell {
        Tell::Progress => Some(Progress::new(image, Stream::Stderr, PULL)),
        Tell::Nothing => None,
    };
    let mut resolved = PullResolved::default();
    while let Some(answer) = answers.next().await? {
        // What a newer berthd tells besides is nothing to us.
        let Some(event) = answer.event else { continue };
        if let Some(progress) = &mut progress {
            progress.tell(&event)?;
        }
        match event {
            Event::Resolved(told) => resolved = told,
            Event::Progress(_) => {}
            Event::Done(done) => return Ok(view(image, resolved, done)),
        }
    }
    bail!("pull {image}: berthd ended it without a result")
}

fn view(image: &str, resolved: PullResolved, done: PullDone) -> View {
    let PullResolved { reference, layers } = resolved;
    let layer = |Layer { digest, size, present }| LayerView { digest, size, present };
    View {
        id: done.image_id,
        image: Some(reference).filter(|name| !name.is_empty()).unwrap_or_else(|| image.to_owned()),
        received_bytes: done.received,
        elapsed_seconds: Duration::from_nanos(done.elapsed.unsigned_abs()).as_secs_f64(),
        layers: layers.into_iter().map(layer).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creds(text: &str) -> Creds {
        Creds { creds: Some(text.parse().unwrap()) }
    }

    #[test]
    fn credentials_are_split_at_the_first_colon() {
        let credentials = creds("me:a:b").credentials().unwrap().unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.as_str()), ("me", "a:b"));
        assert!(creds("").credentials().unwrap().is_none());
    }

    #[test]
    fn credentials_are_never_shown() {
        let nonsense = creds("secret");
        assert!(!format!("{nonsense:?}").contains("secret"));
        assert!(!nonsense.credentials().unwrap_err().to_string().contains("secret"));
    }
}
