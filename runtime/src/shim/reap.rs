//! How processes end.

use std::os::fd::AsFd as _;

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::cgroup::oom::{Reached, oom_kills};
use crate::protocol::Exit;

use super::Shim;
use super::process::State;

impl Shim {
    /// Reaps every process that has ended: those of the table, and orphans of containers that
    /// had nobody else left.
    pub(super) fn reap(&mut self) {
        // The signals say only that something ended; which, the kernel tells below.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(slot) = self.slot_of_ended(pid) {
                self.end(slot, pid, status);
            }
        }
    }

    /// A process that a foreign runtime has made is the shim's child once its errand has ended,
    /// and an errand says whose process it was before it ends. So does a child that is born again.
    fn slot_of_ended(&mut self, pid: Pid) -> Option<u32> {
        self.processes.slot_of_pid(pid).or_else(|| {
            self.read_reports();
            self.processes.slot_of_pid(pid)
        })
    }

    /// Settles what is left of a process that has just been reaped.
    fn end(&mut self, slot: u32, pid: Pid, status: WaitStatus) {
        // It may have executed, or reported a fault, and ended within one batch of events.
        self.read_report(slot);
        let Some(process) = self.processes.get_mut(slot).filter(|process| process.pid == pid)
        else {
            // It had only been the first of two stages.
            return;
        };
        let State::Running { at: started_at } = process.state else {
            // Killed before it could report anything: its request still waits.
            return self.fail_killed(slot);
        };
        process.drain(&mut self.buffers);
        process.stdin = None;
        let (code, signal) = how(status);
        // Before anybody is told of the end: the cgroup goes after that.
        let reached = (signal == libc::SIGKILL).then(|| Reached::now(process.cgroup.as_fd()));
        let exit = Exit {
            key: process.key.clone(),
            code,
            signal,
            oom_kills: oom_kills(process.cgroup.as_fd()),
            at: crate::clock::nanoseconds(),
            pid: process.pid.as_raw_nonzero().get(),
            started_at,
            oom_level: reached.and_then(|reached| reached.since(&process.reached)),
        };
        process.state = State::Ended;
        self.publish(exit);
        self.processes.forget_if_over(slot);
    }
}

/// Exit code, with 128 added to the number of a signal, and the signal.
fn how(status: WaitStatus) -> (i32, i32) {
    if let Some(code) = status.exit_status() {
        return (code, 0);
    }
    let signal = status.terminating_signal().unwrap_or(libc::SIGKILL);
    (128 + signal, signal)
}
