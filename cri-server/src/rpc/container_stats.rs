//! ContainerStats: what a container uses.

use std::time::UNIX_EPOCH;

use berth_imageservice::Measurement;
use berth_runtime::cgroup::Stats;
use berth_runtime::containers::Container;
use tonic::Status;

use super::image_fs_info::usage;
use super::{Call, lookup, view};
use crate::api::runtime::{
    ContainerAttributes, ContainerStats, ContainerStatsRequest, ContainerStatsResponse, CpuUsage,
    MemoryUsage, SwapUsage, UInt64Value,
};
use crate::node::{Node, now};

pub(super) async fn container_stats(
    node: &Node,
    _: Call,
    request: ContainerStatsRequest,
) -> Result<ContainerStatsResponse, Status> {
    let container = lookup::container(node, &request.container_id)?;
    let stats = of(node, &container).ok_or_else(|| {
        let state = container.state().name();
        Status::failed_precondition(format!("container {} is {state}", container.spec.id))
    })?;
    Ok(ContainerStatsResponse { stats: Some(stats) })
}

/// Reads the cgroup of a container; absent if it does not run.
pub(super) fn of(node: &Node, container: &Container) -> Option<ContainerStats> {
    let used = node.containers.stats(container)?;
    let item = view::container(container);
    let timestamp = now();
    let written = item.id.parse().ok().and_then(|key| node.images.last_usage(&key));
    let written = written.map(|Measurement { space, at }| {
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        usage(node, space, i64::try_from(at.as_nanos()).unwrap_or_default())
    });
    Some(ContainerStats {
        writable_layer: written,
        cpu: used.cpu_nanoseconds.map(|nanoseconds| CpuUsage {
            timestamp,
            usage_core_nano_seconds: Some(UInt64Value { value: nanoseconds }),
            usage_nano_cores: node
                .cpu_samples
                .rate(&item.id, timestamp, nanoseconds)
                .map(|value| UInt64Value { value }),
            ..CpuUsage::default()
        }),
        memory: memory(&used, timestamp),
        swap: used.swap_bytes.map(|bytes| SwapUsage {
            timestamp,
            swap_usage_bytes: Some(UInt64Value { value: bytes }),
            ..SwapUsage::default()
        }),
        attributes: Some(ContainerAttributes {
            id: item.id,
            metadata: item.metadata,
            labels: item.labels,
            annotations: item.annotations,
        }),
        ..ContainerStats::default()
    })
}

/// Absent where the host has no memory controller, rather than zero.
fn memory(used: &Stats, timestamp: i64) -> Option<MemoryUsage> {
    let value = |number: Option<u64>| number.map(|value| UInt64Value { value });
    let (usage, working_set) = (used.memory_bytes?, used.working_set_bytes);
    let limit = used.memory_limit_bytes;
    Some(MemoryUsage {
        timestamp,
        working_set_bytes: value(working_set),
        available_bytes: value(limit.zip(working_set).map(|(l, w)| l.saturating_sub(w))),
        usage_bytes: value(Some(usage)),
        rss_bytes: value(used.rss_bytes),
        page_faults: value(used.page_faults),
        major_page_faults: value(used.major_page_faults),
        ..MemoryUsage::default()
    })
}
