//! What the kernel keeps per task besides its ids: scheduling, I/O priority, processors, memory
//! policy and execution domain. All of it is the calling task's, and survives `execve`.

use std::io;

use super::check;

/// Scheduling attributes in the layout of `linux/sched/types.h` (Linux 5.3, with clamps).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchedulingAttributes {
    /// Filled in by the wrapper.
    pub(crate) size: u32,
    /// `SCHED_*`.
    pub(crate) policy: u32,
    /// `SCHED_FLAG_*`.
    pub(crate) flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub(crate) nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub(crate) priority: u32,
    /// For `SCHED_DEADLINE`, in nanoseconds, as the next two.
    pub(crate) runtime: u64,
    /// See there.
    pub(crate) deadline: u64,
    /// See there.
    pub(crate) period: u64,
    /// Least and greatest utilization.
    pub(crate) utilization: [u32; 2],
}

/// `sched_setattr(2)`.
pub(crate) fn set_scheduling(attributes: SchedulingAttributes) -> io::Result<()> {
    let size = u32::try_from(size_of::<SchedulingAttributes>()).unwrap_or(u32::MAX);
    let attributes = SchedulingAttributes { size, ..attributes };
    // SAFETY: `attributes` says its own length and outlives the call, which only reads it.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    Ok(())
}

/// `ioprio_set(2)`.
pub(crate) fn set_io_priority(value: u32) -> io::Result<()> {
    /// `IOPRIO_WHO_PROCESS` of `linux/ioprio.h`.
    const PROCESS: libc::c_int = 1;
    // SAFETY: three numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, value) })?;
    Ok(())
}

/// `sched_setaffinity(2)`; processors that the kernel or the cgroup does not have are left out.
pub(crate) fn set_affinity(words: &[u64]) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as the slice is long.
    check(unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(words), words.as_ptr())
    })?;
    Ok(())
}

/// `sched_getaffinity(2)`, with room for as many processors as Linux can be built for.
pub(crate) fn affinity() -> io::Result<Vec<u64>> {
    let mut words = vec![0_u64; 128];
    // SAFETY: the kernel writes no more bytes than the slice is long.
    let written = check(unsafe {
        let size = size_of_val(words.as_slice());
        libc::syscall(libc::SYS_sched_getaffinity, 0, size, words.as_mut_ptr())
    })?;
    words.truncate(usize::try_from(written).unwrap_or(0).div_ceil(size_of::<u64>()));
    Ok(words)
}

/// `set_mempolicy(2)`.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let nodes = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads no more bits than it is told, and nothing from a null pointer.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes, bits) })?;
    Ok(())
}

/// `personality(2)`.
pub(crate) fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: one number.
    check(i64::from(unsafe { libc::personality(domain.into()) }))?;
    Ok(())
}

/// `ioprio_get(2)`.
#[cfg(test)]
pub(crate) fn io_priority() -> io::Result<u32> {
    // SAFETY: two numbers: `IOPRIO_WHO_PROCESS`, and the calling thread.
    let value = check(unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) })?;
    u32::try_from(value).map_err(io::Error::other)
}
