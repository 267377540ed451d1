//! The shim: one small process per pod that all processes of the pod are children of.
//!
//! It clones them, keeps their pipes and terminals, writes their logs, reaps them and records
//! how they ended. It has one thread, waits in one `epoll_wait(2)`, decodes no plan (its
//! cloned children do) and outlives berthd, to which it speaks [`crate::protocol`]. It ends by
//! itself when pause and everything else have ended.
//!
//! ```text
//!           ┌────────────── epoll ──────────────┐
//!  SIGCHLD ─┤ reap → exits/KEY → news           │
//!  socket  ─┤ connections → requests → answers  │
//!  reports ─┤ executed, or a fault → answer     │
//!  output  ─┤ lines → log                       │
//!           └───────────────────────────────────┘
//! ```

mod connections;
mod launch;
mod line;
mod output;
mod process;
mod reap;
mod report;
mod requests;
mod wiring;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use prost::Message as _;
use rustix::event::epoll;
use rustix::net::SocketFlags;

use crate::init::trial;
use crate::null::ReadOnlyNull;
use crate::protocol::{Exit, FromShim, PAUSE, Tidings};
use crate::socket;
use crate::sys::clone::SingleThreaded;
use crate::sys::fds;

use connections::Connections;

use output::Buffers;
use process::Processes;

/// Name of the socket in the shim's directory.
pub const SOCKET: &str = "shim.sock";

/// Name of the directory with the exit records, in the shim's directory.
pub const EXITS: &str = "exits";

/// What an event is about; travels through the kernel as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Signals,
    Listener,
    Connection(u32),
    Report(u32),
    Output(u32),
    Errors(u32),
}

impl Token {
    fn encode(self) -> epoll::EventData {
        let (kind, index) = match self {
            Self::Signals => (0, 0),
            Self::Listener => (1, 0),
            Self::Connection(index) => (2, index),
            Self::Report(index) => (3, index),
            Self::Output(index) => (4, index),
            Self::Errors(index) => (5, index),
        };
        epoll::EventData::new_u64(kind << 32 | u64::from(index))
    }

    fn decode(data: epoll::EventData) -> Option<Self> {
        let data = data.u64();
        let index = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        Some(match data >> 32 {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Connection(index),
            3 => Self::Report(index),
            4 => Self::Output(index),
            5 => Self::Errors(index),
            _ => return None,
        })
    }
}

/// What the shim waits for.
#[derive(Debug)]
struct Poll(OwnedFd);

impl Poll {
    fn add(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, token.encode(), epoll::EventFlags::IN)?)
    }

    fn remove(&self, fd: BorrowedFd<'_>) {
        // Closing would remove it too, unless a child still has a copy.
        let _ = epoll::delete(&self.0, fd);
    }
}

/// The whole state of the process.
#[derive(Debug)]
struct Shim {
    proof: SingleThreaded,
    directory: PathBuf,
    poll: Poll,
    signals: SignalFd,
    listener: OwnedFd,
    connections: Connections,
    processes: Processes,
    buffers: Buffers,
    /// For the streams of processes that were given none.
    null: ReadOnlyNull,
    quit: bool,
}

/// The argument with which the program only waits for the end of its standard input.
pub(crate) const HOLD: &str = "--hold";

/// The argument with which the program only [tries something](trial::map_layers), with two
/// directories.
pub(crate) const TRY_MAPPING: &str = "--try-mapping";

/// Runs a shim whose control connection is standard input, in the directory that is its first
/// argument; returns when it has nothing left to do.
pub fn run(mut args: impl Iterator<Item = OsString>) -> io::Result<()> {
    let directory = args.nth(1).ok_or_else(|| io::Error::other("usage: berth-shim DIRECTORY"))?;
    if directory == HOLD {
        return io::copy(&mut io::stdin(), &mut io::sink()).map(drop);
    }
    if directory == TRY_MAPPING {
        let mut directory = || args.next().map(PathBuf::from).unwrap_or_default();
        return trial::map_layers(&directory(), &directory())
            .map_err(|fault| io::Error::other(format!("{}: {}", fault.attempt, fault.error)));
    }
    let control = fds::take_stdin()?;
    let mut shim = Shim::new(directory.into())?;
    shim.connect(control);
    while !shim.is_done() {
        shim.wait()?;
    }
    Ok(())
}

