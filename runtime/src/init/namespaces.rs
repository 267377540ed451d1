//! Entering the namespaces of the pod and making the container's own.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use nix::sched::{CloneFlags, setns, unshare as unshare_all};
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::plan::Plan;
use crate::protocol::Step;

use super::{Attempt, Fault, Inheritance};

/// Enters the namespaces of others.
pub(super) fn enter(plan: &Plan, given: &Inheritance<'_>) -> Result<(), Fault> {
    for enter in &plan.enter {
        let entered = given.handle(enter.of).and_then(|of| set(of, enter.kinds));
        entered.attempt(Step::Namespaces, || format!("enter namespaces {:#x}", enter.kinds))?;
    }
    Ok(())
}

/// Makes the container's own namespaces.
///
/// A new mount namespace is cut off from the host's: what is mounted in it stays in it.
pub(super) fn unshare(plan: &Plan) -> Result<(), Fault> {
    let step = Step::Namespaces;
    let flags = flags(plan.unshare).attempt(step, || "make namespaces")?;
    if flags.is_empty() {
        return Ok(());
    }
    unshare_all(flags).attempt(step, || format!("make namespaces {flags:?}"))?;
    if flags.contains(CloneFlags::CLONE_NEWNS) {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .attempt(step, || "make all mounts private")?;
    }
    Ok(())
}

/// Enters the mount namespace of the process behind `pidfd`, calls `body`, and comes back.
pub(super) fn inside_mounts_of<T>(
    pidfd: BorrowedFd<'_>,
    body: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let own = fs::File::open("/proc/self/ns/mnt")?;
    setns(pidfd, CloneFlags::CLONE_NEWNS)?;
    let result = body();
    setns(&own, CloneFlags::CLONE_NEWNS)?;
    result
}

fn set(of: BorrowedFd<'_>, kinds: u64) -> io::Result<()> {
    Ok(setns(of, flags(kinds)?)?)
}

fn flags(kinds: u64) -> io::Result<CloneFlags> {
    let flags = i32::try_from(kinds).ok().and_then(CloneFlags::from_bits);
    flags.ok_or_else(|| io::Error::other(format!("unknown namespace kinds {kinds:#x}")))
}
