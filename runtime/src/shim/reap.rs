//! How processes end.

use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitOptions, WaitStatus, wait};

use crate::protocol::Exit;

use super::process::State;
use super::{Shim, output};

impl Shim {
    /// Reaps every process that has ended: those of the table, and orphans of containers that
    /// had nobody else left.
    pub(super) fn reap(&mut self) {
        // The signals say only that something ended; which, the kernel tells below.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(slot) = self.processes.slot_of_pid(pid) {
                self.end(slot, status);
            }
        }
    }

    /// Settles what is left of a process that has just been reaped.
    fn end(&mut self, slot: u32, status: WaitStatus) {
        // It may have executed, or reported a fault, and ended within one batch of events.
        self.read_report(slot);
        let Some(process) = self.processes.get_mut(slot) else {
            return;
        };
        let State::Running { at: started_at } = process.state else {
            // Killed before it could report anything: its request still waits.
            return self.fail_killed(slot);
        };
        process.drain(&mut self.buffers);
        process.stdin = None;
        let (code, signal) = how(status);
        let exit = Exit {
            key: process.key.clone(),
            code,
            signal,
            oom_kills: oom_kills(process.cgroup.as_fd()),
            at: output::nanoseconds(),
            pid: process.pid.as_raw_nonzero().get(),
            started_at,
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

/// Processes of a cgroup that were killed for memory (`memory.events.local`); none where there
/// is no memory controller.
fn oom_kills(cgroup: BorrowedFd<'_>) -> u64 {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(cgroup, "memory.events.local", flags, Mode::empty()) else {
        return 0;
    };
    let mut text = String::new();
    if std::fs::File::from(file).read_to_string(&mut text).is_err() {
        return 0;
    }
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
