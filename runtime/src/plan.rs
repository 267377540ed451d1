//! What a new process is to become, as data.
//!
//! berthd computes a [`Plan`] from an OCI specification (see [`crate::spec`]) or, for a pod's
//! pause process, by hand. It travels to the shim in a memory file and is decoded and executed
//! by the cloned child itself ([`crate::shim`]), so that the shim never grows with it.
//!
//! The encoding is protobuf: a shim and a berthd of neighbouring versions understand each
//! other, because unknown fields are skipped and absent ones have their zero value. A field's
//! tag is never used again for something else.
//!
//! A [`Handle`] is an index into the descriptors that came with the request: first the
//! processes of the pod that it names as members, then those passed over the socket.

mod attributes;
mod filesystem;
mod hooks;
mod namespaces;

use prost::{Enumeration, Message};

pub use attributes::{MemoryPolicy, Numbers, Scheduler, Window};
pub use filesystem::{
    Again, Bind, Device, FileSystem, Link, Mount, MountSource, Overlay, Owners, Root, RootOwners,
    RootSource, Shared,
};
pub use hooks::{About, Hook, Hooks};
pub use namespaces::{Enter, IdMaps, IdRange, TimeOffset, UserNamespace, Users};

/// Index of a descriptor that accompanies the plan.
pub type Handle = u32;

/// Everything that a child does between its clone and its `execve`, in the order of the fields.
#[derive(Clone, PartialEq, Message)]
pub struct Plan {
    /// Namespaces of others to enter.
    #[prost(message, repeated, tag = "1")]
    pub enter: Vec<Enter>,
    /// Namespaces to make anew (`CLONE_NEW*`); a new PID namespace is made by the clone.
    #[prost(uint64, tag = "2")]
    pub unshare: u64,
    /// Host name to set in the UTS namespace; empty leaves it.
    #[prost(string, tag = "3")]
    pub hostname: String,
    /// Kernel parameters to write, in the namespaces that the process is in by then.
    #[prost(message, repeated, tag = "4")]
    pub sysctls: Vec<Sysctl>,
    /// The root file system; absent for a process that enters a mount namespace.
    #[prost(message, optional, tag = "5")]
    pub root: Option<Root>,
    /// What is mounted into the root, in order.
    #[prost(message, repeated, tag = "6")]
    pub mounts: Vec<Mount>,
    /// Device nodes to make below the root.
    #[prost(message, repeated, tag = "7")]
    pub devices: Vec<Device>,
    /// Symbolic links to make below the root, where nothing is yet.
    #[prost(message, repeated, tag = "8")]
    pub links: Vec<Link>,
    /// Paths that read as empty.
    #[prost(string, repeated, tag = "9")]
    pub masked: Vec<String>,
    /// Paths that cannot be written to.
    #[prost(string, repeated, tag = "10")]
    pub read_only: Vec<String>,
    /// Who the process is and what it runs.
    #[prost(message, optional, tag = "11")]
    pub process: Option<Process>,
    /// The listening socket at which it waits to be started, when all else is done.
    #[prost(uint32, optional, tag = "12")]
    pub gate: Option<Handle>,
    /// Whether the parent is told when namespaces and root are made, and waited for.
    #[prost(bool, tag = "13")]
    pub announce: bool,
    /// The user namespace that it lives in, and that owns its other new namespaces; the
    /// parent's if not said.
    #[prost(message, optional, tag = "20")]
    pub user: Option<UserNamespace>,
    /// `CLONE_NEW*` of a second clone, in which the child that the parent made replaces itself
    /// by a sibling. A PID namespace that belongs to a user namespace, and a time namespace, can
    /// only be entered by birth.
    #[prost(uint64, optional, tag = "21")]
    pub rebirth: Option<u64>,
    /// What the clocks of a new time namespace are ahead of the host's.
    #[prost(message, repeated, tag = "22")]
    pub time_offsets: Vec<TimeOffset>,
    /// Hooks to run in the container's namespaces.
    #[prost(message, optional, tag = "30")]
    pub hooks: Option<Hooks>,
    /// SELinux label of new file systems, which is among their options too; empty for none.
    #[prost(string, tag = "31")]
    pub mount_label: String,
    /// NIS domain name to set in the UTS namespace; empty leaves it.
    #[prost(string, tag = "32")]
    pub domainname: String,
    /// The directory that becomes its root, for a process that is added to a container without a
    /// mount namespace.
    #[prost(uint32, optional, tag = "33")]
    pub shared_root: Option<Handle>,
}

/// A kernel parameter, by its path below `/proc/sys`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Sysctl {
    /// For example `net/ipv4/ip_unprivileged_port_start`.
    #[prost(string, tag = "1")]
    pub path: String,
    /// What to write.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Who the process is and what it runs.
