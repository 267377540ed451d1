//! What the shim's clone is to do for a foreign runtime, as data.

use prost::Message;

use crate::plan::{Handle, Root, Shared};

/// Has a foreign runtime make a process; takes the place of a [`crate::plan::Plan`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Errand {
    /// The root file system, attached in the bundle; absent for a process that is added to a
    /// container, which needs no mounts.
    #[prost(message, optional, tag = "1")]
    pub(crate) root: Option<Root>,
    /// The mount point that the bundle is on. It takes no part in propagation any more: what is
    /// mounted in the bundle must not appear on the host.
    #[prost(string, tag = "2")]
    pub(crate) cut_off: String,
    /// Namespaces of the pod, bound to files of the bundle.
    #[prost(message, repeated, tag = "3")]
    pub(crate) pins: Vec<Pin>,
    /// Mounts of the pod, attached to directories of the bundle.
    #[prost(message, repeated, tag = "4")]
    pub(crate) shares: Vec<Share>,
    /// The command that makes the process: program and arguments.
    #[prost(string, repeated, tag = "5")]
    pub(crate) create: Vec<String>,
    /// The command that starts what was made; empty if it runs by then.
    #[prost(string, repeated, tag = "6")]
    pub(crate) start: Vec<String>,
    /// The file that `create` writes the process's PID to.
    #[prost(string, tag = "7")]
    pub(crate) pid_file: String,
    /// The socket to which `create` sends the master of a terminal; empty if there is none.
    #[prost(string, tag = "8")]
    pub(crate) console: String,
}

/// A namespace of a process, by a path that only the errand and its children see.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Pin {
    /// A pidfd.
    #[prost(uint32, tag = "1")]
    pub(crate) of: Handle,
    /// Its name in `/proc/PID/ns`.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// An existing file.
    #[prost(string, tag = "3")]
    pub(crate) at: String,
}

/// A mount of another process, likewise.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Share {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub(crate) what: Option<Shared>,
    /// An existing directory.
    #[prost(string, tag = "2")]
    pub(crate) at: String,
}
