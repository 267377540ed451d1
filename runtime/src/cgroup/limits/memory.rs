//! Memory and swap.

use oci_spec::runtime::LinuxMemory;

use crate::error::Error;

use crate::cgroup::Stats;

use super::{Absent, NO_FILE, Write, or_max, refuse};

/// `kernel`, `kernelTCP` and `useHierarchy` are not looked at: the kernel has dropped the first
/// two from version 1 as well, and the third is what version 2 always does.
pub(super) fn plan(memory: &LinuxMemory, writes: &mut Vec<Write>) -> Result<(), Error> {
    if memory.swappiness().is_some() {
        return refuse("memory.swappiness", NO_FILE);
    }
    if memory.disable_oom_killer() == Some(true) {
        return refuse("memory.disableOOMKiller", "cgroup version 2 cannot do without it");
    }
    let limit = of("memory.limit", memory.limit())?;
    let swap = of("memory.swap", memory.swap())?;
    let reservation = of("memory.reservation", memory.reservation())?;
    if limit != 0 {
        writes.push(Write::new("memory.limit", "memory.max", or_max(limit)));
    }
    if let Some(swap) = swap_alone(limit, swap)? {
        let write = Write::new("memory.swap", "memory.swap.max", or_max(swap));
        // A kernel that does not account for swap has no file: what it does is then the same
        // with no limit, and with no swap allowed as near as it gets.
        let absent = if swap <= 0 { Absent::Skip } else { Absent::Refuse };
        writes.push(write.or(absent));
    }
    if reservation != 0 {
        writes.push(Write::new("memory.reservation", "memory.low", or_max(reservation)));
    }
    Ok(())
}

/// A number of bytes, -1 for no limit, or 0 for not said.
fn of(field: &str, value: Option<i64>) -> Result<i64, Error> {
    match value.unwrap_or(0) {
        value @ -1.. => Ok(value),
        value => refuse(field, format!("{value} is neither a number of bytes nor -1")),
    }
}

/// OCI counts memory and swap together; cgroup v2 limits swap alone.
fn swap_alone(memory: i64, both: i64) -> Result<Option<i64>, Error> {
    match (memory, both) {
        // As with version 1: who lifts the limit of memory lifts that of both.
        (-1, 0) | (_, -1) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (-1, both) => Ok(Some(both)),
        (0, _) => refuse("memory.swap", "a limit of memory and swap needs one of memory"),
        _ if both >= memory => Ok(Some(both - memory)),
        _ => refuse(
            "memory.swap",
            format!("{both} bytes of memory and swap are less than {memory} of memory"),
        ),
    }
}

/// Refuses to go below what is in use, if the specification asks for that.
///
/// # Errors
/// [`Error::Spec`] with the field.
pub(in crate::cgroup) fn check_usage(memory: &LinuxMemory, used: &Stats) -> Result<(), Error> {
    if memory.check_before_update() != Some(true) {
        return Ok(());
    }
    let bytes = used.memory_bytes.unwrap_or(0);
    let both = bytes.saturating_add(used.swap_bytes.unwrap_or(0));
    for (field, name, limit, used) in [
        ("memory.swap", "memory+swap", memory.swap(), both),
        ("memory.limit", "memory", memory.limit(), bytes),
    ] {
        let limit = limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit != 0);
        if let Some(limit) = limit.filter(|limit| *limit < used) {
            let why = format!("rejecting {name} limit {limit}: {used} bytes are in use");
            return refuse(field, format!("{why} (checkBeforeUpdate)"));
        }
    }
    Ok(())
}
