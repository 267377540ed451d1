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

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::newborn::report_reborn;
use crate::protocol::Step;
use crate::socket;
use crate::sys::clone::{Birth, Child, SingleThreaded, split};
use crate::sys::exec::exit_now;

use super::{Attempt, Fault, Inheritance};

/// Goes on in a sibling that is born into new namespaces of `kinds` (`CLONE_NEW*`).
pub(super) fn reborn(kinds: u64, given: &Inheritance<'_>) -> Result<(), Fault> {
    clone_sibling(kinds, given).attempt(Step::Clone, || "clone a second time")
}

fn clone_sibling(kinds: u64, given: &Inheritance<'_>) -> io::Result<()> {
    let proof = SingleThreaded::check()?;
    let (first, second) = socket::pair()?;
    let birth = Birth { namespaces: kinds, sibling: true, ..Birth::default() };
    if let Some(child) = split(&proof, &birth)? {
        return hand_over(&child, first.as_fd(), given).map(|never| match never {});
    }
    drop(first);
    match socket::receive(second.as_fd(), &mut [0; 8])?.bytes.is_empty() {
        true => Err(io::Error::other("the first of the two has ended")),
        false => Ok(()),
    }
}

/// Lets the second go on once the parent can know of it, and ends.
fn hand_over(
    second: &Child,
    go: BorrowedFd<'_>,
    given: &Inheritance<'_>,
) -> io::Result<Infallible> {
    report_reborn(given.report, second.pidfd.as_fd())?;
    socket::send(go, &[0], &[]).map(|()| exit_now(0))
}
