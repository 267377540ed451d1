//! What berthd and a shim say to each other.
//!
//! The wire is a unix seqpacket socket: a packet is one [`ToShim`] or one [`FromShim`], encoded
//! as protobuf, with descriptors as `SCM_RIGHTS`. A shim listens on `shim.sock` in its
//! directory and has its first connection as descriptor 0; it answers each request once, under
//! the request's number, in any order, and tells every connection of every exit.
//!
//! ```text
//! berthd                         shim
//!   │ Hello ─────────────────────►│  (after a restart: what runs, what has ended)
//!   │◄──────────────────── Greeting
//!   │ Start + plan, cgroup, log ─►│  clones, the child executes the plan
//!   │◄──────── Started | Failure  │  once execve has succeeded or a step has failed
//!   │ Attend ────────────────────►│  (after a restart: to a start that is still under way)
//!   │◄──────── Started | Failure  │
//!   │ Signal, Reopen, Forget ────►│
//!   │◄─────────────────────── Done
//!   │◄─────────────────────── Exit │  at any time
//! ```
//!
//! An exit is written to `exits/KEY` in the shim's directory (as an encoded [`Exit`]) before it
//! is told, so that it outlives both processes.

use prost::{Enumeration, Message, Oneof};

use crate::plan::Handle;

/// Version of the protocol. Both sides say theirs; a change that the other side could not
/// ignore makes a new one.
pub const VERSION: u32 = 1;

/// Largest packet. What does not fit (a plan) goes into a memory file.
pub const MAX_PACKET: usize = 32 * 1024;

/// Largest number of descriptors in a packet.
pub const MAX_DESCRIPTORS: usize = 16;

/// Key of the process that holds a pod's namespaces.
pub const PAUSE: &str = "pause";

/// A request.
#[derive(Clone, PartialEq, Message)]
pub struct ToShim {
    /// Chosen by the sender, repeated in the answer.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// What is asked for.
    #[prost(oneof = "Request", tags = "2, 3, 4, 5, 6, 7, 8")]
    pub request: Option<Request>,
}

/// What is asked for.
#[derive(Clone, PartialEq, Oneof)]
pub enum Request {
    /// Who are you, and what runs? The sender's protocol version.
    #[prost(uint32, tag = "2")]
    Hello(u32),
    /// Make a process.
    #[prost(message, tag = "3")]
    Start(Start),
    /// Send a signal to a process.
    #[prost(message, tag = "4")]
    Signal(Signal),
    /// Go on writing the log of this process to the descriptor of the packet.
    #[prost(string, tag = "5")]
    Reopen(String),
    /// Drop what is known of this ended process.
    #[prost(string, tag = "6")]
    Forget(String),
    /// End, if nothing runs any more.
    #[prost(bool, tag = "7")]
    Quit(bool),
    /// Answer this one, and nobody else, what becomes of the start of this process.
    #[prost(string, tag = "8")]
    Attend(String),
}

/// A process to make.
#[derive(Clone, PartialEq, Message)]
pub struct Start {
    /// Unique in the pod: [`PAUSE`], a container's id, or a container's id and an exec's.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The memory file with the encoded [`crate::plan::Plan`].
    #[prost(uint32, tag = "2")]
    pub plan: Handle,
    /// Directory of the cgroup to be born in.
    #[prost(uint32, tag = "3")]
    pub cgroup: Handle,
    /// Processes of the pod whose pidfds come before the passed descriptors among the handles.
    #[prost(string, repeated, tag = "4")]
    pub members: Vec<String>,
    /// Which PID namespace it is born in.
    #[prost(oneof = "PidNamespace", tags = "5, 6, 7")]
    pub pid_namespace: Option<PidNamespace>,
    /// Its standard streams.
    #[prost(oneof = "Streams", tags = "8, 9, 10")]
    pub streams: Option<Streams>,
    /// Whether the memory file holds a [`crate::foreign`] errand instead of a plan: another
    /// runtime makes the process, in the cgroup above.
    #[prost(bool, tag = "14")]
    pub foreign: bool,
}

/// Which PID namespace a process is born in; the shim's own if not said.
#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub enum PidNamespace {
    /// A new one.
    #[prost(bool, tag = "5")]
    New(bool),
    /// That of the process or the namespace file behind this handle.
    #[prost(uint32, tag = "6")]
    Of(Handle),
    /// The shim's own.
    #[prost(bool, tag = "7")]
    Host(bool),
}

/// Standard streams; `/dev/null` if not said.
#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub enum Streams {
    /// Output goes to a log that the shim writes.
    #[prost(message, tag = "8")]
    Log(LogStreams),
    /// Streams made by the sender.
    #[prost(message, tag = "9")]
    Given(GivenStreams),
    /// All three are `/dev/null`.
    #[prost(bool, tag = "10")]
    Null(bool),
}

