//! Where berthd's time goes: the stages of its operations, as its own metrics tell.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Time that a daemon needs to answer at most.
const SOON: Duration = Duration::from_secs(10);

/// The family that the stages are in, without what is behind its name.
const FAMILY: &str = "berth_stage_duration_seconds";

/// Mean times of the stages of each operation.
#[derive(Debug, Default)]
pub struct Steps(BTreeMap<String, Vec<Step>>);

#[derive(Debug)]
struct Step {
    stage: String,
    count: f64,
    seconds: f64,
}

impl Steps {
    /// Asks the daemon whose metrics are at `address`.
    pub(super) async fn read(address: &str) -> Result<Self> {
        let answer = tokio::time::timeout(SOON, get(address)).await.context("wait for metrics")?;
        Self::parse(&answer.with_context(|| format!("read the metrics at {address}"))?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut steps = Self::default();
        for line in text.lines() {
            let Some((kind, labels, value)) = parts(line) else { continue };
            let operation = label(labels, "operation").context("an operation")?;
            let stage = label(labels, "stage").context("a stage")?;
            let steps = steps.0.entry(operation.to_owned()).or_default();
            if steps.iter().all(|step| step.stage != stage) {
                steps.push(Step { stage: stage.to_owned(), count: 0.0, seconds: 0.0 });
            }
            let step = steps.iter_mut().find(|step| step.stage == stage);
            let step = step.context("the stage that was just added")?;
            match kind {
                "sum" => step.seconds = value.parse().context("a sum")?,
                "count" => step.count = value.parse().context("a count")?,
                _ => {}
            }
        }
        ensure!(!steps.0.is_empty(), "no {FAMILY} among the metrics");
        Ok(steps)
    }
}

/// `FAMILY_KIND{LABELS} VALUE`
fn parts(line: &str) -> Option<(&str, &str, &str)> {
    let (kind, rest) = line.strip_prefix(FAMILY)?.strip_prefix('_')?.split_once('{')?;
    let (labels, value) = rest.split_once("} ")?;
    Some((kind, labels, value))
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|label| {
        let value = label.strip_prefix(name)?.strip_prefix("=\"")?;
        value.strip_suffix('"')
    })
}

async fn get(address: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{}", answer.lines().next().unwrap_or_default());
    Ok(answer)
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "where berthd's time goes, on average (ms)")?;
        for (operation, steps) in &self.0 {
            let mean = |step: &Step| step.seconds * 1e3 / step.count.max(1.0);
            let total: f64 = steps.iter().map(mean).sum();
            let each = steps.iter().map(|step| format!("{} {:.2}", step.stage, mean(step)));
            let each = each.collect::<Vec<_>>().join(", ");
            writeln!(f, "{operation:24} {total:8.2}  = {each}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_the_mean_of_their_times() {
        let text = "# TYPE berth_stage_duration_seconds histogram\n\
            berth_stage_duration_seconds_bucket{operation=\"StartContainer\",stage=\"plan\",le=\"1\"} 4\n\
            berth_stage_duration_seconds_sum{operation=\"StartContainer\",stage=\"plan\"} 0.002\n\
            berth_stage_duration_seconds_count{operation=\"StartContainer\",stage=\"plan\"} 4\n\
            berth_stage_duration_seconds_sum{operation=\"StartContainer\",stage=\"program\"} 0.01\n\
            berth_stage_duration_seconds_count{operation=\"StartContainer\",stage=\"program\"} 4\n";
        let told = Steps::parse(text).unwrap().to_string();
        assert!(
            told.contains("StartContainer               3.00  = plan 0.50, program 2.50"),
            "{told}"
        );
        assert!(Steps::parse("berth_build_info 1\n").is_err());
    }
}
