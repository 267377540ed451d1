//! The processes of the pod, as the shim knows them.

use std::os::fd::OwnedFd;

use rustix::process::Pid;

use crate::cgroup::oom::Reached;
use crate::protocol::Started;

use super::output::{Buffers, Log, Rest, Source};

/// Where a process is in its life.
#[derive(Debug)]
pub(super) enum State {
    /// Cloned; executes its plan and reports on this socket to who asked for it.
    Preparing {
        report: OwnedFd,
        connection: u32,
        number: u64,
        /// Whether it is an errand.
        foreign: bool,
        /// Whether it has gone on in another process.
        reborn: bool,
        /// Whether all that is left is to execute its program.
        executing: bool,
    },
    /// Its program was executed at this time.
    Running { at: i64 },
    /// Gone and reaped.
    Ended,
}

/// Which stream of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Standard output, or all output of a terminal.
    Output,
    /// Standard error.
    Errors,
}

/// A process of the pod.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) key: String,
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// Directory of its cgroup, to look for OOM kills in.
    pub(super) cgroup: OwnedFd,
    /// How often limits of memory had been reached when it was made.
    pub(super) reached: Reached,
    pub(super) state: State,
    pub(super) log: Log,
    /// Bytes after which a log line is cut.
    pub(super) max_line: u32,
    pub(super) output: Option<Source>,
    pub(super) errors: Option<Source>,
    /// Write end of its standard input, kept open so that it does not end.
    pub(super) stdin: Option<OwnedFd>,
    /// Whether nobody wants to hear of it any more.
    pub(super) forgotten: bool,
}

impl Process {
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// What is told of it while it runs.
    pub(super) fn started(&self) -> Option<Started> {
        let State::Running { at } = self.state else {
            return None;
        };
        Some(Started { key: self.key.clone(), pid: self.pid.as_raw_nonzero().get(), at })
    }

    /// Logs one batch of a stream.
    pub(super) fn pump(&mut self, which: Which, buffers: &mut Buffers) -> Rest {
        let source = match which {
            Which::Output => &mut self.output,
            Which::Errors => &mut self.errors,
        };
        source.as_mut().map_or(Rest::Ended, |source| source.pump(&mut self.log, buffers))
    }

    /// Logs what is in the pipes now; what a surviving child writes later comes later.
    pub(super) fn drain(&mut self, buffers: &mut Buffers) {
        for which in [Which::Output, Which::Errors] {
            // A pipe holds a mebibyte at most: the bound is for a writer that never pauses.
            for _ in 0..64 {
                if self.pump(which, buffers) != Rest::More {
                    break;
                }
            }
        }
    }

    /// Gives up a stream that has ended.
    pub(super) fn close(&mut self, which: Which) -> Option<Source> {
        match which {
            Which::Output => self.output.take(),
            Which::Errors => self.errors.take(),
        }
    }
}

/// All processes; a slot keeps its number as long as its process is known.
#[derive(Debug, Default)]
pub(super) struct Processes {
    slots: Vec<Option<Process>>,
}

impl Processes {
    /// The slot that the next [`insert`](Self::insert) fills.
    pub(super) fn next_slot(&self) -> u32 {
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        u32::try_from(free).unwrap_or(u32::MAX)
    }

    pub(super) fn insert(&mut self, slot: u32, process: Process) {
        let index = slot as usize;
        if index == self.slots.len() {
            self.slots.push(Some(process));
        } else {
            self.slots[index] = Some(process);
        }
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Process> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Process> {
        self.slots.get_mut(slot as usize)?.take()
    }

    pub(super) fn find(&self, key: &str) -> Option<&Process> {
        self.iter().find(|process| process.key == key)
    }

    pub(super) fn find_mut(&mut self, key: &str) -> Option<&mut Process> {
        self.slots.iter_mut().flatten().find(|process| process.key == key)
    }

    pub(super) fn slot_of_pid(&self, pid: Pid) -> Option<u32> {
        self.slot_where(|process| process.pid == pid && !process.has_ended())
    }

    pub(super) fn slot_of_key(&self, key: &str) -> Option<u32> {
        self.slot_where(|process| process.key == key)
    }

    /// Slots of processes that have reports to come.
    pub(super) fn preparing(&self) -> Vec<u32> {
        let preparing = |slot: &Option<Process>| {
            slot.as_ref().is_some_and(|process| matches!(process.state, State::Preparing { .. }))
        };
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| preparing(slot));
        slots.filter_map(|(index, _)| u32::try_from(index).ok()).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.slots.iter().flatten()
    }

    /// Those whose programs do not run yet.
    pub(super) fn starting(&self) -> impl Iterator<Item = &Process> {
        self.iter().filter(|process| matches!(process.state, State::Preparing { .. }))
    }

    pub(super) fn any_alive(&self) -> bool {
        self.iter().any(|process| !process.has_ended())
    }

    /// Drops a process that has ended, that nobody asks for and whose output has been logged.
    pub(super) fn forget_if_over(&mut self, slot: u32) {
        let over = self.get_mut(slot).is_some_and(|process| {
            process.forgotten
                && process.has_ended()
                && process.output.is_none()
                && process.errors.is_none()
        });
        if over {
            self.remove(slot);
        }
    }

    fn slot_where(&self, predicate: impl Fn(&Process) -> bool) -> Option<u32> {
        let index = self.slots.iter().position(|slot| slot.as_ref().is_some_and(&predicate))?;
        u32::try_from(index).ok()
    }
}
