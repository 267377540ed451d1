//! `clone3(2)`: a child that is born in its cgroup and, if asked for, in a new PID namespace.
//!
//! A process that is *moved* into a cgroup waits for an RCU grace period (milliseconds); one
//! that is cloned into it with `CLONE_INTO_CGROUP` (Linux 5.7) does not.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;

use super::check;

/// Proof that the process had one thread when it was asked.
///
/// The child of a clone runs in a copy of the parent's memory with only the calling thread in
/// it: locks that other threads held stay locked for ever. A process that holds this value was
/// single-threaded and, by the rule of the shim, stays so.
#[derive(Debug)]
pub(crate) struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads of the process in `/proc/self/task`.
    pub(crate) fn check() -> io::Result<Self> {
        match fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            n => Err(io::Error::other(format!("{n} threads, where one is needed to clone"))),
        }
    }
}

/// From `linux/sched.h`; above 32 bits, hence for `clone3` alone.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What the child of [`clone_process`] is born into.
#[derive(Debug, Default)]
pub(crate) struct Birth<'a> {
    /// Directory of the cgroup that the child starts in; the parent's own when absent.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// `CLONE_NEW*` of new namespaces; in a new PID namespace it is PID 1.
    pub(crate) namespaces: u64,
    /// Whether it is a child of the caller's parent, and not of the caller.
    pub(crate) sibling: bool,
}

/// A child process that has just been cloned.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its PID as the parent sees it.
    pub(crate) pid: Pid,
    /// A descriptor of the process, close-on-exec.
    pub(crate) pidfd: OwnedFd,
}

/// Clones the process; `body` runs in the child and never returns.
///
/// The child shares nothing with the parent but open files. It exits with 127 should `body`
/// panic its way out (with `panic = "abort"` it dies by the signal instead).
pub(crate) fn clone_process(
    proof: &SingleThreaded,
    birth: &Birth<'_>,
    body: impl FnOnce() -> Infallible,
) -> io::Result<Child> {
    let child = split(proof, birth)?;
    if child.is_none() {
        body();
    }
    child.ok_or_else(|| io::Error::other("the child has come back"))
}

/// Clones the process, as `fork(2)` does: in the child the answer is none.
pub(crate) fn split(_proof: &SingleThreaded, birth: &Birth<'_>) -> io::Result<Option<Child>> {
    let mut pidfd: libc::c_int = -1;
    let mut flags = libc::CLONE_PIDFD as u64 | birth.namespaces;
    if birth.cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    if birth.sibling {
        flags |= libc::CLONE_PARENT as u64;
    }
    let mut args = libc::clone_args {
        flags,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sibling's is the caller's own, and must not be said.
        exit_signal: if birth.sibling { 0 } else { libc::SIGCHLD as u64 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: birth.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM and with a null stack the call behaves as fork does: the child
    // goes on with a copy of this stack. `_proof` says that no other thread can hold a lock
    // that the copy would wait for. `args` and `pidfd` outlive the call.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        return Ok(None);
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("clone3 returned no pid"))?;
    // SAFETY: the kernel has stored a new descriptor there, because of CLONE_PIDFD, and nobody
    // else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Child { pid, pidfd }))
}
