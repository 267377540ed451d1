//! What the kernel keeps of a process besides its ids: scheduling, I/O priority, processors,
//! memory policy, and the window of its terminal.

use prost::Message;

/// Scheduling attributes, as `sched_setattr(2)` takes them.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Scheduler {
    /// `SCHED_*`.
    #[prost(uint32, tag = "1")]
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    #[prost(uint64, tag = "2")]
    pub flags: u64,
    /// Nice value, from -20 to 19.
    #[prost(sint32, tag = "3")]
    pub nice: i32,
    /// Static priority of the real-time policies, from 1 to 99.
    #[prost(uint32, tag = "4")]
    pub priority: u32,
    /// Nanoseconds of a period that a deadline task may run for.
    #[prost(uint64, tag = "5")]
    pub runtime: u64,
    /// Nanoseconds from a period's begin within which that has to be done.
    #[prost(uint64, tag = "6")]
    pub deadline: u64,
    /// Length of a period in nanoseconds; 0 is that of the deadline.
    #[prost(uint64, tag = "7")]
    pub period: u64,
}

/// A set of processors or of memory nodes: bit `i` of word `j` stands for number `64 * j + i`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Numbers {
    /// The words; none at all stands for every number.
    #[prost(uint64, repeated, tag = "1")]
    pub words: Vec<u64>,
}

/// Where memory is taken from (`set_mempolicy(2)`).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MemoryPolicy {
    /// `MPOL_*` with its flags.
    #[prost(uint32, tag = "1")]
    pub mode: u32,
    /// Nodes.
    #[prost(message, required, tag = "2")]
    pub nodes: Numbers,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Window {
    /// Height.
    #[prost(uint32, tag = "1")]
    pub rows: u32,
    /// Width.
    #[prost(uint32, tag = "2")]
    pub columns: u32,
}
