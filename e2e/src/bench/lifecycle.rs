//! The life of a pod with one container, each call timed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Contender, Network, Plan, Table, Unit};
use crate::client::{Status, container, pod};

/// Runs the rounds, the engines taking turns within each.
pub(super) async fn measure(
    plan: &Plan,
    contenders: &[Contender],
    network: Network,
    table: &mut Table,
) -> Result<()> {
    for round in 0..plan.warm_ups + plan.rounds {
        for turn in 0..contenders.len() {
            // Another one begins each round: nobody always runs in somebody's wake.
            let engine = (round + turn) % contenders.len();
            let timed = contenders[engine].live(plan, network).await.with_context(|| {
                format!("a pod of {}", contenders[engine].daemon.engine().name())
            })?;
            if round >= plan.warm_ups {
                for (name, time) in timed {
                    let name = format!("{name}, {}", network.name());
                    table.push(&name, Unit::Milliseconds, engine, time.as_secs_f64() * 1e3);
                }
            }
            // The gap itself: see the plan.
            tokio::time::sleep(plan.gap).await;
        }
    }
    Ok(())
}

impl Network {
    fn name(self) -> &'static str {
        match self {
            Self::Host => "host network",
            Self::Bridge => "bridge",
        }
    }
}

impl Contender {
    /// Runs a pod from start to removal; answers the time of each call, and of the calls that a
    /// kubelet makes in a row.
    async fn live(&self, plan: &Plan, network: Network) -> Result<Vec<(&'static str, Duration)>> {
        let mut watch = Stopwatch::default();
        let mut spec = pod("bench");
        let mut payload = container("payload").image(&self.image).cmd(["sleep", "inf"]);
        if network == Network::Host {
            spec = spec.host_network();
        }
        if plan.seccomp {
            (spec, payload) = (spec.seccomp_default(), payload.seccomp_default());
        }

        let pod = watch.time("RunPodSandbox", self.client.run_pod(spec)).await?;
        let payload = watch.time("CreateContainer", pod.create(payload)).await?;
        watch.time("StartContainer", payload.start()).await?;
        watch.sum("= pod start", 3);
        let output = watch.time("ExecSync true", payload.exec(["true"])).await?;
        anyhow::ensure!(output.code == 0, "`true` ended with {output:?}");
        watch.time("StopContainer", payload.stop(0)).await?;
        watch.time("RemoveContainer", payload.remove()).await?;
        watch.time("StopPodSandbox", pod.stop()).await?;
        watch.time("RemovePodSandbox", pod.remove()).await?;
        watch.sum("= stop and remove", 4);
        Ok(watch.times)
    }
}

#[derive(Default)]
struct Stopwatch {
    times: Vec<(&'static str, Duration)>,
}

impl Stopwatch {
    async fn time<T>(
        &mut self,
        name: &'static str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T> {
        let start = Instant::now();
        let answer = call.await.context(name)?;
        self.times.push((name, start.elapsed()));
        Ok(answer)
    }

    /// Adds up the last `calls`.
    fn sum(&mut self, name: &'static str, calls: usize) {
        let sum = self.times.iter().rev().take(calls).map(|(_, time)| *time).sum();
        self.times.push((name, sum));
    }
}
