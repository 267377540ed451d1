//! The process that unpacks one layer, and can do nothing else.
//!
//! ```text
//! berthd                                   unpacker, a new one for each layer
//!  fetch ─► hash, count ─► compressed ─►│ stdin ─► inflate ─► hash ─► tar entries ─► directory
//!  verdict, seals, publish ◄─ report ◄──│ stdout
//! ```
//!
//! What a stranger has made is parsed here: compression, tar, names. So whatever a fault in that
//! code lets a layer do, it does to its own directory only (SECURITY: unpacking is confined): the
//! process sees no other file, cannot open a device, has no network, cannot start programs, and
//! holds no privilege but those over the files that it makes. It is berthd's own program, started
//! again with the hidden first argument [`ARGUMENT`]. What needs more privilege than it has, it
//! reports, and berthd does ([`super::seal`]). A crash is the end of one pull.

mod confine;
mod filter;
pub(super) mod report;
mod work;

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::config::Limits;
use crate::digest::Algorithm;

/// The first argument of a program that is to unpack a layer; the [`Order`] follows.
pub(super) const ARGUMENT: &str = "unpack-layer";
/// Bytes of the pipe to the unpacker: what it reads at once while the network is at the next ones.
const PIPE: usize = 1 << 20;
/// The longest report that is read.
const MAX_REPORT: usize = 32 << 20;
/// How often a waiting thread looks whether its pull was cancelled: that is no descriptor.
const LOOK: Duration = Duration::from_millis(500);

/// What an unpacker is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// How messages call the layer.
    pub(super) what: String,
    /// By which the uncompressed bytes are hashed.
    pub(super) algorithm: Algorithm,
    pub(super) limits: Limits,
}

/// A running unpacker. Killed when dropped.
#[derive(Debug)]
pub(super) struct Unpacker {
    child: Child,
    input: Option<ChildStdin>,
}

/// Whether a stopped pull is why waiting ends early.
pub(super) type IsStopped<'a> = &'a dyn Fn() -> bool;

impl Unpacker {
    /// Starts `program` in `directory`, which holds the empty directories `fs` and `attic`. The
    /// calling thread must live until the process has ended: the process dies with it.
    pub(super) fn start(program: &Path, directory: &Path, order: &Order) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg0("berthd-unpacker").arg(ARGUMENT).arg(serde_json::to_string(order)?);
        command.env_clear().current_dir(directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        if let Some(input) = &input {
            // Beyond what an administrator allows, a smaller pipe does as well.
            let _ = rustix::pipe::fcntl_setpipe_size(input, PIPE);
            rustix::io::ioctl_fionbio(input, true)?;
        }
        Ok(Self { child, input })
    }

    /// Gives it more of the layer; `false` if it does not want more, because it has failed, or
    /// because of a stop.
    pub(super) fn feed(&mut self, mut bytes: &[u8], is_stopped: IsStopped<'_>) -> io::Result<bool> {
        let Some(input) = &self.input else { return Ok(false) };
        while !bytes.is_empty() {
            match rustix::io::write(input, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::AGAIN) if is_stopped() => return Ok(false),
                Err(Errno::AGAIN) => wait(PollFd::new(input, PollFlags::OUT))?,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Tells it that this was all, and answers its report and how it ended.
    pub(super) fn finish(mut self, is_stopped: IsStopped<'_>) -> io::Result<(Vec<u8>, ExitStatus)> {
        self.input = None;
        let mut report = Vec::new();
        let mut piece = vec![0; 64 << 10];
        if let Some(output) = &self.child.stdout {
            loop {
                wait(PollFd::new(output, PollFlags::IN))?;
                if is_stopped() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                if poll(&mut [PollFd::new(output, PollFlags::IN)], Some(&Timespec::default()))? == 0
                {
                    continue;
                }
                match rustix::io::read(output, &mut piece)? {
                    0 => break,
                    n => report.extend_from_slice(&piece[..n]),
                }
                if report.len() > MAX_REPORT {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
            }
        }
        Ok((report, self.child.wait()?))
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        // It has ended already, or its work is of no use any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a descriptor, for a while.
fn wait(fd: PollFd<'_>) -> io::Result<()> {
    let timeout = Timespec::try_from(LOOK).map_err(io::Error::other)?;
    match poll(&mut [fd], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How a process ended that has reported nothing.
pub(super) fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("the unpacker was killed by signal {signal}"),
        None => format!("the unpacker ended with {status} and no report"),
    }
}

/// Does the work of an unpacker, if this process was started to be one; to be asked before all
/// else, while there is one thread. `None` in any other process.
#[must_use]
pub fn run_as_unpacker() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let order = arguments.next().and_then(|order| order.into_string().ok());
    let order = order.and_then(|order| serde_json::from_str(&order).ok());
    Some(order.map_or(ExitCode::from(2), |order| work::run(&order)))
}
