//! A child between its clone and its program: how it is made, and what it tells of itself.
//!
//! ```text
//! parent                     child
//!   │ clone ─────────────────► reads its plan, enters and makes namespaces, mounts
//!   │◄─────────────── Reborn │  if the plan says so: a sibling goes on in its place
//!   │◄───────────── Terminal │  the master of the terminal that it has opened
//!   │◄─────────── Namespaces │  if the plan says so: it waits until it is told to go on
//!   │◄──────────────── Ready │  if the plan has a gate: it waits there for who starts it
//!   │◄────────────── Adopted │  on an errand: a process that a foreign runtime has made
//!   │◄──────────── Executing │  the next thing that it does is execve(2)
//!   │◄────────────── (closed)│  by execve, or by its death
//!   │◄─────────────── Failed │  instead of any of these
//! ```
//!
//! The report socket closes with the `execve`, and with the death of the child. To tell the two
//! apart the child says beforehand that it executes. Shared by the shim, which is a parent of
//! many, and by `berth-oci`, which is one of one.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use prost::Message as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Pid;

use crate::foreign::errand::Errand;
use crate::init::{self, Inheritance};
use crate::plan::Plan;
use crate::protocol::{Failure, Step};
use crate::socket::{self, Packet};
use crate::sys::clone::{Birth, Child, clone_process};
use crate::sys::exec::exit_now;

/// First byte of a report.
const TERMINAL: u8 = 0;
const EXECUTING: u8 = 1;
const FAILED: u8 = 2;
const NAMESPACES: u8 = 3;
const READY: u8 = 4;
const REBORN: u8 = 5;
const ADOPTED: u8 = 20;

/// Largest report. Of a failure that takes more words, the first are told.
pub(crate) const MAX_REPORT: usize = 8 * 1024;

/// What a child reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// It is about to end, and this process, a child of the same parent, goes on: the PID, and a
    /// pidfd. It may have ended, and been reaped, by the time that this is read.
    Reborn(i32, OwnedFd),
    /// It has opened a terminal; this is the master.
    Terminal(OwnedFd),
    /// Its namespaces and its root file system are made; it waits for [`go_on`].
    Namespaces,
    /// It waits at its gate.
    Ready,
    /// A foreign runtime has made this process for it, which becomes its parent's child when it
    /// ends itself: the PID, and a pidfd.
    Adopted(i32, OwnedFd),
    /// The next thing that it does is `execve(2)`.
    Executing,
    /// A step has failed, and it ends.
    Failed(Failure),
    /// It has closed the socket: it is another program now, or dead.
    Closed,
}

impl Report {
    /// Receives one; `buffer` must hold [`MAX_REPORT`] bytes.
    pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Self> {
        let Packet { bytes, mut descriptors } = socket::receive(socket, buffer)?;
        Ok(match (bytes.first(), descriptors.pop()) {
            (None, _) => Self::Closed,
            (Some(&REBORN), Some(pidfd)) => Self::Reborn(pid_in(&bytes[1..])?, pidfd),
            (Some(&TERMINAL), Some(master)) => Self::Terminal(master),
            (Some(&NAMESPACES), _) => Self::Namespaces,
            (Some(&READY), _) => Self::Ready,
            (Some(&ADOPTED), Some(pidfd)) => Self::Adopted(pid_in(&bytes[1..])?, pidfd),
            (Some(&EXECUTING), _) => Self::Executing,
            (Some(&FAILED), _) => Self::Failed(Failure::decode(&bytes[1..]).unwrap_or_default()),
            _ => return Err(io::Error::other("a report that makes no sense")),
        })
    }
}

/// Hands over the master of a new terminal.
pub(crate) fn report_terminal(to: BorrowedFd<'_>, master: BorrowedFd<'_>) -> io::Result<()> {
    socket::send(to, &[TERMINAL], &[master])
}

fn pid_in(bytes: &[u8]) -> io::Result<i32> {
    let bytes = bytes.try_into().map_err(|_| io::Error::other("a report without a PID"))?;
    Ok(i32::from_le_bytes(bytes))
}

/// Hands over a process that a foreign runtime has made.
pub(crate) fn report_adopted(
    to: BorrowedFd<'_>,
    pid: i32,
    pidfd: BorrowedFd<'_>,
) -> io::Result<()> {
    send_process(to, ADOPTED, pid, pidfd)
}

/// Hands over to another process.
pub(crate) fn report_reborn(to: BorrowedFd<'_>, pid: i32, pidfd: BorrowedFd<'_>) -> io::Result<()> {
    send_process(to, REBORN, pid, pidfd)
}

fn send_process(to: BorrowedFd<'_>, kind: u8, pid: i32, pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let mut report = vec![kind];
    report.extend(pid.to_le_bytes());
    socket::send(to, &report, &[pidfd])
}

/// The PID of the process behind a pidfd, as the mounted `/proc` counts; none if it has been
/// reaped.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    let pid: i32 =
        pid.and_then(|pid| pid.trim().parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(if pid > 0 { Pid::from_raw(pid) } else { None })
}

/// Says that the program is about to run.
pub(crate) fn report_executing(to: BorrowedFd<'_>) -> io::Result<()> {
    socket::send(to, &[EXECUTING], &[])
}

