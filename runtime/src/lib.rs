//! Runs processes as an OCI specification says, and tells how they ended.
//!
//! Two programs are made of this crate. In berthd it computes plans, keeps records, writes
//! cgroups and talks to shims; as `berth-shim` it is the small process that executes plans and
//! is the parent of a pod's processes. It knows nothing of images, pods, CNI or CRI.

mod affinity;
pub mod apparmor;
pub mod cgroup;
pub mod client;
mod clock;
pub mod containers;
mod error;
pub mod foreign;
pub mod hooks;
pub mod host;
mod init;
pub mod launcher;
pub mod netdevices;
mod newborn;
mod null;
pub mod oci;
pub mod plan;
pub mod protocol;
pub mod rdt;
pub mod record;
pub mod seccomp;
pub mod shim;
mod socket;
pub mod spec;
mod sys;

pub use error::{Error, RefusedLimit, StartFault};
pub use sys::fds::keep_inheritance_to_ourselves;
