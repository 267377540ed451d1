//! What a container uses, from two looks at its counters.

use serde::Serialize;

use crate::api::runtime::{ContainerStats, CpuUsage, UInt64Value};

const NANOS: f64 = 1e9;

/// What a container uses. What is `None` the node does not have.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Use {
    /// Processors.
    pub(super) cpu_cores: Option<f64>,
    /// Bytes that cannot be taken back.
    pub(super) memory: Option<u64>,
    /// Bytes until the limit.
    pub(super) memory_available: Option<u64>,
    /// Bytes of swap.
    pub(super) swap: Option<u64>,
    /// Bytes that were written to the root file system.
    pub(super) disk: Option<u64>,
}

impl Use {
    /// What was used between two looks; the first is missing for a container that is new.
    pub(super) fn between(before: Option<&ContainerStats>, now: &ContainerStats) -> Self {
        let memory = now.memory.as_ref();
        let layer = now.writable_layer.as_ref();
        let swap = now.swap.as_ref();
        Self {
            cpu_cores: cores(before.and_then(|stats| stats.cpu.as_ref()), now.cpu.as_ref()),
            memory: memory.and_then(|memory| value(&memory.working_set_bytes)),
            // Kubernetes' daemons say zero where there is no limit.
            memory_available: memory
                .and_then(|memory| value(&memory.available_bytes))
                .filter(|available| *available > 0),
            swap: swap.and_then(|swap| value(&swap.swap_usage_bytes)),
            disk: layer.and_then(|layer| value(&layer.used_bytes)),
        }
    }
}

/// The id of the container that the counters are of.
pub(super) fn id(stats: &ContainerStats) -> &str {
    stats.attributes.as_ref().map_or("", |attributes| &attributes.id)
}

fn cores(before: Option<&CpuUsage>, now: Option<&CpuUsage>) -> Option<f64> {
    let now = now?;
    let measured = before.and_then(|before| {
        let time = now.timestamp.checked_sub(before.timestamp).filter(|time| *time > 0)?;
        let (first, last) =
            (value(&before.usage_core_nano_seconds)?, value(&now.usage_core_nano_seconds)?);
        // A counter that runs backwards is another container's.
        Some(last.checked_sub(first)? as f64 / time as f64)
    });
    // Daemons that look at counters only now and then tell what they have computed themselves.
    measured.or_else(|| value(&now.usage_nano_cores).map(|nanos| nanos as f64 / NANOS))
}

fn value(value: &Option<UInt64Value>) -> Option<u64> {
    value.as_ref().map(|value| value.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::runtime::MemoryUsage;

    fn number(value: u64) -> Option<UInt64Value> {
        Some(UInt64Value { value })
    }

    fn stats(timestamp: i64, used: u64) -> ContainerStats {
        let usage_core_nano_seconds = number(used);
        let cpu = CpuUsage { timestamp, usage_core_nano_seconds, ..Default::default() };
        ContainerStats { cpu: Some(cpu), ..Default::default() }
    }

    #[test]
    fn processors_come_from_two_looks() {
        let (first, last) = (stats(1_000, 500), stats(2_000, 2_000));
        assert_eq!(Use::between(Some(&first), &last).cpu_cores, Some(1.5));
        assert_eq!(Use::between(None, &last).cpu_cores, None);
        assert_eq!(Use::between(Some(&last), &last).cpu_cores, None);
        assert_eq!(Use::between(Some(&last), &first).cpu_cores, None);
    }

    #[test]
    fn what_is_not_measured_is_the_daemons_word() {
        let mut told = stats(1_000, 500);
        told.cpu.as_mut().unwrap().usage_nano_cores = number(250_000_000);
        assert_eq!(Use::between(Some(&told.clone()), &told).cpu_cores, Some(0.25));
    }

    #[test]
    fn what_is_missing_stays_missing() {
        let memory = MemoryUsage {
            working_set_bytes: number(7),
            available_bytes: number(0),
            ..Default::default()
        };
        let stats = ContainerStats { memory: Some(memory), ..Default::default() };
        let expected = Use {
            cpu_cores: None,
            memory: Some(7),
            memory_available: None,
            swap: None,
            disk: None,
        };
        assert_eq!(Use::between(None, &stats), expected);
    }
}
