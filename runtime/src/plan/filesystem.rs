//! The root, and what is mounted and made in it.

use prost::{Enumeration, Message, Oneof};

use super::{Handle, IdMaps};

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
    /// Whether the process ends in the mount namespace that it came from, with this root as a
    /// tree of its own that no mount namespace has: for a container without one.
    #[prost(bool, tag = "9")]
    pub apart: bool,
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
    /// The writable layer; empty if there is none.
    #[prost(string, tag = "3")]
    pub upper: String,
    /// Scratch space of the kernel, on the file system of `upper`.
    #[prost(string, tag = "4")]
    pub work: String,
    /// Mounts with `volatile`: unmounting never waits for dirty pages, and the upper layer is
    /// lost with a crash of the kernel.
    #[prost(bool, tag = "5")]
    pub volatile: bool,
    /// SELinux label of all that is in it; empty for those that its files have.
    #[prost(string, tag = "6")]
    pub label: String,
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
    /// Whether what its source forbids stays forbidden: it is the host's, and the container has a
    /// user namespace.
    #[prost(bool, tag = "18")]
    pub locked: bool,
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
    #[prost(oneof = "MountSource", tags = "7, 8, 9, 16, 17, 19")]
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
    /// Read-only directories of the host, one over the other: an overlay without a writable layer.
    #[prost(message, tag = "19")]
    Stack(Overlay),
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
    /// SELinux label to give to its root, if it takes none as an option; empty for none.
    #[prost(string, tag = "4")]
    pub label: String,
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
