//! A second clone, after which the first child ends and its sibling goes on.
//!
//! ```text
//! parent        first                    second
//!   │ clone ────► makes what takes the
//!   │             host's privileges,
//!   │             enters the user namespace
//!   │             clone (CLONE_PARENT) ──► waits
//!   │◄─────────── Reborn(second)
//!   │             go ─────────────────────► namespaces, mounts, program
//!   │◄─────────── (ends)
//! ```
//!
//! Both are children of the same parent. The second does nothing before the parent can know of
//! it: how it ends is never the end of a stranger.
//!
//! # Among others
//!
//! Into a PID namespace where others live the child is reborn last of all, as in
//! [`enter_company`]. From its birth on they see it in `/proc`, and one of them that has
//! `CAP_SYS_PTRACE` goes through its root, its working directory and its descriptors, or traces
//! it, dumpable or not. So there is nothing left to find: the first is inside of the container in
//! every other way by then, has the program's identity and closed what is the host's. What takes
//! a process to be in that namespace, a procfs of it, somebody makes who has nothing else
//! ([`super::mounts`]).

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{Pid, ioctl_tiocsctty, setsid};

use crate::newborn::{Nest, report_reborn};
use crate::plan::Process;
use crate::protocol::Step;
use crate::socket;
use crate::sys::clone::{Birth, Child, split};
use crate::sys::exec::exit_now;
use crate::sys::{fds, namespace};

use super::{Attempt, Fault, Inheritance};

/// Goes on in a sibling that is born into new namespaces of `kinds` (`CLONE_NEW*`); answers its
/// PID, as the parent counts.
pub(super) fn reborn(kinds: u64, given: &Inheritance<'_>) -> Result<Pid, Fault> {
    clone_sibling(kinds, given).attempt(Step::Clone, || "clone a second time")
}

/// Has the next child be born into the PID namespace of others, if that is where this is to end.
pub(super) fn head_for_company(given: &Inheritance<'_>) -> Result<(), Fault> {
    let Nest::Of(others) = given.nest else { return Ok(()) };
    namespace::enter(others, libc::CLONE_NEWPID as u64)
        .attempt(Step::Namespaces, || "enter namespaces (pid)")
}

/// Goes on in a sibling among others; the sibling leads a session of its own, with the terminal
/// that the first has opened.
pub(super) fn enter_company(process: &Process, given: &Inheritance<'_>) -> Result<Pid, Fault> {
    let pid = reborn(0, given)?;
    setsid().attempt(Step::Clone, || "start a session")?;
    if process.terminal {
        ioctl_tiocsctty(rustix::stdio::stdin())
            .attempt(Step::Streams, || "control the terminal")?;
    }
    Ok(pid)
}

fn clone_sibling(kinds: u64, given: &Inheritance<'_>) -> io::Result<Pid> {
    let (first, second) = socket::pair()?;
    let birth = Birth { namespaces: kinds, sibling: true, ..Birth::default() };
    if let Some(child) = split(given.proof, &birth)? {
        return hand_over(&child, first.as_fd(), given).map(|never| match never {});
    }
    drop(first);
    let told = socket::receive(second.as_fd(), &mut [0; 8])?.bytes;
    let pid = told.try_into().map(i32::from_le_bytes).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("the first of the two has ended"))
}

/// Lets the second go on once the parent can know of it, and ends.
fn hand_over(
    second: &Child,
    go: BorrowedFd<'_>,
    given: &Inheritance<'_>,
) -> io::Result<Infallible> {
    let pid = second.pid.as_raw_nonzero().get();
    report_reborn(given.report, pid, second.pidfd.as_fd())?;
    // The end of the reports is the second's to make, by its `execve`.
    fds::close_all_but(0, &mut [go])?;
    // If even that fails, the second is told by the closed socket.
    socket::send(go, &pid.to_le_bytes(), &[]).or(Ok(())).map(|()| exit_now(0))
}
