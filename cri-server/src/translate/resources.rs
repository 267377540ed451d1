//! Limits of a container.

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources};
use tonic::Status;

use crate::api::runtime::LinuxContainerResources;

use super::invalid;

/// Translates the limits of a new container; zero and empty mean "not limited" everywhere.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is below zero and is no limit.
pub fn to_oci(resources: &LinuxContainerResources) -> Result<LinuxResources, Status> {
    translate("config.linux.resources", resources)
}

/// Translates the limits that a container is to have from now on.
///
/// # Errors
/// As [`to_oci`], with the fields of the update.
pub fn update_to_oci(resources: &LinuxContainerResources) -> Result<LinuxResources, Status> {
    translate("linux", resources)
}

/// What a container has after an update: what the update does not speak of, it has as before.
#[must_use]
pub fn merge(
    mut has: LinuxContainerResources,
    update: &LinuxContainerResources,
) -> LinuxContainerResources {
    let number = |has: &mut i64, update: i64| {
        if update != 0 {
            *has = update;
        }
    };
    number(&mut has.cpu_period, update.cpu_period);
    number(&mut has.cpu_quota, update.cpu_quota);
    number(&mut has.cpu_shares, update.cpu_shares);
    number(&mut has.memory_limit_in_bytes, update.memory_limit_in_bytes);
    number(&mut has.memory_swap_limit_in_bytes, update.memory_swap_limit_in_bytes);
    // Not `oom_score_adj`, which is a process's and is not changed.
    for (has, update) in
        [(&mut has.cpuset_cpus, &update.cpuset_cpus), (&mut has.cpuset_mems, &update.cpuset_mems)]
    {
        if !update.is_empty() {
            has.clone_from(update);
        }
    }
    for limit in &update.hugepage_limits {
        has.hugepage_limits.retain(|other| other.page_size != limit.page_size);
        has.hugepage_limits.push(limit.clone());
    }
    has.unified.extend(update.unified.clone());
    has
}

fn translate(field: &str, resources: &LinuxContainerResources) -> Result<LinuxResources, Status> {
    let mut oci = LinuxResources::default();
    oci.set_cpu(Some(cpu(field, resources)?)).set_memory(Some(memory(field, resources)?));
    if !resources.hugepage_limits.is_empty() {
        let limits = resources.hugepage_limits.iter().map(|limit| {
            let bytes = i64::try_from(limit.limit)
                .map_err(|_| invalid(&format!("{field}.hugepage_limits"), "is too large"))?;
            let mut oci = LinuxHugepageLimit::default();
            oci.set_page_size(limit.page_size.clone()).set_limit(bytes);
            Ok(oci)
        });
        oci.set_hugepage_limits(Some(limits.collect::<Result<_, Status>>()?));
    }
    // The cgroup's own files come last and win, but a limit of processes has a field as well.
    let mut unified = resources.unified.clone();
    if let Some(limit) = unified.get("pids.max").and_then(|limit| limit.parse().ok()) {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        oci.set_pids(Some(pids));
        unified.remove("pids.max");
    }
    if !unified.is_empty() {
        oci.set_unified(Some(unified.into_iter().collect()));
    }
    Ok(oci)
}

fn cpu(field: &str, resources: &LinuxContainerResources) -> Result<LinuxCpu, Status> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(positive(field, "cpu_shares", resources.cpu_shares)?)
        .set_period(positive(field, "cpu_period", resources.cpu_period)?)
        .set_quota(nonzero(resources.cpu_quota))
        .set_cpus(nonempty(&resources.cpuset_cpus))
        .set_mems(nonempty(&resources.cpuset_mems));
    Ok(cpu)
}

fn memory(field: &str, resources: &LinuxContainerResources) -> Result<LinuxMemory, Status> {
    let limit = positive(field, "memory_limit_in_bytes", resources.memory_limit_in_bytes)?;
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(limit.map(|_| resources.memory_limit_in_bytes))
        .set_swap(nonzero(resources.memory_swap_limit_in_bytes));
    Ok(memory)
}

fn positive(parent: &str, field: &str, value: i64) -> Result<Option<u64>, Status> {
    let value = u64::try_from(value)
        .map_err(|_| invalid(&format!("{parent}.{field}"), format!("{value} is below zero")))?;
    Ok((value != 0).then_some(value))
}

fn nonzero(value: i64) -> Option<i64> {
    (value != 0).then_some(value)
}

fn nonempty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::runtime::HugepageLimit;

    #[test]
    fn zero_limits_nothing() {
        let oci = to_oci(&LinuxContainerResources::default()).unwrap();
        assert!(berth_runtime::cgroup::limits::plan(&oci).unwrap().is_empty());
    }

    #[test]
    fn limits_reach_the_cgroup() {
        let resources = LinuxContainerResources {
            cpu_shares: 512,
            cpu_quota: 50_000,
            cpu_period: 100_000,
            memory_limit_in_bytes: 1 << 20,
            memory_swap_limit_in_bytes: 1 << 20,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 }],
            unified: [("pids.max".into(), "7".into()), ("memory.high".into(), "9".into())].into(),
            ..Default::default()
        };
        let writes = berth_runtime::cgroup::limits::plan(&to_oci(&resources).unwrap()).unwrap();
        let files: Vec<_> = writes.iter().map(|write| write.file.as_str()).collect();
        let expected = [
            "cpu.weight",
            "cpu.max",
            "cpuset.cpus",
            "cpuset.mems",
            "memory.max",
            "memory.swap.max",
            "pids.max",
            "hugetlb.2MB.max",
            "hugetlb.2MB.rsvd.max",
            "memory.high",
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn limits_below_zero_are_named() {
        let resources = LinuxContainerResources { cpu_shares: -1, ..Default::default() };
        let status = to_oci(&resources).unwrap_err();
        assert_eq!(status.message(), "config.linux.resources.cpu_shares -1 is below zero");
    }

    #[test]
    fn an_update_changes_what_it_speaks_of() {
        let page = |size: &str, limit| HugepageLimit { page_size: size.into(), limit };
        let unified = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let has = LinuxContainerResources {
            cpu_shares: 512,
            cpu_quota: 50_000,
            cpu_period: 100_000,
            memory_limit_in_bytes: 1 << 20,
            cpuset_cpus: "0-1".into(),
            oom_score_adj: 900,
            hugepage_limits: vec![page("2MB", 1), page("1GB", 2)],
            unified: unified(&[("memory.high", "9"), ("pids.max", "7")]),
            ..Default::default()
        };
        let update = LinuxContainerResources {
            cpu_quota: -1,
            memory_limit_in_bytes: 2 << 20,
            oom_score_adj: -5,
            hugepage_limits: vec![page("2MB", 5)],
            unified: unified(&[("pids.max", "8")]),
            ..Default::default()
        };
        let expected = LinuxContainerResources {
            cpu_quota: -1,
            memory_limit_in_bytes: 2 << 20,
            hugepage_limits: vec![page("1GB", 2), page("2MB", 5)],
            unified: unified(&[("memory.high", "9"), ("pids.max", "8")]),
            ..has.clone()
        };
        assert_eq!(merge(has, &update), expected);
        let wrong = LinuxContainerResources { cpu_shares: -1, ..Default::default() };
        assert_eq!(
            update_to_oci(&wrong).unwrap_err().message(),
            "linux.cpu_shares -1 is below zero"
        );
    }
}
