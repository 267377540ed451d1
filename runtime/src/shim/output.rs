//! Output of a process on its way into the log.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::clock::{Clock, now};
use crate::protocol::MAX_PACKET;

use super::line::{Lines, Stream};

/// Bytes that are read at once, and about the bytes that are written at once.
const BATCH: usize = 64 * 1024;

/// Buffers of the shim: nothing stays in them between two events.
///
/// They are made once and large, and cost only as much memory as was ever used of them.
#[derive(Debug)]
pub(super) struct Buffers {
    /// For packets that arrive.
    pub(super) packet: Vec<u8>,
    input: Vec<u8>,
    log: Vec<u8>,
    clock: Clock,
}

impl Default for Buffers {
    fn default() -> Self {
        let (input, log) = (Vec::new(), Vec::new());
        Self { packet: vec![0; MAX_PACKET], input, log, clock: Clock::default() }
    }
}

/// What is left of a stream after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// More may come now.
    More,
    /// Nothing for the moment.
    Dry,
    /// Nothing for ever.
    Ended,
}

/// One stream that is read into a log.
#[derive(Debug)]
pub(super) struct Source {
    fd: OwnedFd,
    lines: Lines,
}

impl Source {
    /// Reads `fd`, which must be non-blocking, as `stream`.
    pub(super) fn new(fd: OwnedFd, stream: Stream, limit: u32, terminal: bool) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { fd, lines: Lines::new(stream, limit, terminal) }
    }

    /// Reads once and logs what came.
    pub(super) fn pump(&mut self, log: &mut Log, buffers: &mut Buffers) -> Rest {
        buffers.input.clear();
        buffers.input.reserve(BATCH);
        buffers.clock.set(now());
        let spare = rustix::buffer::spare_capacity(&mut buffers.input);
        match rustix::io::read(&self.fd, spare) {
            Err(Errno::AGAIN | Errno::INTR) => return Rest::Dry,
            // A terminal whose last user is gone answers EIO: that is its end.
            Ok(0) | Err(_) => {
                self.lines.end(&mut buffers.clock, &mut buffers.log);
                log.flush(&mut buffers.log);
                return Rest::Ended;
            }
            Ok(_) => {}
        }
        // Short lines grow by their headers, so the log is flushed piece by piece.
        for piece in buffers.input.chunks(BATCH / 64) {
            self.lines.push(piece, &mut buffers.clock, &mut buffers.log);
            if buffers.log.len() >= BATCH {
                log.flush(&mut buffers.log);
            }
        }
        log.flush(&mut buffers.log);
        Rest::More
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A log file, or the lack of one.
///
/// A log that cannot be written to (a full disk) loses lines rather than block its container;
/// how much was lost is said in the log as soon as it can be written to again.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<OwnedFd>,
    lost: u64,
    /// Whether the file ends in the middle of a line.
    torn: bool,
}

impl Log {
    /// Appends to `file`; without one, output is dropped.
    pub(super) fn new(file: Option<OwnedFd>) -> Self {
        Self { file, lost: 0, torn: false }
    }

    /// Goes on in another file. Called between two events, so between two lines.
    pub(super) fn reopen(&mut self, file: OwnedFd) {
        self.file = Some(file);
        self.torn = false;
    }

    /// Writes whole lines, after saying what was lost before, and empties `lines`.
    fn flush(&mut self, lines: &mut Vec<u8>) {
        if let Some(file) = &self.file {
            if self.lost > 0 {
                let notice = notice(self.lost, self.torn);
                let appended = append(file, &notice);
                self.torn = appended.torn || self.torn && appended.kept == 0;
                if appended.kept == notice.len() {
                    self.lost = 0;
                }
            }
            // In their order, or not at all.
            if self.lost > 0 {
                self.lost += lines.len() as u64;
            } else {
                let appended = append(file, lines);
                self.torn = appended.torn;
                self.lost = (lines.len() - appended.kept) as u64;
            }
        }
        lines.clear();
    }
}

fn notice(lost: u64, torn: bool) -> Vec<u8> {
    let mut notice = if torn { b"\n".to_vec() } else { Vec::new() };
    let mut clock = Clock::default();
    clock.set(now());
    let text = format!("[berth: {lost} bytes of log lost, could not write]\n");
    Lines::new(Stream::Stderr, BATCH, false).push(text.as_bytes(), &mut clock, &mut notice);
    notice
}

/// What became of lines that were to be appended.
struct Appended {
    /// How many bytes of them are in the file.
    kept: usize,
    /// Whether the beginning of another line is there as well.
    torn: bool,
}

/// Appends lines. The beginning of a line that did not fit is taken back: a reader could make
/// nothing of it.
fn append(file: &OwnedFd, lines: &[u8]) -> Appended {
    let Err(written) = write_all(file, lines) else {
        return Appended { kept: lines.len(), torn: false };
    };
    let kept = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Appended { kept, torn: written > kept && take_back(file, written - kept).is_err() }
}

fn take_back(file: &OwnedFd, count: usize) -> io::Result<()> {
    let size = u64::try_from(rustix::fs::fstat(file)?.st_size).map_err(io::Error::other)?;
    Ok(rustix::fs::ftruncate(file, size.saturating_sub(count as u64))?)
}

fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::retry_on_intr(|| rustix::io::write(file, &bytes[written..])) {
            Ok(count) if count > 0 => written += count,
            _ => return Err(written),
        }
    }
    Ok(())
}

/// A pipe whose read end is the shim's (non-blocking) and whose write end is the container's.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    set_nonblocking(read.as_fd())?;
    Ok((read, write))
}

/// Makes reads from `fd` return rather than wait.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}
