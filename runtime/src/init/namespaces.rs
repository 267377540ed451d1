//! Entering the namespaces of the pod and making the container's own.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::mount::{MountPropagationFlags, mount_change};

use crate::plan::Plan;
use crate::protocol::Step;
use crate::sys::namespace;

use super::procfs::Procfs;
use super::{Attempt, Fault, Inheritance, identity, root, users};

const MOUNTS: u64 = libc::CLONE_NEWNS as u64;
const TIME: u64 = libc::CLONE_NEWTIME as u64;
const USERS: u64 = libc::CLONE_NEWUSER as u64;

/// Enters the namespaces of others.
pub(super) fn enter(plan: &Plan, given: &Inheritance<'_>) -> Result<(), Fault> {
    let users = plan.enter.iter().any(|enter| enter.kinds & USERS != 0);
    if users {
        identity::allow_limits(&plan.process.clone().unwrap_or_default())?;
    }
    for enter in &plan.enter {
        let entered = given.handle(enter.of).and_then(|of| namespace::enter(of, enter.kinds));
        entered.attempt(Step::Namespaces, || format!("enter {}", names(enter.kinds)))?;
    }
    if let Some(root) = plan.shared_root {
        given
            .handle(root)
            .and_then(root::use_as_root)
            .attempt(Step::Root, || "enter the root of the container")?;
    }
    if users {
        users::become_root().attempt(Step::Namespaces, || "become root of the user namespace")?;
    }
    Ok(())
}

/// Takes hold of the mount namespace that a container without one goes back to.
pub(super) fn remember_mounts(plan: &Plan, procfs: &Procfs) -> Result<Option<OwnedFd>, Fault> {
    let apart = plan.root.as_ref().is_some_and(|root| root.apart);
    let home = apart.then(|| procfs.mount_namespace()).transpose();
    home.attempt(Step::Namespaces, || "take hold of the mount namespace of the host")
}

/// Makes the container's own namespaces, but for those that are entered by birth.
///
/// A new mount namespace is cut off from the host's: what is mounted in it stays in it. Another's
/// goes on to hear of the host's.
pub(super) fn unshare(plan: &Plan) -> Result<(), Fault> {
    let step = Step::Namespaces;
    let kinds = plan.unshare & !TIME;
    if kinds != 0 {
        namespace::unshare(kinds).attempt(step, || format!("make {}", names(kinds)))?;
    }
    let entered = plan.root.is_some() && plan.enter.iter().any(|enter| enter.kinds & MOUNTS != 0);
    let propagation = match (kinds & MOUNTS != 0, entered) {
        (true, _) => MountPropagationFlags::PRIVATE,
        (false, true) => MountPropagationFlags::DOWNSTREAM,
        (false, false) => return Ok(()),
    };
    isolate(propagation).attempt(step, || "cut off the mounts")
}

/// Moves into a mount namespace that only this process and its children are in.
pub(super) fn withdraw() -> io::Result<()> {
    namespace::unshare(MOUNTS)?;
    isolate(MountPropagationFlags::PRIVATE)
}

fn isolate(propagation: MountPropagationFlags) -> io::Result<()> {
    Ok(mount_change("/", propagation | MountPropagationFlags::REC)?)
}

/// Makes the time namespace that the next child is born into, and sets its clocks, which takes
/// that nobody lives in it yet.
pub(super) fn prepare_time(plan: &Plan, procfs: &Procfs) -> Result<(), Fault> {
    if plan.unshare & TIME == 0 {
        return Ok(());
    }
    let step = Step::Namespaces;
    namespace::unshare(TIME).attempt(step, || "make a time namespace")?;
    for offset in &plan.time_offsets {
        let line = format!("{} {} {}\n", offset.clock, offset.seconds, offset.nanoseconds);
        procfs
            .write("self/timens_offsets", line.as_bytes())
            .attempt(step, || format!("linux.timeOffsets: set {}", line.trim_end()))?;
    }
    Ok(())
}

/// Enters the mount namespace of the process behind `pidfd`, calls `body`, and comes back.
pub(super) fn inside_mounts_of<T>(
    pidfd: BorrowedFd<'_>,
    body: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let own = fs::File::open("/proc/self/ns/mnt")?;
    namespace::enter(pidfd, MOUNTS)?;
    let result = body();
    namespace::enter(std::os::fd::AsFd::as_fd(&own), MOUNTS)?;
    result
}

/// Kinds of namespaces as a person calls them.
fn names(kinds: u64) -> String {
    const NAMES: [(i32, &str); 8] = [
        (libc::CLONE_NEWCGROUP, "cgroup"),
        (libc::CLONE_NEWIPC, "ipc"),
        (libc::CLONE_NEWNET, "network"),
        (libc::CLONE_NEWNS, "mount"),
        (libc::CLONE_NEWPID, "pid"),
        (libc::CLONE_NEWTIME, "time"),
        (libc::CLONE_NEWUSER, "user"),
        (libc::CLONE_NEWUTS, "uts"),
    ];
    let names = NAMES.iter().filter(|(bit, _)| kinds & *bit as u64 != 0).map(|(_, name)| *name);
    format!("namespaces ({})", names.collect::<Vec<_>>().join(", "))
}