#[derive(Clone, PartialEq, Message)]
pub struct Process {
    /// Program and arguments. A program without a slash is searched in `PATH` of `env`.
    #[prost(string, repeated, tag = "1")]
    pub args: Vec<String>,
    /// `NAME=value`; the value may be any bytes but NUL.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub env: Vec<Vec<u8>>,
    /// Working directory, made if it is missing.
    #[prost(string, tag = "3")]
    pub cwd: String,
    /// User.
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "5")]
    pub gid: u32,
    /// Supplementary groups.
    #[prost(uint32, repeated, tag = "6")]
    pub groups: Vec<u32>,
    /// File mode creation mask.
    #[prost(uint32, tag = "7")]
    pub umask: u32,
    /// Capability sets.
    #[prost(message, optional, tag = "8")]
    pub capabilities: Option<Capabilities>,
    /// `PR_SET_NO_NEW_PRIVS`.
    #[prost(bool, tag = "9")]
    pub no_new_privileges: bool,
    /// Resource limits.
    #[prost(message, repeated, tag = "10")]
    pub limits: Vec<Limit>,
    /// `/proc/self/oom_score_adj`.
    #[prost(sint32, optional, tag = "11")]
    pub oom_score_adj: Option<i32>,
    /// Whether a kernel that refuses to lower `oom_score_adj` is put up with.
    #[prost(bool, tag = "12")]
    pub oom_score_adj_best_effort: bool,
    /// Whether the standard streams are a new pseudo terminal, its master sent to the shim.
    #[prost(bool, tag = "13")]
    pub terminal: bool,
    /// What is executed.
    #[prost(enumeration = "Program", tag = "14")]
    pub program: i32,
    /// Which system calls it may make.
    #[prost(message, optional, tag = "15")]
    pub seccomp: Option<Seccomp>,
    /// How many descriptors from 3 on are the program's.
    #[prost(uint32, tag = "30")]
    pub preserve_fds: u32,
    /// Name of the session keyring that it joins, made if there is none; empty leaves it in
    /// that of its parent.
    #[prost(string, tag = "31")]
    pub keyring: String,
    /// Whether its terminal passes on line ends as they are written, for a reader that is no
    /// terminal or has one of its own.
    #[prost(bool, tag = "32")]
    pub plain_lines: bool,
    /// Scheduling; as inherited if absent.
    #[prost(message, optional, tag = "16")]
    pub scheduler: Option<Scheduler>,
    /// Class and level of its I/O, as `ioprio_set(2)` takes them; as inherited if absent.
    #[prost(uint32, optional, tag = "17")]
    pub io_priority: Option<u32>,
    /// Processors that it may run on, within those of its cgroup; as inherited if absent.
    #[prost(message, optional, tag = "18")]
    pub cpus: Option<Numbers>,
    /// Execution domain (`personality(2)`); as inherited if absent.
    #[prost(uint32, optional, tag = "19")]
    pub personality: Option<u32>,
    /// Where its memory is taken from; as inherited if absent.
    #[prost(message, optional, tag = "20")]
    pub memory_policy: Option<MemoryPolicy>,
    /// AppArmor profile that the program runs under; empty for none of its own.
    #[prost(string, tag = "21")]
    pub apparmor_profile: String,
    /// SELinux label that the program runs with; empty for none of its own.
    #[prost(string, tag = "22")]
    pub selinux_label: String,
    /// Size of its terminal; the kernel's if absent.
    #[prost(message, optional, tag = "23")]
    pub window: Option<Window>,
}

/// A filter of system calls.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Seccomp {
    /// Instructions of classic BPF (`struct sock_filter`), one after the other.
    #[prost(bytes = "vec", tag = "1")]
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    #[prost(uint64, tag = "2")]
    pub flags: u64,
    /// Who gets the descriptor that notifications come by.
    #[prost(message, optional, tag = "3")]
    pub agent: Option<SeccompAgent>,
}

/// A process of the host that decides on system calls.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SeccompAgent {
    /// Absolute path of the stream socket that it listens on.
    #[prost(string, tag = "1")]
    pub path: String,
    /// What it is told, as JSON, cut where the PID of the process belongs.
    #[prost(string, repeated, tag = "2")]
    pub state: Vec<String>,
}

/// What is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Program {
    /// What `args` says.
    Command = 0,
    /// The built-in pause program.
    Pause = 1,
}

/// Capability sets, a bit each (`1 << CAP_*`).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Capabilities {
    /// Upper bound of what `execve` can grant.
    #[prost(uint64, tag = "1")]
    pub bounding: u64,
    /// In force.
    #[prost(uint64, tag = "2")]
    pub effective: u64,
    /// Can be made effective.
    #[prost(uint64, tag = "3")]
    pub permitted: u64,
    /// Kept across `execve` of a file with inheritable capabilities.
    #[prost(uint64, tag = "4")]
    pub inheritable: u64,
    /// Kept across `execve` of an ordinary file.
    #[prost(uint64, tag = "5")]
    pub ambient: u64,
}

/// A resource limit (`setrlimit(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Limit {
    /// `RLIMIT_*`.
    #[prost(uint32, tag = "1")]
    pub resource: u32,
    /// Soft limit; `u64::MAX` is infinity.
    #[prost(uint64, tag = "2")]
    pub soft: u64,
    /// Hard limit; `u64::MAX` is infinity.
    #[prost(uint64, tag = "3")]
    pub hard: u64,
}
