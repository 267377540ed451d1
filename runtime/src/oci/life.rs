//! A process that is remembered from one call to the next.
//!
//! A PID is given to another process when its own has gone; the time at which the process
//! started tells the two apart.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// Who a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Its PID.
    pub pid: i32,
    /// When it started, in clock ticks since boot (`proc(5)`, field 22 of `stat`).
    pub start: u64,
}

impl Life {
    /// Looks at a process that is known to be there.
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, start: start_of(pid)? })
    }

    /// Opens the process, if it has not ended.
    pub(super) fn open(self) -> io::Result<Option<OwnedFd>> {
        let pid = Pid::from_raw(self.pid).ok_or(io::ErrorKind::InvalidData)?;
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            opened => opened?,
        };
        // Asked after the descriptor is there: nobody else can have the PID from now on.
        if start_of(self.pid).ok() != Some(self.start) || has_ended(pidfd.as_fd())? {
            return Ok(None);
        }
        Ok(Some(pidfd))
    }
}

/// Whether a process is dead, reaped or not.
fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    wait_for(pidfd, Some(Timespec { tv_sec: 0, tv_nsec: 0 }))
}

/// Waits until a process has ended; false if that takes longer than `patience`.
pub(super) fn wait_for(pidfd: BorrowedFd<'_>, patience: Option<Timespec>) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, patience.as_ref()))? > 0)
}

fn start_of(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    start_in(&stat).ok_or_else(|| io::Error::other("a process status that makes no sense"))
}

/// The name of the program, in parentheses, may hold anything.
fn start_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 2";
        assert_eq!(start_in(stat), Some(4242));
        assert_eq!(start_in("7 (a"), None);
    }

    #[test]
    fn a_process_is_itself_and_nobody_else() {
        let own = i32::try_from(std::process::id()).unwrap();
        let life = Life::of(own).unwrap();
        assert!(life.open().unwrap().is_some());
        assert!(Life { start: life.start + 1, ..life }.open().unwrap().is_none());
    }

    #[test]
    fn one_that_waits_to_be_reaped_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let life = Life::of(i32::try_from(child.id()).unwrap()).unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert!(wait_for(pidfd.as_fd(), None).unwrap());
        assert!(life.open().unwrap().is_none());
        child.wait().unwrap();
    }
}
