//! Making a process and hearing it out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid,
};

use crate::affinity::born_on;
use crate::error::{Error, Storing as _};
use crate::init::Inheritance;
use crate::newborn::{self, MAX_REPORT, Nest, Report, clone_child};
use crate::plan::{Numbers, Plan};
use crate::protocol::Step;
use crate::socket;
use crate::sys::clone::Child;

use super::alone;

/// What a new process is given.
#[derive(Debug)]
pub(super) struct Cradle<'a> {
    /// The cgroup that it is born in.
    pub(super) cgroup: BorrowedFd<'a>,
    /// The PID namespace that it is born in.
    pub(super) nest: Nest<'a>,
    /// Descriptors behind the plan's handles.
    pub(super) handles: Vec<BorrowedFd<'a>>,
}

/// A process that has been cloned, and is killed and reaped if it is dropped before it is
/// [`kept`](Self::keep).
#[derive(Debug)]
pub(super) struct Newborn {
    child: Option<Child>,
    report: OwnedFd,
    reborn: bool,
}

/// What a parent does meanwhile.
pub(super) trait Parent {
    /// Takes the master of the child's terminal.
    fn take_terminal(&mut self, master: OwnedFd) -> Result<(), Error>;

    /// Uses the child's namespaces, while it waits.
    fn use_namespaces(&mut self, pid: i32) -> Result<(), Error>;
}

impl Newborn {
    /// Clones a child that executes `plan`, with the standard streams of this process.
    pub(super) fn clone(plan: &Plan, cradle: Cradle<'_>) -> Result<Self, Error> {
        Self::clone_on(None, plan, cradle)
    }

    /// As [`clone`](Self::clone), with the child born on the processors `cpus`.
    pub(super) fn clone_on(
        cpus: Option<&Numbers>,
        plan: &Plan,
        cradle: Cradle<'_>,
    ) -> Result<Self, Error> {
        let proof = alone()?;
        let (report, childs_report) = socket::pair().storing("make", "a socket")?;
        let given = Inheritance {
            handles: cradle.handles,
            streams: [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
                .map(Some),
            null: None,
            report: childs_report.as_fd(),
            nest: cradle.nest,
            proof: &proof,
        };
        let child = born_on(cpus, || clone_child(Some(cradle.cgroup), &given, || Ok(plan)));
        let failed = |error: std::io::Error| {
            // A cgroup that hands controllers on takes no processes itself.
            let attempt = match error.raw_os_error() {
                Some(libc::EBUSY) => "clone: adding pid of the child to cgroups",
                _ => "clone",
            };
            Error::Start(newborn::failure(Step::Clone, attempt, &error))
        };
        Ok(Self { child: Some(child.map_err(failed)?), report, reborn: false })
    }

    /// Hears the child out, until it waits at its gate or its program runs.
    pub(super) fn hear(&mut self, parent: &mut dyn Parent) -> Result<(), Error> {
        let mut buffer = vec![0; MAX_REPORT];
        let mut executing = false;
        loop {
            let report = Report::receive(self.report.as_fd(), &mut buffer);
            let failed =
                |error| Error::Start(newborn::failure(Step::Clone, "hear from the child", &error));
            match report.map_err(failed)? {
                Report::Reborn(pid, pidfd) => self.replace(pid, pidfd).map_err(failed)?,
                Report::Terminal(master) => parent.take_terminal(master)?,
                Report::Namespaces => {
                    parent.use_namespaces(self.pid())?;
                    newborn::go_on(self.report.as_fd()).map_err(failed)?;
                }
                Report::Ready => return Ok(()),
                Report::Executing => executing = true,
                // Of errands, which only shims run.
                Report::Adopted(..) => {}
                Report::Failed(failure) => return Err(Error::Start(failure)),
                Report::Closed if executing => return Ok(()),
                Report::Closed => {
                    let error = std::io::Error::other("it was killed before its program ran");
                    return Err(Error::Start(newborn::failure(Step::Clone, "start", &error)));
                }
            }
        }
    }

    /// Goes on with the process that has taken the child's place.
    fn replace(&mut self, pid: i32, pidfd: OwnedFd) -> std::io::Result<()> {
        // Once: what it was born into may have taken its socket from it since.
        let pid = Pid::from_raw(pid).filter(|_| !std::mem::replace(&mut self.reborn, true));
        let pid = pid.ok_or(std::io::ErrorKind::InvalidInput)?;
        if let Some(first) = self.child.replace(Child { pid, pidfd }) {
            reap(&first)?;
        }
        Ok(())
    }

    /// Its PID.
    pub(super) fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.pid.as_raw_nonzero().get())
    }

    /// A descriptor of it.
    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(|child| child.pidfd.as_fd())
    }

    /// Lets it live.
    pub(super) fn keep(mut self) -> Option<Child> {
        self.child.take()
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            // A dead one is fine; it is reaped below in any case.
            let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
            let _ = reap(&child);
        }
    }
}

/// Waits for the end of a child, and reaps it.
pub(super) fn reap(child: &Child) -> std::io::Result<Option<WaitIdStatus>> {
    let wait = || waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    Ok(rustix::io::retry_on_intr(wait)?)
}

/// Exit code of a process: its own, or 128 and the signal that ended it.
pub(super) fn exit_code(status: Option<WaitIdStatus>) -> i32 {
    let Some(status) = status else { return 128 };
    status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(128)
}
