//! Processor time, and which processors and memory nodes.

use oci_spec::runtime::LinuxCpu;

use crate::error::Error;

use super::{NO_FILE, Write, or_max, refuse};

pub(super) fn plan(cpu: &LinuxCpu, writes: &mut Vec<Write>) -> Result<(), Error> {
    if cpu.realtime_runtime().is_some_and(|runtime| runtime != 0) {
        return refuse("cpu.realtimeRuntime", NO_FILE);
    }
    if cpu.realtime_period().is_some_and(|period| period != 0) {
        return refuse("cpu.realtimePeriod", NO_FILE);
    }
    // Before the weight, which a cgroup that is not idle any more can have again.
    match cpu.idle() {
        None => {}
        Some(idle @ (0 | 1)) => writes.push(Write::new("cpu.idle", "cpu.idle", idle)),
        Some(idle) => return refuse("cpu.idle", format!("{idle} is neither 0 nor 1")),
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        writes.push(Write::new("cpu.shares", "cpu.weight", weight_of_shares(shares)));
    }
    plan_bandwidth(cpu, writes);
    for (field, file, set) in
        [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())]
    {
        if let Some(set) = set.as_ref().filter(|set| !set.is_empty()) {
            writes.push(Write::new(field, file, set));
        }
    }
    Ok(())
}

fn plan_bandwidth(cpu: &LinuxCpu, writes: &mut Vec<Write>) {
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    let max = match (quota, period) {
        (None, None) => None,
        (Some(quota), Some(period)) => Some(("cpu.quota", format!("{} {period}", or_max(quota)))),
        (Some(quota), None) => Some(("cpu.quota", or_max(quota))),
        (None, Some(period)) => Some(("cpu.period", format!("max {period}"))),
    };
    if let Some((field, value)) = max {
        writes.push(Write::new(field, "cpu.max", value));
    }
    // The kernel takes no burst beyond the quota.
    if let Some(burst) = cpu.burst() {
        writes.push(Write::new("cpu.burst", "cpu.max.burst", burst));
    }
}

/// Converts cgroup v1 shares (2 to 262144, 1024 by default) to a v2 weight (1 to 10000, 100 by
/// default) so that all three points of each meet, as the field's runtimes do since 2025.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            10_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}
