//! Waiting for what `cgroup.events` tells, with a task or with the thread.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;

use crate::sys::watch::watch;

use super::is_gone;

/// Something to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// No process is left in and below it.
    Empty,
    /// Every process in and below it stands still.
    Frozen,
    /// None is kept from running any more.
    Thawed,
}

impl Event {
    fn line(self) -> &'static str {
        match self {
            Self::Empty => "populated 0",
            Self::Frozen => "frozen 1",
            Self::Thawed => "frozen 0",
        }
    }
}

/// The file, open. It becomes exceptional for poll(2) whenever it changes.
#[derive(Debug)]
pub(super) struct Events(OwnedFd);

impl Events {
    /// Opens that of the cgroup at `directory`; none if it is gone.
    pub(super) fn open(directory: &Path) -> io::Result<Option<Self>> {
        match File::open(directory.join("cgroup.events")) {
            Err(error) if is_gone(&error) => Ok(None),
            opened => Ok(Some(Self(opened?.into()))),
        }
    }

    /// Waits for `event`; what is gone has no process and stands still.
    pub(super) async fn wait(self, event: Event) -> io::Result<()> {
        let file = watch(self.0, Interest::PRIORITY)?;
        // Looked at before every wait: the change may have come first.
        while !has_come(file.get_ref(), event)? {
            file.ready(Interest::PRIORITY).await?.clear_ready();
        }
        Ok(())
    }

    /// Waits for `event` with this thread, and tells whether it came before `deadline`.
    pub(super) fn wait_blocking(&self, event: Event, deadline: Instant) -> io::Result<bool> {
        loop {
            if has_come(&self.0, event)? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut fds = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::PRI)];
            match poll(&mut fds, Some(&left)) {
                Err(rustix::io::Errno::INTR) | Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn has_come(file: &OwnedFd, event: Event) -> io::Result<bool> {
    let mut text = [0; 128];
    match rustix::io::pread(file, &mut text, 0).map_err(io::Error::from) {
        Ok(length) => Ok(tells(&text[..length], event)),
        Err(error) if is_gone(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

fn tells(text: &[u8], event: Event) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| line == event.line().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_a_line() {
        let text = b"populated 1\nfrozen 0\n";
        assert!(tells(text, Event::Thawed));
        assert!(!tells(text, Event::Empty));
        assert!(!tells(text, Event::Frozen));
        assert!(tells(b"populated 0\nfrozen 1\n", Event::Frozen));
        assert!(!tells(b"", Event::Thawed));
    }
}