/// Output goes to a log in the CRI format.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LogStreams {
    /// The log file, open for appending; absent if output is read and dropped.
    #[prost(uint32, optional, tag = "1")]
    pub file: Option<Handle>,
    /// Bytes after which a line is cut into partial ones.
    #[prost(uint32, tag = "2")]
    pub max_line: u32,
    /// Whether standard input is a pipe that stays open, instead of `/dev/null`.
    #[prost(bool, tag = "3")]
    pub stdin: bool,
    /// Whether the process opens a terminal, which then takes the place of pipes.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

/// Streams made by the sender, `/dev/null` where absent.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct GivenStreams {
    /// Standard input.
    #[prost(uint32, optional, tag = "1")]
    pub stdin: Option<Handle>,
    /// Standard output.
    #[prost(uint32, optional, tag = "2")]
    pub stdout: Option<Handle>,
    /// Standard error.
    #[prost(uint32, optional, tag = "3")]
    pub stderr: Option<Handle>,
}

/// A signal to send.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Signal {
    /// Which process.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Number of the signal.
    #[prost(int32, tag = "2")]
    pub signal: i32,
}

/// An answer, or news.
#[derive(Clone, PartialEq, Message)]
pub struct FromShim {
    /// Number of the request that is answered; 0 for news.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// What is told.
    #[prost(oneof = "Tidings", tags = "2, 3, 4, 5, 6")]
    pub tidings: Option<Tidings>,
}

/// What is told.
#[derive(Clone, PartialEq, Oneof)]
pub enum Tidings {
    /// Answer to `Hello`.
    #[prost(message, tag = "2")]
    Greeting(Greeting),
    /// The program runs. Its pidfd is the packet's descriptor.
    #[prost(message, tag = "3")]
    Started(Started),
    /// The request was understood and carried out.
    #[prost(bool, tag = "4")]
    Done(bool),
    /// The request failed.
    #[prost(message, tag = "5")]
    Failure(Failure),
    /// A process has ended.
    #[prost(message, tag = "6")]
    Exit(Exit),
}

/// What a shim is and has.
#[derive(Clone, PartialEq, Message)]
pub struct Greeting {
    /// Protocol version of the shim.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Its PID.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// Its processes that run.
    #[prost(message, repeated, tag = "3")]
    pub running: Vec<Started>,
    /// Keys of those that are being started.
    #[prost(string, repeated, tag = "4")]
    pub starting: Vec<String>,
}

/// A process that runs.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Started {
    /// Its key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its PID in the shim's PID namespace.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// When its program was executed, in nanoseconds since the epoch.
    #[prost(int64, tag = "3")]
    pub at: i64,
}

/// How a process ended.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Exit {
    /// Its key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Exit code; 128 plus the signal if a signal ended it.
    #[prost(int32, tag = "2")]
    pub code: i32,
    /// The signal that ended it, or 0.
    #[prost(int32, tag = "3")]
    pub signal: i32,
    /// Processes of its cgroup that the OOM killer had killed by then.
    #[prost(uint64, tag = "4")]
    pub oom_kills: u64,
    /// When it ended, in nanoseconds since the epoch.
    #[prost(int64, tag = "5")]
    pub at: i64,
    /// Its PID, which may belong to another by now.
    #[prost(int32, tag = "6")]
    pub pid: i32,
    /// When its program was executed, in nanoseconds since the epoch.
    #[prost(int64, tag = "7")]
    pub started_at: i64,
    /// If it was killed: how far above its cgroup the one is whose limit of memory was reached
    /// since it was started, 0 being its own; absent if none was.
    #[prost(uint32, optional, tag = "8")]
    pub oom_level: Option<u32>,
}

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Failure {
    /// Where.
    #[prost(enumeration = "Step", tag = "1")]
    pub step: i32,
    /// What was attempted, on what.
    #[prost(string, tag = "2")]
    pub attempt: String,
    /// The kernel's answer (`errno`), or 0.
    #[prost(int32, tag = "3")]
    pub errno: i32,
}

/// Where a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Step {
    /// The request itself makes no sense.
    Request = 0,
    /// Cloning the child.
    Clone = 1,
    /// Entering or making namespaces.
    Namespaces = 2,
    /// Host name and kernel parameters.
    Kernel = 3,
    /// The root file system.
    Root = 4,
    /// A mount.
    Mount = 5,
    /// A device node.
    Device = 6,
    /// Streams and terminals.
    Streams = 7,
    /// Users, groups, capabilities, limits.
    Identity = 8,
    /// The working directory.
    WorkingDirectory = 9,
    /// Executing the command.
    Command = 10,
    /// The filter of system calls.
    Seccomp = 11,
    /// A hook.
    Hook = 12,
    /// AppArmor and SELinux.
    Label = 13,
    /// Having a foreign runtime make the process.
    Runtime = 30,
}
