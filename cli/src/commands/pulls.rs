//! `berth pulls`: what comes onto the node, how fast, and who waits for it.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::api::admin::pull_in_flight::Phase;
use crate::api::admin::{PullInFlight, pull_layer};
use crate::node::Node;
use crate::output::{Format, Output, print, print_json};
use crate::rate;
use crate::table::Table;
use crate::units::{duration, size};

/// Time between the two looks that a rate is made of.
const LOOK: Duration = Duration::from_millis(500);

const JSON: &str = "\
JSON: a list of objects, the one that runs longest first, with
  image              its whole reference
  authenticated      whether the registry is shown credentials
  phase              resolving, fetching, publishing or ended
  layers             object, how many: waiting, fetching, fetched, reused
  receivedBytes      compressed, with those of layers that were here
  totalBytes         compressed; 0 until the manifest is known
  bytesPerSecond     over the last half second; null if nothing is known of it
  etaSeconds         until all is fetched at this rate; null if that is never, or not known
  elapsedSeconds     since it began
  remainingSeconds   until its deadline
  waiting            clients that wait for it; it goes on without any
  operation          id, as `berth ops` has it";

/// List pulls in flight: what of each image has come, how fast, and who waits for it
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Pulls {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    image: String,
    authenticated: bool,
    phase: &'static str,
    layers: LayerCounts,
    received_bytes: u64,
    total_bytes: u64,
    bytes_per_second: Option<u64>,
    eta_seconds: Option<u64>,
    elapsed_seconds: f64,
    remaining_seconds: f64,
    waiting: u32,
    operation: String,
}

#[derive(Debug, Default, Serialize)]
struct LayerCounts {
    waiting: usize,
    fetching: usize,
    fetched: usize,
    reused: usize,
}

