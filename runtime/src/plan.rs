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
mod hooks;

use prost::{Enumeration, Message, Oneof};

pub use attributes::{MemoryPolicy, Numbers, Scheduler, Window};
pub use hooks::{About, Hook, Hooks};

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
}

/// A user namespace.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UserNamespace {
    /// A new one, or another's.
    #[prost(oneof = "Users", tags = "1, 2")]
    pub users: Option<Users>,
}

/// A new user namespace, or another's.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Users {
    /// A new one, with these mappings.
    #[prost(message, tag = "1")]
    New(IdMaps),
    /// That of a process (its pidfd), or a namespace file.
    #[prost(uint32, tag = "2")]
    Of(Handle),
}

/// How the ids of a user namespace, or of an id-mapped mount, are those of the host.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IdMaps {
    /// User ids.
    #[prost(message, repeated, tag = "1")]
    pub users: Vec<IdRange>,
    /// Group ids.
    #[prost(message, repeated, tag = "2")]
    pub groups: Vec<IdRange>,
}

/// A range of ids.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct IdRange {
    /// The first, inside.
    #[prost(uint32, tag = "1")]
    pub inside: u32,
    /// The first, on the host.
    #[prost(uint32, tag = "2")]
    pub host: u32,
    /// How many.
    #[prost(uint32, tag = "3")]
    pub size: u32,
}

/// What a clock of a time namespace is ahead of the host's.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    #[prost(string, tag = "1")]
    pub clock: String,
    /// Seconds; negative is behind.
    #[prost(sint64, tag = "2")]
    pub seconds: i64,
    /// Nanoseconds on top of them.
    #[prost(uint32, tag = "3")]
    pub nanoseconds: u32,
}

/// Namespaces of a process, or one namespace, to enter with `setns(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Enter {
    /// A pidfd or an open namespace file.
    #[prost(uint32, tag = "1")]
    pub of: Handle,
    /// `CLONE_NEW*` of those to enter.
    #[prost(uint64, tag = "2")]
    pub kinds: u64,
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

/// The root file system.
#[derive(Clone, PartialEq, Message)]
pub struct Root {
    /// An existing directory to attach it at, seen by nobody else.
    #[prost(string, tag = "1")]
    pub attach: String,
    /// Whether it is made read-only once everything is mounted.
    #[prost(bool, tag = "2")]
    pub read_only: bool,
    /// Propagation of the root mount in the end (`MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, …), with
    /// `MS_REC` for all mounts below it.
    #[prost(uint64, tag = "3")]
    pub propagation: u64,
    /// Whether its owners are those of the user namespace.
    #[prost(enumeration = "RootOwners", tag = "7")]
    pub owners: i32,
    /// Whether it is moved over the host's root instead of pivoted into: for hosts whose root is
    /// the initial ramfs.
    #[prost(bool, tag = "8")]
    pub no_pivot: bool,
    /// Where it comes from.
    #[prost(oneof = "RootSource", tags = "4, 5, 6")]
    pub source: Option<RootSource>,
}

/// Whose the files of a root are, for a container with a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum RootOwners {
    /// They are as they are.
    AsFound = 0,
    /// They are the host's, and are mapped.
    Mapped = 1,
    /// They are mapped if the root itself is owned by the host's root, and its file system can.
    MappedIfForeign = 2,
}

/// Where a root file system comes from.
#[derive(Clone, PartialEq, Oneof)]
pub enum RootSource {
    /// Layers with a writable one on top.
    #[prost(message, tag = "4")]
    Overlay(Overlay),
    /// An empty tmpfs of this many bytes.
    #[prost(uint64, tag = "5")]
    Empty(u64),
    /// A directory of the host.
    #[prost(string, tag = "6")]
    Directory(String),
}

/// An overlay file system.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Overlay {
    /// Directory that `lowers` are relative to; on Linux before 6.5 all options share one page.
    #[prost(string, tag = "1")]
    pub base: String,
    /// Read-only layers, the topmost first, relative to `base`.
    #[prost(string, repeated, tag = "2")]
    pub lowers: Vec<String>,
    /// The writable layer.
    #[prost(string, tag = "3")]
    pub upper: String,
    /// Scratch space of the kernel, on the file system of `upper`.
    #[prost(string, tag = "4")]
    pub work: String,
    /// Mounts with `volatile`: unmounting never waits for dirty pages, and the upper layer is
    /// lost with a crash of the kernel.
    #[prost(bool, tag = "5")]
    pub volatile: bool,
}