impl Shim {
    fn new(directory: PathBuf) -> io::Result<Self> {
        rustix::process::setsid()?;
        rustix::process::chdir("/")?;
        rustix::process::umask(rustix::fs::Mode::empty());
        rustix::thread::set_name(c"berth-shim")?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        keep_from_oom_killer();
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let listener = socket::listen_in(&directory, SOCKET, SocketFlags::NONBLOCK)?;
        let poll = Poll(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        poll.add(signals.as_fd(), Token::Signals)?;
        poll.add(listener.as_fd(), Token::Listener)?;
        Ok(Self {
            proof: SingleThreaded::check()?,
            directory,
            poll,
            signals,
            listener,
            connections: Connections::default(),
            processes: Processes::default(),
            buffers: Buffers::default(),
            null: ReadOnlyNull::open()?,
            quit: false,
        })
    }

    /// Handles one batch of events.
    fn wait(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(16);
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.poll.0, spare, None) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            waited => waited?,
        };
        for event in events {
            match Token::decode(event.data) {
                Some(Token::Signals) => self.reap(),
                Some(Token::Listener) => self.accept(),
                Some(Token::Connection(index)) => self.serve(index),
                Some(Token::Report(slot)) => self.read_report(slot),
                Some(Token::Output(slot)) => self.pump(slot, process::Which::Output),
                Some(Token::Errors(slot)) => self.pump(slot, process::Which::Errors),
                None => {}
            }
        }
        Ok(())
    }

    /// Nothing runs, and nobody can want anything to run.
    fn is_done(&self) -> bool {
        if self.processes.any_alive() {
            return false;
        }
        let pause_is_over = match self.processes.find(PAUSE) {
            Some(pause) => pause.has_ended(),
            // Not started yet: whoever wants that holds a connection.
            None => self.connections.is_empty(),
        };
        self.quit || pause_is_over
    }

    /// Records how a process ended and tells everyone.
    fn publish(&mut self, exit: Exit) {
        // If the record cannot be written there are still the connections, and the other way
        // round; if both fail, berthd finds the cgroup empty and says that it does not know.
        if let Err(error) = write_record(&self.directory, &exit) {
            complain(&format!("record the exit of {}: {error}", exit.key));
        }
        self.connections.tell_all(&FromShim { number: 0, tidings: Some(Tidings::Exit(exit)) });
    }

    fn pump(&mut self, slot: u32, which: process::Which) {
        let Some(process) = self.processes.get_mut(slot) else {
            return;
        };
        if process.pump(which, &mut self.buffers) == output::Rest::Ended {
            if let Some(source) = process.close(which) {
                self.poll.remove(source.as_fd());
            }
            self.processes.forget_if_over(slot);
        }
    }
}

/// An exit record appears whole or not at all.
fn write_record(directory: &Path, exit: &Exit) -> io::Result<()> {
    let exits = directory.join(EXITS);
    let (path, temporary) = (exits.join(&exit.key), exits.join(format!(".{}", exit.key)));
    let mut options = File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    options.open(&temporary)?.write_all(&exit.encode_to_vec())?;
    std::fs::rename(temporary, path)
}

/// A shim that the kernel kills under memory pressure takes the output of a whole pod with it.
/// Without `CAP_SYS_RESOURCE` it keeps the score of berthd, which is low already.
fn keep_from_oom_killer() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-998");
}

/// Says something on standard error, which is a file in the shim's directory.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
