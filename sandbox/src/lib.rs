//! Makes and unmakes the shared home of a pod: its network namespace, its pause process with
//! the other namespaces, the files that all of its containers see, and its shim.
//!
//! Knows namespaces, pause, records, the CNI runtime and the container runtime. Knows nothing
//! of images, of CRI and of what is in a network configuration.

mod audit;
mod error;
mod files;
mod netns;
pub mod network;
mod pause;
mod sandboxes;
mod spec;

pub use audit::{Stray, StrayKind};
pub use error::{Error, Step};
pub use files::Files;
pub use sandboxes::{Home, RunReport, Sandbox, Sandboxes, Settings, State};
pub use spec::{Dns, HostIds, NetworkMode, PodName, PodUsers, SandboxSpec};
