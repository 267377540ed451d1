//! Staying with a process: its signals, its terminal, its end.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::error::{Error, Storing as _};
use crate::sys;
use crate::sys::clone::Child;

use super::birth::{exit_code, reap};

/// A process that this one stays with.
#[derive(Debug)]
pub(super) struct Foreground {
    pub(super) child: Child,
    /// The master of its terminal, if it has one.
    pub(super) master: Option<OwnedFd>,
    /// Signals that are passed on to it.
    pub(super) signals: SignalFd,
}

/// Blocks all signals that are passed on, before there is somebody to pass them on to.
pub(super) fn block_signals() -> Result<SignalFd, Error> {
    let mut mask = SigSet::all();
    // Faults of our own, and what cannot be blocked.
    for own in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT] {
        mask.remove(own);
    }
    let blocked = || -> io::Result<SignalFd> {
        mask.thread_block()?;
        Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
    };
    blocked().storing("receive", "signals")
}

impl Foreground {
    /// Passes on signals, input and output until the process has ended; answers its exit code.
    pub(super) fn wait(self) -> Result<i32, Error> {
        let raw = self.master.as_ref().and_then(|master| RawTerminal::enter(master.as_fd()));
        let status = self.relay().and_then(|()| reap(&self.child));
        drop(raw);
        Ok(exit_code(status.storing("wait for", "the process")?))
    }

    fn relay(&self) -> io::Result<()> {
        let mut input = self.master.is_some();
        loop {
            let mut fds = vec![
                PollFd::new(&self.child.pidfd, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            if let Some(master) = &self.master {
                fds.push(PollFd::new(master, PollFlags::IN));
            }
            if input {
                fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
            }
            rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
            let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready[1] {
                self.pass_signals()?;
            }
            if let Some(master) = &self.master {
                if ready[2] {
                    copy(master.as_fd(), rustix::stdio::stdout());
                }
                if input && ready[3] {
                    input = copy(rustix::stdio::stdin(), master.as_fd());
                }
            }
            if ready[0] {
                self.drain();
                return Ok(());
            }
        }
    }

    /// What was written before the end is read, without waiting for more.
    fn drain(&self) {
        let Some(master) = &self.master else { return };
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        for _ in 0..1024 {
            let mut fds = [PollFd::new(master, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&now)).unwrap_or(0) > 0;
            if !ready || !copy(master.as_fd(), rustix::stdio::stdout()) {
                return;
            }
        }
    }

    fn pass_signals(&self) -> io::Result<()> {
        while let Some(info) = self.signals.read_signal()? {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
            match signal {
                libc::SIGCHLD | libc::SIGURG => {}
                libc::SIGWINCH => self.resize(),
                // It may have ended just now.
                other => drop(sys::signal::send(self.child.pidfd.as_fd(), other)),
            }
        }
        Ok(())
    }

    fn resize(&self) {
        if let Some(master) = &self.master
            && let Ok(size) = tcgetwinsize(rustix::stdio::stdin())
        {
            let _ = tcsetwinsize(master, size);
        }
    }
}

/// Our own terminal in raw mode, until it is dropped. But for its output: the
/// container's passes line ends on as they are written, and ours turns them into what it needs.
struct RawTerminal(Termios);

impl RawTerminal {
    /// Nothing if standard input is no terminal.
    fn enter(master: BorrowedFd<'_>) -> Option<Self> {
        let own = rustix::stdio::stdin();
        if !isatty(own) {
            return None;
        }
        if let Ok(size) = tcgetwinsize(own) {
            let _ = tcsetwinsize(master, size);
        }
        let before = tcgetattr(own).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes = before.output_modes;
        tcsetattr(own, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Copies what there is; false at the end of it.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 16 << 10];
    let count = match rustix::io::retry_on_intr(|| rustix::io::read(from, &mut buffer)) {
        // A terminal whose other side has closed answers EIO.
        Ok(0) | Err(Errno::IO) => return false,
        Ok(count) => count,
        Err(error) => return error == Errno::AGAIN,
    };
    let mut rest = &buffer[..count];
    while !rest.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(to, rest)) {
            Ok(written) => rest = &rest[written..],
            Err(_) => return false,
        }
    }
    true
}