/// Says that namespaces and root are made, and waits until the parent has used them.
pub(crate) fn report_namespaces(to: BorrowedFd<'_>) -> io::Result<()> {
    socket::send(to, &[NAMESPACES], &[])?;
    match socket::receive(to, &mut [0; 8])?.bytes.is_empty() {
        true => Err(io::Error::other("the parent has gone")),
        false => Ok(()),
    }
}

/// Lets a child that has reported [`Report::Namespaces`] go on.
pub(crate) fn go_on(child: BorrowedFd<'_>) -> io::Result<()> {
    socket::send(child, &[0], &[])
}

/// Says that all is ready but the start, and waits for a signal that ends it, or for who connects
/// to `gate`, the socket that the child listens on: to that one it reports from then on.
pub(crate) fn wait_at_gate(to: BorrowedFd<'_>, gate: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let signals = deadly_signals()?;
    socket::send(to, &[READY], &[])?;
    let mut fds =
        [PollFd::from_borrowed_fd(gate, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    if let Some(info) = signals.read_signal()? {
        exit_now(128 + i32::try_from(info.ssi_signo).unwrap_or(0));
    }
    deadly().thread_unblock()?;
    let flags = rustix::net::SocketFlags::CLOEXEC;
    Ok(rustix::io::retry_on_intr(|| rustix::net::accept_with(gate, flags))?)
}

/// What ends a process that does nothing against it, and can be blocked.
fn deadly() -> SigSet {
    use nix::sys::signal::Signal as S;
    let deadly = [
        S::SIGHUP,
        S::SIGINT,
        S::SIGQUIT,
        S::SIGPIPE,
        S::SIGALRM,
        S::SIGTERM,
        S::SIGUSR1,
        S::SIGUSR2,
    ];
    deadly.into_iter().collect()
}

/// Receives them instead: the first process of a PID namespace, which this may be, is spared
/// otherwise.
fn deadly_signals() -> io::Result<SignalFd> {
    deadly().thread_block()?;
    Ok(SignalFd::with_flags(&deadly(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Which PID namespace a child lives in when its program runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nest<'a> {
    /// Its parent's.
    Own,
    /// A new one.
    New,
    /// That of a process or of a namespace file, where others live already. The child is born
    /// outside of it, and enters it last of all, by being born again: see [`crate::init`].
    Of(BorrowedFd<'a>),
}

/// Clones a child that reads its plan, executes it, and reports.
pub(crate) fn clone_child<P: Borrow<Plan>>(
    cgroup: Option<BorrowedFd<'_>>,
    given: &Inheritance<'_>,
    plan: impl FnOnce() -> io::Result<P>,
) -> io::Result<Child> {
    let new = if matches!(given.nest, Nest::New) { libc::CLONE_NEWPID as u64 } else { 0 };
    let birth = Birth { cgroup, namespaces: new, sibling: false };
    clone_process(given.proof, &birth, || live(plan, given))
}

/// Clones a child that runs an errand: in the namespaces and the cgroup of its parent, because
/// it is none of the pod's processes, only their maker.
pub(crate) fn clone_errand(
    given: &Inheritance<'_>,
    errand: impl FnOnce() -> io::Result<Errand>,
) -> io::Result<Child> {
    clone_process(given.proof, &Birth::default(), || run_errand(errand, given))
}

fn run_errand(errand: impl FnOnce() -> io::Result<Errand>, given: &Inheritance<'_>) -> Infallible {
    let failure = match errand().map(|errand| init::errand::run(&errand, given)) {
        Ok(Ok(())) => return exit_now(0),
        Ok(Err(fault)) => failure(fault.step, &fault.attempt, &fault.error),
        Err(error) => failure(Step::Request, "read the errand", &error),
    };
    fail(given.report, &failure)
}

/// The child, from its first instruction on.
fn live<P: Borrow<Plan>>(
    plan: impl FnOnce() -> io::Result<P>,
    given: &Inheritance<'_>,
) -> Infallible {
    let (failure, to) = match plan() {
        Ok(plan) => {
            let (fault, connection) = init::run(plan.borrow(), given);
            (failure(fault.step, &fault.attempt, &fault.error), connection)
        }
        Err(error) => (failure(Step::Request, "read the plan", &error), None),
    };
    fail(to.as_ref().map_or(given.report, std::os::fd::AsFd::as_fd), &failure)
}

/// Reports why, and ends.
fn fail(to: BorrowedFd<'_>, failure: &Failure) -> Infallible {
    let mut failure = failure.clone();
    let fits = |(index, _): &(usize, char)| *index >= MAX_REPORT - 64;
    if let Some((end, _)) = failure.attempt.char_indices().find(fits) {
        failure.attempt.truncate(end);
    }
    let mut report = vec![FAILED];
    report.extend(failure.encode_to_vec());
    // If even that fails, the closed socket says that it did not work.
    let _ = socket::send(to, &report, &[]);
    exit_now(127)
}

/// A failure, with the kernel's number for it or, lacking that, its words.
pub(crate) fn failure(step: Step, attempt: &str, error: &io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(0);
    let cause = if errno == 0 { format!("{attempt}: {error}") } else { attempt.to_owned() };
    Failure { step: step.into(), attempt: cause, errno }
}
