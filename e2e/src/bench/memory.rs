//! What pods cost in memory that nobody else shares: the private bytes of all processes that
//! exist because of them, their payload left out.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use super::{Contender, Plan, Table, Unit};
use crate::client::{container, pod};
use crate::process;

/// The payload of each pod, recognisable by its argument.
const PAYLOAD: [&str; 2] = ["sleep", "424242"];

pub(super) async fn measure(
    plan: &Plan,
    contenders: &mut [Contender],
    table: &mut Table,
) -> Result<()> {
    for (engine, contender) in contenders.iter_mut().enumerate() {
        let before = processes()?;
        let mut pods = Vec::new();
        for _ in 0..plan.resident_pods {
            let pod = contender.client.run_pod(pod("resident").host_network()).await?;
            pod.run(container("payload").image(&contender.image).cmd(PAYLOAD)).await?;
            pods.push(pod);
        }
        let new: Vec<_> = processes()?.difference(&before).copied().collect();
        let private = new.iter().map(|pid| process::memory(*pid, &process::PRIVATE));
        let private: u64 = private.sum::<Result<u64>>()?;
        let per_pod = |total: f64| total / pods.len().max(1) as f64;
        table.push("private memory per pod", Unit::Kibibytes, engine, per_pod(private as f64));
        table.push("processes per pod", Unit::Count, engine, per_pod(new.len() as f64));
        let daemon = contender.daemon.process()?.pid().context("the daemon's process")?;
        let daemon = process::memory(daemon.as_raw_nonzero().get(), &["Pss:"])?;
        table.push("daemon, proportional set size", Unit::Kibibytes, engine, daemon as f64);
        for pod in pods {
            pod.delete().await?;
        }
    }
    Ok(())
}

/// All processes but payloads.
fn processes() -> Result<BTreeSet<i32>> {
    let entries = fs::read_dir("/proc").context("list /proc")?;
    let pids = entries.flatten().filter_map(|e| e.file_name().to_string_lossy().parse().ok());
    Ok(pids.filter(|pid| !is_payload(*pid)).collect())
}

fn is_payload(pid: i32) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).any(|word| word == PAYLOAD[1].as_bytes())
}
