//! The filter of system calls, loaded as the last thing before the `execve`.
//!
//! Whatever comes after it must be allowed by a profile that was written for the program and not
//! for us: so all else is done before, memory is allocated before, and the report that all is
//! ready is sent before. What remains is to give up the capability that it takes to load a filter
//! (with `no_new_privs` it takes none), to send a notification descriptor to its agent, and the
//! `execve`. runc loads earlier and asks more of a profile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use rustix::process::Pid;

use crate::plan::{Plan, Process, SeccompAgent};
use crate::protocol::Step;
use crate::socket;
use crate::sys::exec::before_exec;
use crate::sys::seccomp::Program;

use super::{Attempt, Fault, identity};

const STEP: Step = Step::Seccomp;

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, which the kernel takes only for an agent's sake.
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;

/// A connection to who decides on calls, and what it is told.
#[derive(Debug)]
pub(super) struct Agent {
    socket: OwnedFd,
    state: String,
}

impl Agent {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// With the state of this process, whose PID is `pid` for its parent.
    pub(super) fn of_process(self, pid: Pid, plan: &Plan) -> Self {
        let filter = plan.process.as_ref().and_then(|process| process.seccomp.as_ref());
        let agent = filter.and_then(|filter| filter.agent.as_ref());
        let own = pid.as_raw_nonzero().to_string();
        Self { state: agent.map(|agent| agent.state.join(&own)).unwrap_or_default(), ..self }
    }
}

/// Connects to the agent of the plan, if it has one, while paths are the host's.
pub(super) fn connect(plan: &Plan) -> Result<Option<Agent>, Fault> {
    let filter = plan.process.as_ref().and_then(|process| process.seccomp.as_ref());
    let Some(SeccompAgent { path, .. }) = filter.and_then(|filter| filter.agent.as_ref()) else {
        return Ok(None);
    };
    let attempt =
        || format!("failed to connect with seccomp agent at linux.seccomp.listenerPath {path}");
    let socket = socket::connect_stream(Path::new(path)).attempt(STEP, attempt)?;
    // The PID that the host knows: what is mounted there is the host's.
    let own = rustix::fs::readlink("/proc/self", Vec::new());
    let own = own.attempt(STEP, || "find my own pid")?;
    let own = own.to_str().ok().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    let own = own.ok_or(io::ErrorKind::NotFound).attempt(STEP, || "find my own pid")?;
    Ok(Some(Agent { socket, state: String::new() }.of_process(own, plan)))
}

/// A filter that is ready to be loaded.
#[derive(Debug)]
pub(super) struct Filter {
    program: Program,
    flags: u64,
    agent: Option<Agent>,
}

/// Does all that can be done beforehand.
pub(super) fn prepare(process: &Process, agent: Option<Agent>) -> Result<Option<Filter>, Fault> {
    let Some(filter) = &process.seccomp else {
        return Ok(None);
    };
    let program = Program::new(&filter.program).attempt(STEP, || "read the seccomp filter")?;
    Ok(Some(Filter { program, flags: filter.flags, agent }))
}

/// Has a program of the container's, which is not the one that its profile was written for but
/// has no more rights, start behind the filter too. It has no agent.
pub(super) fn confine(command: &mut Command, process: &Process) -> io::Result<()> {
    let Some(filter) = &process.seccomp else { return Ok(()) };
    let program = Program::new(&filter.program)?;
    let agents = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE;
    let (flags, process) = (filter.flags & !agents, process.clone());
    before_exec(command, move || {
        program.load(flags)?;
        identity::give_up_loading(&process).map_err(|fault| fault.error)
    });
    Ok(())
}

impl Filter {
    /// Loads it, and takes the last capabilities away.
    pub(super) fn load(&self, process: &Process) -> Result<(), Fault> {
        let listener = self.program.load(self.flags);
        let listener = listener.attempt(STEP, || "load the seccomp filter (linux.seccomp)")?;
        if let (Some(listener), Some(agent)) = (listener, &self.agent) {
            let sent = send(agent, listener.as_fd());
            sent.attempt(STEP, || "send the notification descriptor to the seccomp agent")?;
            // While this process holds it too, an agent that goes away is not missed by the kernel,
            // and who is waited for is nobody. A plain close: that of the library checks first, in
            // debug builds, with a call that may itself be one to notify.
            let _ = nix::unistd::close(listener);
        }
        identity::give_up_loading(process)
    }
}

fn send(agent: &Agent, listener: BorrowedFd<'_>) -> io::Result<()> {
    socket::send(agent.as_fd(), agent.state.as_bytes(), &[listener])
}