/// One mount below the root.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    /// Absolute path inside of the root.
    #[prost(string, tag = "1")]
    pub destination: String,
    /// `MOUNT_ATTR_*` to set.
    #[prost(uint64, tag = "2")]
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    #[prost(uint64, tag = "3")]
    pub clear: u64,
    /// `MS_PRIVATE` and the like, one after the other, each with `MS_REC` if it reaches the mounts
    /// below; none makes it private.
    #[prost(uint64, repeated, tag = "10")]
    pub propagation: Vec<u64>,
    /// `MOUNT_ATTR_*` to set on it and on all mounts below it, after the others.
    #[prost(uint64, tag = "11")]
    pub deep_set: u64,
    /// `MOUNT_ATTR_*` to clear on it and on all mounts below it.
    #[prost(uint64, tag = "12")]
    pub deep_clear: u64,
    /// Whether the destination must not lead through a symbolic link.
    #[prost(bool, tag = "6")]
    pub no_links: bool,
    /// Whether it is made read-only only when everything in it has been made.
    #[prost(bool, tag = "13")]
    pub read_only_later: bool,
    /// Whether it starts with a copy of what it covers.
    #[prost(bool, tag = "14")]
    pub copy_up: bool,
    /// How the owners of its files are mapped.
    #[prost(message, optional, tag = "15")]
    pub owners: Option<Owners>,
    /// What is mounted.
    #[prost(oneof = "MountSource", tags = "7, 8, 9, 16, 17")]
    pub source: Option<MountSource>,
}

/// How the owners of a mount's files are mapped (`MOUNT_ATTR_IDMAP`).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Owners {
    /// With these mappings; with those of the container's user namespace if not said.
    #[prost(message, optional, tag = "1")]
    pub maps: Option<IdMaps>,
    /// Whether the mounts below are mapped as well.
    #[prost(bool, tag = "2")]
    pub recursive: bool,
}

/// What is mounted.
#[derive(Clone, PartialEq, Oneof)]
pub enum MountSource {
    /// A new instance of a file system.
    #[prost(message, tag = "7")]
    New(FileSystem),
    /// A file or directory of the host.
    #[prost(message, tag = "8")]
    Bind(Bind),
    /// A mount of another process of the pod.
    #[prost(message, tag = "9")]
    Shared(Shared),
    /// A file or directory of the root itself, as it is when the mounts before have been made.
    #[prost(message, tag = "16")]
    Inside(Bind),
    /// What is mounted there already, changed. With the options of its file system, if any.
    #[prost(message, tag = "17")]
    Again(Again),
}

/// A mount that is there already and changes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Again {
    /// `key` or `key=value`, to change its file system as well.
    #[prost(string, repeated, tag = "1")]
    pub options: Vec<String>,
}

/// A new instance of a file system.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FileSystem {
    /// For example `proc`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// What `/proc/mounts` shows as its source.
    #[prost(string, tag = "2")]
    pub source: String,
    /// `key` or `key=value`, as `fsconfig(2)` takes them.
    #[prost(string, repeated, tag = "3")]
    pub options: Vec<String>,
}

/// A file or directory of the host.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Bind {
    /// Absolute path on the host, or inside of the root.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Whether the mounts below it come along.
    #[prost(bool, tag = "2")]
    pub recursive: bool,
}

/// A mount that is in the mount namespace of another process.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Shared {
    /// A pidfd.
    #[prost(uint32, tag = "1")]
    pub of: Handle,
    /// Its path in that process's root.
    #[prost(string, tag = "2")]
    pub path: String,
}

/// A device node.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Device {
    /// Absolute path inside of the root.
    #[prost(string, tag = "1")]
    pub path: String,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`, with the permission bits.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// Major number.
    #[prost(uint32, tag = "3")]
    pub major: u32,
    /// Minor number.
    #[prost(uint32, tag = "4")]
    pub minor: u32,
    /// Owner.
    #[prost(uint32, tag = "5")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "6")]
    pub gid: u32,
}

/// A symbolic link.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Link {
    /// Absolute path inside of the root.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Where it points.
    #[prost(string, tag = "2")]
    pub target: String,
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
