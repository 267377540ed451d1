//! `berth stats`: what containers use.

mod sample;

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::sample::Use;
use crate::api::runtime::ContainerStats;
use crate::live::Live;
use crate::names::{Names, pod_name};
use crate::node::{Cri, Node};
use crate::output::{Format, Output, Stream, print, print_json};
use crate::table::{self, Table};
use crate::units::size;

const JSON: &str = "\
JSON: a list of objects, whose numbers are null where the node does not have them
  id, name, podId
  cpuCores           processors in use over the last second
  memory             bytes in use that cannot be taken back (the working set)
  memoryAvailable    bytes that are left until the limit; null without one
  swap, disk         bytes of swap, and bytes that were written to the root file system";

/// Time between two looks, from which the use of processors is computed.
const INTERVAL: Duration = Duration::from_secs(1);

/// Show what containers that run use
///
/// On a terminal the table is refreshed every second until Ctrl-C. Elsewhere, with --no-stream or
/// with -o json it is printed once. A value that the node does not have is `-`.
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Stats {
    /// Print the table once
    #[arg(long)]
    no_stream: bool,

    /// Only these containers: ids, beginnings of ids, or names
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    id: String,
    name: String,
    pod_id: Option<String>,
    #[serde(flatten)]
    used: Use,
    #[serde(skip)]
    pod: String,
}

/// Looks twice, and then again and again if a person watches.
pub(crate) async fn execute(node: &Node, options: Stats) -> anyhow::Result<ExitCode> {
    let cri = node.cri().await?;
    let wanted = wanted(&cri, &options.containers).await?;
    let once =
        options.no_stream || options.output.format == Format::Json || !Stream::Stdout.is_terminal();
    let mut live = Live::new(Stream::Stdout);
    let mut before = cri.list_container_stats().await?;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let mut now = cri.list_container_stats().await?;
        now.retain(|stats| wanted.is_empty() || wanted.contains(sample::id(stats)));
        let names = Names::read(&cri).await?;
        let views: Vec<_> = now.iter().map(|stats| view(stats, &before, &names)).collect();
        match options.output.format {
            Format::Json => print_json(&views)?,
            Format::Table if once => print(table(&views).to_string())?,
            Format::Table => live.draw(&table(&views).lines())?,
        }
        if once {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

/// Ids of the containers that were asked for; empty for all.
async fn wanted(cri: &Cri, containers: &[String]) -> anyhow::Result<HashSet<String>> {
    if containers.is_empty() {
        return Ok(HashSet::new());
    }
    let names = Names::read(cri).await?;
    let ids = containers.iter().map(|text| Ok(names.container(text)?.id.clone()));
    ids.collect()
}

fn view(stats: &ContainerStats, before: &[ContainerStats], names: &Names) -> View {
    let id = sample::id(stats);
    let before = before.iter().find(|other| sample::id(other) == id);
    let container = names.containers.iter().find(|container| container.id == id);
    let pod = container.and_then(|container| names.pod_of(container));
    let metadata = stats.attributes.as_ref().and_then(|attributes| attributes.metadata.as_ref());
    View {
        id: id.to_owned(),
        name: metadata.map_or(String::new(), |metadata| metadata.name.clone()),
        pod_id: container.map(|container| container.pod_sandbox_id.clone()),
        used: Use::between(before, stats),
        pod: pod.map(pod_name).unwrap_or_default(),
    }
}

fn table(views: &[View]) -> Table<7> {
    let header = ["CONTAINER ID", "NAME", "POD", "CPU", "MEMORY", "SWAP", "DISK"];
    let mut table = Table::new(header);
    for View { id, name, pod, used, .. } in views {
        let bytes = |bytes: Option<u64>| bytes.map(size::show).unwrap_or_default();
        let percent = used.cpu_cores.map(|cores| format!("{:.1} %", cores * 100.0));
        table.row([
            table::id(id, false),
            name.clone(),
            pod.clone(),
            percent.unwrap_or_default(),
            memory(used),
            bytes(used.swap),
            bytes(used.disk),
        ]);
    }
    table
}

/// What is used, and the limit if there is one.
fn memory(used: &Use) -> String {
    match (used.memory, used.memory_available) {
        (None, _) => String::new(),
        (Some(memory), None) => size::show(memory),
        (Some(memory), Some(left)) => {
            format!("{} of {}", size::show(memory), size::show(memory.saturating_add(left)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_does_not_have_is_a_dash() {
        let used = Use {
            cpu_cores: Some(1.5),
            memory: Some(1 << 20),
            memory_available: Some(3 << 20),
            swap: None,
            disk: None,
        };
        let view = View {
            id: "c1".into(),
            name: "app".into(),
            pod_id: None,
            used,
            pod: "default/web".into(),
        };
        let expected = [
            "CONTAINER ID   NAME   POD           CPU       MEMORY           SWAP   DISK",
            "c1             app    default/web   150.0 %   1 MiB of 4 MiB   -      -",
        ];
        assert_eq!(table(&[view]).lines(), expected);
    }
}
