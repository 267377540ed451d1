//! Limits as properties of a unit: what systemd knows of, it does not reset at a `daemon-reload`.
//!
//! What it has no property for is only written to the cgroup. Device limits are not handed on:
//! the filter is a program of ours, and systemd's own would come and go beside it.

use crate::cgroup::limits::Write;
use crate::error::Error;

/// A property of a unit (`org.freedesktop.systemd1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name on the bus.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
}

/// A value in a type of D-Bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A boolean.
    Bool(bool),
    /// A string.
    Text(String),
    /// 64 bits without a sign; the largest is infinity.
    Number(u64),
    /// 32 bits each: processes.
    Pids(Vec<u32>),
    /// Bytes: a set of numbers as bits, the lowest first.
    Bits(Vec<u8>),
}

const INFINITY: u64 = u64::MAX;

/// What the kernel takes for a period that is not said, in microseconds.
const PERIOD: u64 = 100_000;

/// Properties of every scope of ours in `slice`, with its first process.
pub(super) fn of_scope(description: &str, slice: &str, pid: u32) -> Vec<Property> {
    let yes = Value::Bool(true);
    vec![
        property("Description", Value::Text(description.to_owned())),
        property("Slice", Value::Text(slice.to_owned())),
        property("Delegate", yes.clone()),
        property("PIDs", Value::Pids(vec![pid])),
        // Else it is stopped before all else when the machine goes down.
        property("DefaultDependencies", Value::Bool(false)),
        // One that fails goes as well, without anybody asking.
        property("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        property("CPUAccounting", yes.clone()),
        property("MemoryAccounting", yes.clone()),
        property("IOAccounting", yes.clone()),
        property("TasksAccounting", yes),
    ]
}

/// Properties of a pod's scope: the limits are the pod's slice's and the containers' own. Without
/// this systemd limits the number of processes by a share of the machine's.
pub fn of_pod() -> Vec<Property> {
    vec![property("TasksMax", Value::Number(INFINITY))]
}

/// Properties for what is going to be written to the unit's cgroup.
///
/// # Errors
/// [`Error::Spec`] with the field, for a value that makes no sense.
pub fn of_limits(writes: &[Write]) -> Result<Vec<Property>, Error> {
    let mut properties = Vec::new();
    for write in writes {
        of_limit(write, &mut properties).ok_or_else(|| {
            Error::Spec(format!("{}: {:?} makes no sense", write.field, write.value))
        })?;
    }
    if !properties.iter().any(|property| property.name == "TasksMax") {
        properties.extend(of_pod());
    }
    Ok(properties)
}

fn of_limit(write: &Write, properties: &mut Vec<Property>) -> Option<()> {
    let value = write.value.trim();
    let name = match write.file.as_str() {
        "cpu.weight" => "CPUWeight",
        // A weight of 0 is how systemd calls an idle cgroup. One that is not idle any more has
        // the usual weight, or the one that comes after this.
        "cpu.idle" => {
            let weight = if value == "1" { 0 } else { INFINITY };
            properties.push(property("CPUWeight", Value::Number(weight)));
            return Some(());
        }
        "io.bfq.weight" => return of_general_weight(write.elsewhere()?, properties),
        "io.weight" => return of_general_weight(value, properties),
        "cpu.max" => return of_bandwidth(value, properties),
        "cpuset.cpus" => return of_set("AllowedCPUs", value, properties),
        "cpuset.mems" => return of_set("AllowedMemoryNodes", value, properties),
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        _ => return Some(()),
    };
    let number = match number(value)? {
        // systemd takes no 0; what is cloned into the cgroup counts anyway.
        0 if name == "TasksMax" => 1,
        number => number,
    };
    properties.push(property(name, Value::Number(number)));
    Some(())
}

/// A quota for each period is, for systemd, one for each second.
fn of_bandwidth(value: &str, properties: &mut Vec<Property>) -> Option<()> {
    let mut words = value.split_whitespace();
    let quota = number(words.next()?)?;
    let period = words.next().map_or(Some(PERIOD), |word| word.parse().ok())?;
    if period == 0 || words.next().is_some() {
        return None;
    }
    let each_second = match quota {
        INFINITY => INFINITY,
        quota => u64::try_from((u128::from(quota) * 1_000_000).div_ceil(period.into())).ok()?,
    };
    properties.push(property("CPUQuotaPeriodUSec", Value::Number(period)));
    properties.push(property("CPUQuotaPerSecUSec", Value::Number(each_second)));
    Some(())
}

/// A weight of all devices; those of single ones systemd leaves alone.
fn of_general_weight(value: &str, properties: &mut Vec<Property>) -> Option<()> {
    let value = value.strip_prefix("default").unwrap_or(value).trim();
    if !value.contains(' ') {
        properties.push(property("IOWeight", Value::Number(value.parse().ok()?)));
    }
    Some(())
}

fn of_set(name: &'static str, value: &str, properties: &mut Vec<Property>) -> Option<()> {
    let mut bits = Vec::new();
    for range in value.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        for number in usize::from(first)..=usize::from(last) {
            bits.resize(bits.len().max(number / 8 + 1), 0_u8);
            bits[number / 8] |= 1 << (number % 8);
        }
    }
    properties.push(property(name, Value::Bits(bits)));
    Some(())
}

