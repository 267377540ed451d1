//! Limits as flags of `update`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::Container;

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) container: Container,

    /// File with all that is to change, as the specification has resources; - is standard input.
    /// Other limits are then ignored
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,

    /// Weight of its I/O, from 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,

    /// Period of the CPU limit, in microseconds
    #[arg(long, value_name = "N")]
    cpu_period: Option<u64>,

    /// CPU time per period, in microseconds; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,

    /// CPU time beyond the quota that may be saved up, in microseconds
    #[arg(long, value_name = "N")]
    cpu_burst: Option<u64>,

    /// Weight of its CPU time, in shares
    #[arg(long, visible_alias = "cpu-shares", value_name = "N")]
    cpu_share: Option<u64>,

    /// Period of the real-time limit, in microseconds
    #[arg(long, value_name = "N")]
    cpu_rt_period: Option<u64>,

    /// Real-time CPU time per period, in microseconds
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,

    /// 1 to run only when nobody else would, 0 as usual
    #[arg(long, value_name = "N")]
    cpu_idle: Option<i64>,

    /// Processors to run on
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// Memory limit, in bytes or with a unit as in 64M; -1 for none
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    memory: Option<i64>,

    /// Memory that it is to keep when others are short of it
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    memory_reservation: Option<i64>,

    /// Limit on memory and swap together; -1 for none
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    memory_swap: Option<i64>,

    /// Accepted for other engines' sake: no kernel has this limit any more
    #[arg(long, hide = true, allow_hyphen_values = true)]
    kernel_memory: Option<String>,

    /// Accepted for other engines' sake: no kernel has this limit any more
    #[arg(long, hide = true, allow_hyphen_values = true)]
    kernel_memory_tcp: Option<String>,

    /// How many processes and threads there may be; -1 for any number
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,

    /// Cache of the third level, as a line of resctrl's schemata
    #[arg(long, value_name = "LINE")]
    pub(crate) l3_cache_schema: Option<String>,

    /// Memory bandwidth, as a line of resctrl's schemata
    #[arg(long, value_name = "LINE")]
    pub(crate) mem_bw_schema: Option<String>,
}

impl Update {
    /// The flags, as the specification has resources.
    pub(crate) fn resources(&self) -> Value {
        let sections = [
            ("cpu", self.cpu()),
            ("memory", self.memory()),
            ("pids", said([("limit", self.pids_limit.map(Value::from))])),
            ("blockIO", said([("weight", self.blkio_weight.map(Value::from))])),
        ];
        let said = sections.into_iter().filter(|(_, fields)| !fields.is_empty());
        said.map(|(name, fields)| (name.to_owned(), Value::Object(fields))).collect()
    }

    fn cpu(&self) -> Map<String, Value> {
        said([
            ("period", self.cpu_period.map(Value::from)),
            ("quota", self.cpu_quota.map(Value::from)),
            ("burst", self.cpu_burst.map(Value::from)),
            ("shares", self.cpu_share.map(Value::from)),
            ("realtimePeriod", self.cpu_rt_period.map(Value::from)),
            ("realtimeRuntime", self.cpu_rt_runtime.map(Value::from)),
            ("idle", self.cpu_idle.map(Value::from)),
            ("cpus", self.cpuset_cpus.clone().map(Value::from)),
            ("mems", self.cpuset_mems.clone().map(Value::from)),
        ])
    }

    fn memory(&self) -> Map<String, Value> {
        let mut fields = said([
            ("limit", self.memory.map(Value::from)),
            ("reservation", self.memory_reservation.map(Value::from)),
            ("swap", self.memory_swap.map(Value::from)),
        ]);
        if self.memory == Some(-1) && self.memory_swap.is_none() {
            // Without a limit on memory one on the sum with it makes no sense.
            fields.insert("swap".to_owned(), json!(-1));
        }
        fields
    }
}

fn said<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let said = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    said.collect()
}

/// Bytes, with a binary unit or without one; -1 is no limit.
fn size(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches("ib").trim_end_matches('b');
    let (number, shift) = match number.chars().last() {
        Some('k') => (&number[..number.len() - 1], 10),
        Some('m') => (&number[..number.len() - 1], 20),
        Some('g') => (&number[..number.len() - 1], 30),
        Some('t') => (&number[..number.len() - 1], 40),
        _ => (number, 0),
    };
    let number: i64 = number.trim().parse().map_err(|_| format!("{text:?} is no size"))?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes >= 0);
    bytes.ok_or_else(|| format!("{text:?} is no size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("0", 0), ("100", 100), ("4k", 4096), ("64M", 64 << 20), ("1GiB", 1 << 30), ("-1", -1)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "-2", "x", "1x", "k", "9999999999t"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
