//! `berth version`: who we are, and who answers.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::node::Node;
use crate::output::{Format, Output, print, print_json};

const JSON: &str = "\
JSON: an object with
  client   this program: version, revision
  daemon   who answers on the CRI socket: name, version, apiVersion";

/// Tell which version this is, and which daemon answers
///
/// What is known of this program is printed even if no daemon answers.
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Version {
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    client: Client,
    daemon: Option<Daemon>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    version: &'static str,
    revision: &'static str,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Daemon {
    name: String,
    version: String,
    api_version: String,
}

const CLIENT: Client = Client {
    version: env!("CARGO_PKG_VERSION"),
    revision: match option_env!("BERTH_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    },
};

/// Prints what is known, then fails if the daemon's part is not.
pub(crate) async fn execute(node: &Node, options: Version) -> anyhow::Result<ExitCode> {
    let answer = daemon(node).await;
    let view = View { client: CLIENT, daemon: answer.as_ref().ok().cloned() };
    match options.output.format {
        Format::Table => print(text(&view))?,
        Format::Json => print_json(&view)?,
    }
    answer.map(|_| ExitCode::SUCCESS)
}

async fn daemon(node: &Node) -> anyhow::Result<Daemon> {
    let answer = node.cri().await?.version().await?;
    Ok(Daemon {
        name: answer.runtime_name,
        version: answer.runtime_version,
        api_version: answer.runtime_api_version,
    })
}

fn text(view: &View) -> String {
    let Client { version, revision } = view.client;
    let mut text = format!("client: berth {version} (revision {revision})\n");
    if let Some(Daemon { name, version, api_version }) = &view.daemon {
        text.push_str(&format!("daemon: {name} {version} (CRI {api_version})\n"));
    }
    text
}