fn number(value: &str) -> Option<u64> {
    if value == "max" { Some(INFINITY) } else { value.parse().ok() }
}

fn property(name: &'static str, value: Value) -> Property {
    Property { name, value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits;

    fn planned(json: &str) -> Result<Vec<(&'static str, Value)>, Error> {
        let writes = limits::plan(&serde_json::from_str(json).unwrap()).unwrap();
        Ok(of_limits(&writes)?.into_iter().map(|found| (found.name, found.value)).collect())
    }

    #[test]
    fn limits_are_properties() {
        use Value::{Bits, Number};
        let json = r#"{
            "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0,2-3,9", "mems": "0"},
            "memory": {"limit": 1000, "swap": 1500, "reservation": 500},
            "pids": {"limit": 10},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
            "blockIO": {"weight": 1000, "weightDevice": [{"major": 8, "minor": 0, "weight": 500}]},
            "unified": {"memory.high": "900", "memory.min": "max", "io.weight": "default 7"}}"#;
        let expected = [
            ("CPUWeight", Number(100)),
            ("CPUQuotaPeriodUSec", Number(100_000)),
            ("CPUQuotaPerSecUSec", Number(500_000)),
            ("AllowedCPUs", Bits(vec![0b1101, 0b10])),
            ("AllowedMemoryNodes", Bits(vec![1])),
            ("MemoryMax", Number(1000)),
            ("MemorySwapMax", Number(500)),
            ("MemoryLow", Number(500)),
            ("TasksMax", Number(10)),
            ("IOWeight", Number(10_000)),
            ("IOWeight", Number(7)),
            ("MemoryHigh", Number(900)),
            ("MemoryMin", Number(u64::MAX)),
        ];
        assert_eq!(planned(json).unwrap(), expected);
    }

    #[test]
    fn what_has_no_limit_is_infinite() {
        use Value::Number;
        let infinite = ("TasksMax", Number(u64::MAX));
        assert_eq!(planned("{}").unwrap(), std::slice::from_ref(&infinite));
        assert_eq!(planned(r#"{"pids": {"limit": -1}}"#).unwrap(), std::slice::from_ref(&infinite));
        let quota = planned(r#"{"cpu": {"quota": -1}}"#).unwrap();
        assert_eq!(quota[1], ("CPUQuotaPerSecUSec", Number(u64::MAX)));
        let idle = planned(r#"{"cpu": {"idle": 1, "shares": 5}}"#).unwrap();
        assert_eq!(idle, [("CPUWeight", Number(0)), infinite]);
        let busy = planned(r#"{"cpu": {"idle": 0, "shares": 1024}}"#).unwrap();
        assert_eq!(busy[..2], [("CPUWeight", Number(u64::MAX)), ("CPUWeight", Number(100))]);
        let odd = planned(r#"{"cpu": {"quota": 10000, "period": 30000}}"#).unwrap();
        assert_eq!(odd[1], ("CPUQuotaPerSecUSec", Number(333_334)), "rounded up");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        for (json, field) in [
            (r#"{"unified": {"memory.max": "1G"}}"#, "unified[\"memory.max\"]"),
            (r#"{"unified": {"cpu.max": "5 0"}}"#, "unified[\"cpu.max\"]"),
            (r#"{"cpu": {"cpus": "3-1"}}"#, "cpu.cpus"),
            (r#"{"cpu": {"mems": "99999999"}}"#, "cpu.mems"),
        ] {
            let error = planned(json).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
