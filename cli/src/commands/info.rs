//! `berth info`: the daemon, and what it found on this node.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::api::admin::{Condition, Feature, InfoResponse, Setting};
use crate::node::Node;
use crate::output::{Format, Output, print, print_json};
use crate::table::Table;
use crate::time;

const JSON: &str = "\
JSON: an object with
  version, revision, rustc   the daemon's build
  pid, startedAt             its process
  kernel                     release of the running kernel
  conditions   list of objects: type, status (true or false), reason, message
  features     list of objects: name, available, detail
  settings     list of objects: key, value (as TOML), origin; all of them";

/// Tell what berthd is, whether it is well, and what it found on this node
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Info {
    /// Show all settings, not only those that are not the default
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    version: String,
    revision: String,
    rustc: String,
    pid: u32,
    started_at: Option<String>,
    kernel: String,
    conditions: Vec<ConditionView>,
    features: Vec<FeatureView>,
    settings: Vec<SettingView>,
}

#[derive(Debug, Serialize)]
struct ConditionView {
    r#type: String,
    status: bool,
    reason: String,
    message: String,
}

#[derive(Debug, Serialize)]
struct FeatureView {
    name: String,
    available: bool,
    detail: String,
}

#[derive(Debug, Serialize)]
struct SettingView {
    key: String,
    value: String,
    origin: String,
}

/// Prints what is known.
pub(crate) async fn execute(node: &Node, options: Info) -> anyhow::Result<ExitCode> {
    let answer = node.admin().await?.info().await?;
    match options.output.format {
        Format::Table => print(text(&answer, options.all, time::now()))?,
        Format::Json => print_json(&view(answer))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn view(answer: InfoResponse) -> View {
    let condition = |Condition { r#type, status, reason, message }| ConditionView {
        r#type,
        status,
        reason,
        message,
    };
    let feature = |Feature { name, available, detail }| FeatureView { name, available, detail };
    let setting = |Setting { key, value, origin }| SettingView { key, value, origin };
    View {
        version: answer.version,
        revision: answer.revision,
        rustc: answer.rustc,
        pid: answer.pid,
        started_at: time::rfc3339(answer.started_at),
        kernel: answer.kernel,
        conditions: answer.conditions.into_iter().map(condition).collect(),
        features: answer.features.into_iter().map(feature).collect(),
        settings: answer.settings.into_iter().map(setting).collect(),
    }
}

fn text(answer: &InfoResponse, all: bool, now: i64) -> String {
    let InfoResponse { version, revision, rustc, pid, kernel, .. } = answer;
    let started = time::ago(answer.started_at, now);
    let mut text = format!(
        "berthd {version} (revision {revision}, rustc {rustc})\n\
         pid {pid}, started {started}, kernel {kernel}\n"
    );
    let mut section = |table: String, rows: usize| {
        if rows > 0 {
            text.push('\n');
            text.push_str(&table);
        }
    };
    section(conditions(&answer.conditions).to_string(), answer.conditions.len());
    section(features(&answer.features).to_string(), answer.features.len());
    let shown = |setting: &&Setting| all || setting.origin != "default";
    let shown: Vec<_> = answer.settings.iter().filter(shown).collect();
    section(settings(&shown).to_string(), shown.len());
    text
}

fn conditions(conditions: &[Condition]) -> Table<3> {
    let mut table = Table::new(["CONDITION", "STATUS", "WHY"]);
    for Condition { r#type, status, reason, message } in conditions {
        let why = [reason.as_str(), message].into_iter().filter(|text| !text.is_empty());
        table.row([r#type.clone(), yes(*status), why.collect::<Vec<_>>().join(": ")]);
    }
    table
}

fn features(features: &[Feature]) -> Table<3> {
    let mut table = Table::new(["FEATURE", "AVAILABLE", "DETAIL"]);
    for Feature { name, available, detail } in features {
        table.row([name.clone(), yes(*available), detail.clone()]);
    }
    table
}

fn settings(settings: &[&Setting]) -> Table<3> {
    let mut table = Table::new(["SETTING", "VALUE", "ORIGIN"]);
    for Setting { key, value, origin } in settings {
        table.row([key.clone(), value.clone(), origin.clone()]);
    }
    table
}

fn yes(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> InfoResponse {
        let setting = |key: &str, origin: &str| Setting {
            key: key.into(),
            value: "\"x\"".into(),
            origin: origin.into(),
        };
        InfoResponse {
            version: "1.2.3".into(),
            revision: "abc".into(),
            rustc: "1.90.0".into(),
            pid: 7,
            started_at: 1_000_000_000,
            kernel: "6.1.0".into(),
            settings: vec![setting("root", "default"), setting("state", "/etc/x.toml:3")],
            features: vec![],
            conditions: vec![Condition {
                r#type: "NetworkReady".into(),
                status: false,
                reason: "NoNetwork".into(),
                message: "no configuration".into(),
            }],
        }
    }

    #[test]
    fn a_person_sees_what_is_not_as_usual() {
        let expected = "\
berthd 1.2.3 (revision abc, rustc 1.90.0)
pid 7, started 1 minute ago, kernel 6.1.0

CONDITION      STATUS   WHY
NetworkReady   no       NoNetwork: no configuration

SETTING   VALUE   ORIGIN
state     \"x\"     /etc/x.toml:3
";
        assert_eq!(text(&example(), false, 61_000_000_000), expected);
        assert!(text(&example(), true, 0).contains("root"));
    }

    #[test]
    fn a_program_sees_everything() {
        let value = serde_json::to_value(view(example())).unwrap();
        assert_eq!(value["settings"].as_array().unwrap().len(), 2);
        assert_eq!(value["conditions"][0]["type"], "NetworkReady");
        assert_eq!(value["startedAt"], "1970-01-01T00:00:01.000000000Z");
    }
}
