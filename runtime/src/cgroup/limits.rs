//! Resource limits as writes to cgroup v2 interface files: computed first, written later.
//!
//! Limits are planned from the outside in: of two that bound each other the wider one comes
//! first (`cpu.max` before its burst, `memory.max` before `memory.high`). So limits are raised in
//! this order and lowered in the opposite one.
//!
//! Reference: the kernel's `Documentation/admin-guide/cgroup-v2.rst`, and the OCI runtime
//! specification, `config-linux.md`, for what the values mean. What version 2 has no file for is
//! refused by name, unless the specification lets a runtime ignore it (kernel memory).

mod cpu;
mod io;
mod memory;
pub(super) mod unified;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxResources};

use crate::error::Error;

pub(super) use memory::check_usage;

/// One write to an interface file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Name of the file, which begins with that of its controller.
    pub file: String,
    /// What is written.
    pub value: String,
    /// The field of the specification that asks for it.
    pub field: String,
    /// What becomes of it where the kernel does not have the file.
    pub(super) absent: Absent,
}

/// What becomes of a limit whose file is not there, although its controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// It is an error.
    Refuse,
    /// Nothing is lost without it.
    Skip,
    /// Another file takes this value.
    Instead(&'static str, String),
}

impl Write {
    fn new(field: &str, file: impl Into<String>, value: impl ToString) -> Self {
        let field = format!("linux.resources.{field}");
        Self { file: file.into(), value: value.to_string(), field, absent: Absent::Refuse }
    }

    /// Stands for the device filter, which is no file.
    pub(super) fn devices() -> Self {
        Self::new("devices", "device filter", "the rules of the specification")
    }

    fn or(self, absent: Absent) -> Self {
        Self { absent, ..self }
    }

    /// What the file takes that stands in for one that may not be there.
    pub(super) fn elsewhere(&self) -> Option<&str> {
        match &self.absent {
            Absent::Instead(_, value) => Some(value),
            _ => None,
        }
    }

    /// The controller that has the file; `cgroup` stands for the core, which is always there.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// Computes what to write for `resources`.
///
/// # Errors
/// [`Error::Spec`] with the field, if limits contradict each other or version 2 of cgroups does
/// not have them.
pub fn plan(resources: &LinuxResources) -> Result<Vec<Write>, Error> {
    let mut writes = Vec::new();
    if let Some(cpu) = resources.cpu() {
        cpu::plan(cpu, &mut writes)?;
    }
    if let Some(memory) = resources.memory() {
        memory::plan(memory, &mut writes)?;
    }
    if let Some(pids) = resources.pids() {
        writes.push(Write::new("pids.limit", "pids.max", pids_max(pids.limit())));
    }
    if let Some(block_io) = resources.block_io() {
        io::plan(block_io, &mut writes)?;
    }
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        plan_huge_pages(index, limit, &mut writes)?;
    }
    plan_rdma(resources, &mut writes)?;
    refuse_network_classes(resources)?;
    unified::plan(resources, &mut writes)?;
    Ok(writes)
}

/// No process at all cannot be: what is cloned into the cgroup counts. So 0 is 1, as with
/// systemd's `TasksMax` and the field's other runtimes.
fn pids_max(limit: i64) -> String {
    or_max(if limit == 0 { 1 } else { limit })
}

fn plan_huge_pages(
    index: usize,
    limit: &LinuxHugepageLimit,
    writes: &mut Vec<Write>,
) -> Result<(), Error> {
    let size = limit.page_size();
    let field = format!("hugepageLimits[{index}]");
    let number = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
    if !number.is_some_and(|n| !n.starts_with('0') && n.parse::<u32>().is_ok()) {
        return refuse(&format!("{field}.pageSize"), format!("{size:?} is not as in \"2MB\""));
    }
    let value = or_max(limit.limit());
    writes.push(Write::new(&field, format!("hugetlb.{size}.max"), &value));
    // Reservations are what a mapping takes before it touches a page; Linux 5.7.
    let reserved = Write::new(&field, format!("hugetlb.{size}.rsvd.max"), value);
    writes.push(reserved.or(Absent::Skip));
    Ok(())
}

fn plan_rdma(resources: &LinuxResources, writes: &mut Vec<Write>) -> Result<(), Error> {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    for (name, limit) in devices {
        let field = format!("rdma[{name:?}]");
        if name.is_empty() || name.contains(char::is_whitespace) {
            return refuse(&field, "is no name of a device");
        }
        let limits = [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())];
        let limits = limits.map(|(key, limit)| limit.map(|limit| format!(" {key}={limit}")));
        let limits: String = limits.into_iter().flatten().collect();
        if limits.is_empty() {
            return refuse(&field, "has neither hcaHandles nor hcaObjects");
        }
        writes.push(Write::new(&field, "rdma.max", format!("{name}{limits}")));
    }
    Ok(())
}

fn refuse_network_classes(resources: &LinuxResources) -> Result<(), Error> {
    let Some(network) = resources.network() else { return Ok(()) };
    if network.class_id().is_some_and(|class| class != 0) {
        return refuse("network.classID", NO_FILE);
    }
    if network.priorities().as_ref().is_some_and(|list| !list.is_empty()) {
        return refuse("network.priorities", NO_FILE);
    }
    Ok(())
}

const NO_FILE: &str = "cgroup version 2 has no such limit";

fn refuse<T>(field: &str, why: impl std::fmt::Display) -> Result<T, Error> {
    Err(Error::Spec(format!("linux.resources.{field}: {why}")))
}

/// Negative values are "no limit".
fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests;