/// Looks twice, and prints what there is at the second look.
pub(crate) async fn execute(node: &Node, options: Pulls) -> anyhow::Result<ExitCode> {
    let admin = node.admin().await?;
    let before = admin.pulls().await?;
    let mut pulls = Vec::new();
    if !before.is_empty() {
        // A rate is what came in between.
        tokio::time::sleep(LOOK).await;
        pulls = admin.pulls().await?;
    }
    let before: HashMap<_, _> = before.iter().map(|pull| (key(pull), pull)).collect();
    let views: Vec<_> =
        pulls.iter().map(|pull| view(pull, before.get(&key(pull)).copied())).collect();
    match options.output.format {
        Format::Table => print(table(&views).to_string())?,
        Format::Json => print_json(&views)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn key(pull: &PullInFlight) -> (&str, &str) {
    (&pull.reference, &pull.operation)
}

fn received(pull: &PullInFlight) -> u64 {
    pull.layers.iter().map(|layer| layer.received).sum()
}

fn length(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

fn view(pull: &PullInFlight, before: Option<&PullInFlight>) -> View {
    let (received_bytes, total_bytes) =
        (received(pull), pull.layers.iter().map(|layer| layer.size).sum::<u64>());
    // Until the manifest is known there was nothing to come.
    let bytes_per_second = before.filter(|before| !before.layers.is_empty()).and_then(|before| {
        let time = length(pull.elapsed).saturating_sub(length(before.elapsed));
        rate::per_second(received_bytes.saturating_sub(received(before)), time)
    });
    let is_fetching = pull.phase() == Phase::Fetching;
    let eta = rate::eta(total_bytes.saturating_sub(received_bytes), bytes_per_second);
    View {
        image: pull.reference.clone(),
        authenticated: pull.authenticated,
        phase: phase(pull.phase()),
        layers: counts(pull),
        received_bytes,
        total_bytes,
        bytes_per_second,
        eta_seconds: eta.filter(|_| is_fetching).map(|eta| eta.as_secs()),
        elapsed_seconds: length(pull.elapsed).as_secs_f64(),
        remaining_seconds: length(pull.remaining).as_secs_f64(),
        waiting: pull.waiting,
        operation: pull.operation.clone(),
    }
}

fn counts(pull: &PullInFlight) -> LayerCounts {
    let mut counts = LayerCounts::default();
    for layer in &pull.layers {
        *match layer.phase() {
            pull_layer::Phase::Waiting => &mut counts.waiting,
            pull_layer::Phase::Fetching => &mut counts.fetching,
            pull_layer::Phase::Fetched => &mut counts.fetched,
            pull_layer::Phase::Reused => &mut counts.reused,
        } += 1;
    }
    counts
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolving => "resolving",
        Phase::Fetching => "fetching",
        Phase::Publishing => "publishing",
        Phase::Ended => "ended",
    }
}

fn table(views: &[View]) -> Table<8> {
    let header = ["IMAGE", "PHASE", "LAYERS", "RECEIVED", "RATE", "ETA", "ELAPSED", "CLIENTS"];
    let mut table = Table::new(header);
    for view in views {
        let LayerCounts { waiting, fetching, fetched, reused } = view.layers;
        let all = waiting + fetching + fetched + reused;
        let is_known = all > 0;
        let bytes =
            format!("{} of {}", size::show(view.received_bytes), size::show(view.total_bytes));
        let rate = view.bytes_per_second.map(|rate| format!("{}/s", size::show(rate)));
        let eta = view.eta_seconds.map(|eta| duration::show(Duration::from_secs(eta)));
        table.row([
            view.image.clone(),
            view.phase.to_owned(),
            if is_known { format!("{} of {all}", fetched + reused) } else { String::new() },
            if is_known { bytes } else { String::new() },
            rate.unwrap_or_default(),
            eta.unwrap_or_default(),
            duration::show(Duration::from_secs_f64(view.elapsed_seconds)),
            view.waiting.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::admin::PullLayer;

    const MIB: u64 = 1 << 20;

    fn pull(received: u64, elapsed: i64) -> PullInFlight {
        let layer = |size, received, phase: pull_layer::Phase| PullLayer {
            digest: "sha256:aa".into(),
            size,
            received,
            phase: phase.into(),
        };
        PullInFlight {
            reference: "docker.io/library/app:1".into(),
            authenticated: true,
            phase: Phase::Fetching.into(),
            layers: vec![
                layer(2 * MIB, 2 * MIB, pull_layer::Phase::Reused),
                layer(10 * MIB, received, pull_layer::Phase::Fetching),
            ],
            operation: "7".into(),
            elapsed,
            remaining: 60_000_000_000,
            waiting: 2,
        }
    }

    #[test]
    fn the_json_shape_is_stable() {
        let view = view(&pull(5 * MIB, 1_500_000_000), Some(&pull(4 * MIB, 1_000_000_000)));
        let expected = json!({
            "image": "docker.io/library/app:1",
            "authenticated": true,
            "phase": "fetching",
            "layers": { "waiting": 0, "fetching": 1, "fetched": 0, "reused": 1 },
            "receivedBytes": 7 * MIB,
            "totalBytes": 12 * MIB,
            "bytesPerSecond": 2 * MIB,
            "etaSeconds": 3,
            "elapsedSeconds": 1.5,
            "remainingSeconds": 60.0,
            "waiting": 2,
            "operation": "7",
        });
        assert_eq!(serde_json::to_value(view).unwrap(), expected);
    }

    #[test]
    fn a_pull_that_has_just_begun_or_is_stalled_has_no_end() {
        let resolving = PullInFlight { layers: vec![], phase: 0, ..pull(0, 10) };
        for (now, before) in [
            (&resolving, None),
            (&pull(1, 10), Some(&resolving)),
            (&pull(MIB, 10), Some(&pull(MIB, 5))),
        ] {
            assert_eq!(view(now, before).eta_seconds, None);
        }
        let lines = table(&[view(&resolving, None)]).lines();
        assert!(lines[1].starts_with("docker.io/library/app:1   resolving   -"), "{lines:?}");
        let lines = table(&[view(&pull(5 * MIB, 2_000_000_000), Some(&pull(MIB, 1_000_000_000)))]);
        let expected = "1 of 2   7 MiB of 12 MiB   4 MiB/s   2.0 s";
        assert!(lines.lines()[1].contains(expected), "{lines}");
    }
}
