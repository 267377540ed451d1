//! What the children of the shim report between their clone and their `execve`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::Pid;

use crate::newborn::{Report, failure};
use crate::protocol::{Failure, Started, Step, Tidings};

use super::line::Stream;
use super::output::{self, Source};
use super::process::State;
use super::{Shim, Token, complain};

impl Shim {
    /// Reads what a child has reported; nothing if it runs already, or has not got there yet.
    pub(super) fn read_report(&mut self, slot: u32) {
        loop {
            let Some(process) = self.processes.get_mut(slot) else {
                return;
            };
            let State::Preparing { report, executing, reborn, foreign, .. } = &mut process.state
            else {
                return;
            };
            match Report::receive(report.as_fd(), &mut self.buffers.packet) {
                Ok(Report::Reborn(pid, pidfd)) => match Pid::from_raw(pid) {
                    // Once: what it was born into may have taken its socket from it since.
                    Some(pid) if !std::mem::replace(reborn, true) => {
                        (process.pid, process.pidfd) = (pid, pidfd);
                    }
                    _ => return self.fail_killed(slot),
                },
                Ok(Report::Terminal(master)) => self.take_terminal(slot, master),
                Ok(Report::Executing) => *executing = true,
                Ok(Report::Adopted(pid, pidfd)) if *foreign => self.adopt(slot, pid, pidfd),
                Ok(Report::Failed(failure)) => return self.fail(slot, failure),
                Ok(Report::Closed) if *executing => return self.succeed(slot),
                Ok(Report::Closed) => return self.fail_killed(slot),
                // Plans of the shim have no gate and nobody who waits for their namespaces, and
                // only errands have something adopted.
                Ok(Report::Namespaces | Report::Ready | Report::Adopted(..)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.fail(slot, failure(Step::Clone, "hear from it", &error)),
            }
        }
    }

    /// What was known as the process until now was the errand, which has made it.
    fn adopt(&mut self, slot: u32, pid: i32, pidfd: OwnedFd) {
        if let (Some(process), Some(pid)) = (self.processes.get_mut(slot), Pid::from_raw(pid)) {
            (process.pid, process.pidfd) = (pid, pidfd);
        }
    }

    /// Reads what all children have reported.
    pub(super) fn read_reports(&mut self) {
        for slot in self.processes.preparing() {
            self.read_report(slot);
        }
    }

    fn take_terminal(&mut self, slot: u32, master: OwnedFd) {
        let Some(process) = self.processes.get_mut(slot) else {
            return;
        };
        let watched = output::set_nonblocking(master.as_fd())
            .and_then(|()| self.poll.add(master.as_fd(), Token::Output(slot)));
        match watched {
            Ok(()) => {
                process.output = Some(Source::new(master, Stream::Stdout, process.max_line, true));
            }
            Err(error) => complain(&format!("watch the terminal of {}: {error}", process.key)),
        }
    }

    fn succeed(&mut self, slot: u32) {
        let Some(process) = self.processes.get_mut(slot) else {
            return;
        };
        let at = crate::clock::nanoseconds();
        let before = std::mem::replace(&mut process.state, State::Running { at });
        let pid = process.pid.as_raw_nonzero().get();
        let started = Started { key: process.key.clone(), pid, at };
        let pidfd = process.pidfd.try_clone();
        if let State::Preparing { report, connection, number, .. } = before {
            self.poll.remove(report.as_fd());
            let pidfd = pidfd.ok();
            let descriptors: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
            self.answer_with(connection, number, Tidings::Started(started), &descriptors);
        }
    }

    /// Answers that a child was killed before its program ran.
    pub(super) fn fail_killed(&mut self, slot: u32) {
        let error = io::Error::other("killed before its program ran");
        self.fail(slot, failure(Step::Clone, "start: killed before the program ran", &error));
    }

    fn fail(&mut self, slot: u32, failure: Failure) {
        let Some(process) = self.processes.remove(slot) else {
            return;
        };
        for source in [&process.output, &process.errors].into_iter().flatten() {
            self.poll.remove(source.as_fd());
        }
        if let State::Preparing { report, connection, number, .. } = process.state {
            self.poll.remove(report.as_fd());
            self.answer(connection, number, Tidings::Failure(failure));
        }
    }
}
