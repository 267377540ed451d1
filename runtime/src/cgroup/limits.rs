//! Resource limits as writes to cgroup v2 interface files: computed first, written later.
//!
//! Reference: the kernel's `Documentation/admin-guide/cgroup-v2.rst`, and the OCI runtime
//! specification, `config-linux.md`, for what the values mean.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use crate::error::Error;

/// One write to an interface file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Name of the file, which begins with that of its controller.
    pub file: String,
    /// What is written.
    pub value: String,
}

impl Write {
    fn new(file: impl Into<String>, value: impl ToString) -> Self {
        Self { file: file.into(), value: value.to_string() }
    }

    /// The controller that has the file; `cgroup` stands for the core, which is always there.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// Computes what to write for `resources`.
///
/// # Errors
/// [`Error::Spec`] if limits contradict each other.
pub fn plan(resources: &LinuxResources) -> Result<Vec<Write>, Error> {
    let mut writes = Vec::new();
    if let Some(cpu) = resources.cpu() {
        plan_cpu(cpu, &mut writes);
    }
    if let Some(memory) = resources.memory() {
        plan_memory(memory, &mut writes)?;
    }
    if let Some(pids) = resources.pids() {
        match pids.limit() {
            0 => {}
            limit => writes.push(Write::new("pids.max", or_max(limit))),
        }
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        writes.push(Write::new(format!("hugetlb.{}.max", limit.page_size()), limit.limit()));
    }
    // Last, so that they have the last word; in order of name, so that it is always the same.
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        if file.contains('/') || !file.contains('.') {
            return Err(Error::Spec(format!("{file:?} is no cgroup interface file")));
        }
        writes.push(Write::new(file, value));
    }
    Ok(writes)
}

fn plan_cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        writes.push(Write::new("cpu.weight", weight_of_shares(shares)));
    }
    let period = cpu.period().filter(|period| *period != 0);
    match (cpu.quota().filter(|quota| *quota != 0), period) {
        (None, None) => {}
        (Some(quota), Some(period)) => {
            writes.push(Write::new("cpu.max", format!("{} {period}", or_max(quota))));
        }
        (Some(quota), None) => writes.push(Write::new("cpu.max", or_max(quota))),
        (None, Some(period)) => writes.push(Write::new("cpu.max", format!("max {period}"))),
    }
    for (file, set) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(set) = set.as_ref().filter(|set| !set.is_empty()) {
            writes.push(Write::new(file, set));
        }
    }
}

fn plan_memory(memory: &LinuxMemory, writes: &mut Vec<Write>) -> Result<(), Error> {
    let limit = memory.limit().unwrap_or(0);
    if let Some(swap) = swap_without_memory(limit, memory.swap().unwrap_or(0))? {
        writes.push(Write::new("memory.swap.max", or_max(swap)));
    }
    if limit != 0 {
        writes.push(Write::new("memory.max", or_max(limit)));
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        writes.push(Write::new("memory.low", or_max(reservation)));
    }
    Ok(())
}

/// OCI counts memory and swap together; cgroup v2 limits swap alone.
fn swap_without_memory(memory: i64, both: i64) -> Result<Option<i64>, Error> {
    match (memory, both) {
        (_, 0) => Ok(None),
        (_, ..0) => Ok(Some(-1)),
        (1.., _) if both >= memory => Ok(Some(both - memory)),
        (1.., _) => Err(Error::Spec(format!(
            "limit of memory and swap ({both} bytes) is below that of memory ({memory} bytes)"
        ))),
        _ => Err(Error::Spec("a limit of swap needs one of memory".to_owned())),
    }
}

/// Converts cgroup v1 shares (2 to 262144, 1024 by default) to a v2 weight (1 to 10000, 100 by
/// default) so that all three points of each meet, as the field's runtimes do since 2025.
fn weight_of_shares(shares: u64) -> u64 {
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

/// Negative values are "no limit".
fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Vec<(String, String)> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        plan(&resources).unwrap().into_iter().map(|write| (write.file, write.value)).collect()
    }

    fn writes(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_limit_has_its_file() {
        let json = r#"{
            "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0"},
            "memory": {"limit": 1000, "swap": 1500, "reservation": 500},
            "pids": {"limit": 10},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
            "unified": {"memory.high": "900", "io.weight": "default 50"}
        }"#;
        let expected = writes(&[
            ("cpu.weight", "100"),
            ("cpu.max", "50000 100000"),
            ("cpuset.cpus", "0-1"),
            ("cpuset.mems", "0"),
            ("memory.swap.max", "500"),
            ("memory.max", "1000"),
            ("memory.low", "500"),
            ("pids.max", "10"),
            ("hugetlb.2MB.max", "4194304"),
            ("io.weight", "default 50"),
            ("memory.high", "900"),
        ]);
        assert_eq!(planned(json), expected);
    }

    #[test]
    fn zero_leaves_and_minus_one_lifts() {
        let json = r#"{"cpu": {"shares": 0, "quota": -1, "period": 0},
            "memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}}"#;
        let expected = writes(&[
            ("cpu.max", "max"),
            ("memory.swap.max", "max"),
            ("memory.max", "max"),
            ("pids.max", "max"),
        ]);
        assert_eq!(planned(json), expected);
        assert_eq!(planned(r#"{"memory": {"limit": 0, "swap": 0}, "pids": {"limit": 0}}"#), []);
    }

    #[test]
    fn shares_meet_weights_at_both_ends_and_in_the_middle() {
        let table = [(2, 1), (1024, 100), (262_144, 10_000), (1, 1), (999_999, 10_000)];
        for (shares, weight) in table {
            assert_eq!(weight_of_shares(shares), weight, "{shares} shares");
        }
    }

    #[test]
    fn swap_below_memory_is_refused() {
        for json in [
            r#"{"memory": {"limit": 1000, "swap": 900}}"#,
            r#"{"memory": {"swap": 900}}"#,
            r#"{"unified": {"../escape.x": "1"}}"#,
            r#"{"unified": {"nodot": "1"}}"#,
        ] {
            let resources: LinuxResources = serde_json::from_str(json).unwrap();
            assert!(matches!(plan(&resources), Err(Error::Spec(_))), "{json}");
        }
    }
}
