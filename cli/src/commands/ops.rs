//! `berth ops`: what berthd is doing.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::api::admin::{Operation, Stage};
use crate::names::Names;
use crate::node::Node;
use crate::output::{Format, Output, print, print_json};
use crate::table::Table;
use crate::time;
use crate::units::duration;

const JSON: &str = "\
JSON: a list of objects with
  id
  name               the RPC, as in RunPodSandbox
  subject            what it is done to
  object             id of the pod or container whose queue it is in; empty if it has none
  startedAt          time
  elapsedSeconds     since it was asked for
  remainingSeconds   until its deadline; 0 when that has passed
  waiting            clients that wait for the result
  stages             list of objects, oldest first: name, elapsedSeconds, waitsFor";

/// List operations in flight, oldest first, with the stages that they went through
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Ops {
    /// Only operations on this pod or container: its id, the beginning of it, or its name
    #[arg(value_name = "POD|CONTAINER")]
    object: Option<String>,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    id: String,
    name: String,
    subject: String,
    object: String,
    started_at: Option<String>,
    elapsed_seconds: f64,
    remaining_seconds: f64,
    waiting: u32,
    stages: Vec<StageView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StageView {
    name: String,
    elapsed_seconds: f64,
    waits_for: Option<String>,
}

/// Prints the list.
pub(crate) async fn execute(node: &Node, options: Ops) -> anyhow::Result<ExitCode> {
    let object = match &options.object {
        Some(text) => Names::read(&node.cri().await?).await?.object(text)?.id().to_owned(),
        None => String::new(),
    };
    let operations = node.admin().await?.operations(object).await?;
    match options.output.format {
        Format::Table => print(table(&operations).to_string())?,
        Format::Json => print_json(&operations.into_iter().map(view).collect::<Vec<_>>())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(operations: &[Operation]) -> Table<6> {
    let header = ["OPERATION", "SUBJECT", "ELAPSED", "DEADLINE IN", "CLIENTS", "STAGES"];
    let mut table = Table::new(header);
    for operation in operations {
        let stages: Vec<_> = operation.stages.iter().map(stage).collect();
        table.row([
            operation.name.clone(),
            operation.subject.clone(),
            duration::show(length(operation.elapsed)),
            duration::show(length(operation.remaining)),
            operation.waiting.to_string(),
            stages.join(" > "),
        ]);
    }
    table
}

fn stage(Stage { name, elapsed, waits_for }: &Stage) -> String {
    let elapsed = duration::show(length(*elapsed));
    match waits_for.as_str() {
        "" => format!("{name} {elapsed}"),
        what => format!("{name} {elapsed} (waits for {what})"),
    }
}

fn view(operation: Operation) -> View {
    let stage = |Stage { name, elapsed, waits_for }| StageView {
        name,
        elapsed_seconds: length(elapsed).as_secs_f64(),
        waits_for: Some(waits_for).filter(|what: &String| !what.is_empty()),
    };
    View {
        id: operation.id,
        name: operation.name,
        subject: operation.subject,
        object: operation.object,
        started_at: time::rfc3339(operation.started_at),
        elapsed_seconds: length(operation.elapsed).as_secs_f64(),
        remaining_seconds: length(operation.remaining).as_secs_f64(),
        waiting: operation.waiting,
        stages: operation.stages.into_iter().map(stage).collect(),
    }
}

fn length(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example() -> Operation {
        let stage = |name: &str, elapsed, waits_for: &str| Stage {
            name: name.into(),
            elapsed,
            waits_for: waits_for.into(),
        };
        Operation {
            id: "7".into(),
            name: "RunPodSandbox".into(),
            subject: "default/web".into(),
            object: String::new(),
            started_at: 1_000_000_000,
            elapsed: 1_500_000_000,
            remaining: 238_500_000_000,
            waiting: 1,
            stages: vec![
                stage("cgroup", 2_000_000, ""),
                stage("network add", 1_498_000_000, "plugin bridge (pid 77)"),
            ],
        }
    }

    #[test]
    fn a_row_tells_where_an_operation_stands() {
        let lines = table(&[example()]).lines();
        let stages = "cgroup 2 ms > network add 1.5 s (waits for plugin bridge (pid 77))";
        assert!(lines[1].starts_with("RunPodSandbox   default/web   1.5 s     3 min"), "{lines:?}");
        assert!(lines[1].ends_with(stages), "{lines:?}");
    }

    #[test]
    fn the_json_shape_is_stable() {
        let expected = json!({
            "id": "7",
            "name": "RunPodSandbox",
            "subject": "default/web",
            "object": "",
            "startedAt": "1970-01-01T00:00:01.000000000Z",
            "elapsedSeconds": 1.5,
            "remainingSeconds": 238.5,
            "waiting": 1,
            "stages": [
                { "name": "cgroup", "elapsedSeconds": 0.002, "waitsFor": null },
                {
                    "name": "network add",
                    "elapsedSeconds": 1.498,
                    "waitsFor": "plugin bridge (pid 77)",
                },
            ],
        });
        assert_eq!(serde_json::to_value(view(example())).unwrap(), expected);
    }
}
