//! The node as the handlers of the sockets see it: everything that a request
//! may read or ask for, in one place.
//!
//! Handlers are functions of a [`Node`] and a request; what a library offers
//! to them becomes a field here.

mod apparmor;
mod background;
mod containers;
mod handlers;
mod ids;
mod open;
mod origin;
mod usage;

use std::time::SystemTime;

use berth_imageservice::Images;
use berth_metrics::Metrics;
use berth_runtime::cgroup::Hierarchy;
use berth_runtime::containers::Containers;
use berth_sandbox::Sandboxes;
use tokio_util::sync::CancellationToken;

use crate::config::Loaded;
use crate::ops::Ops;

pub use containers::{Remover, snapshot_key};
pub use handlers::{Handler, Handlers};
pub use ids::{Making, new_id, now};
pub use origin::{ContainerOrigin, SandboxOrigin};
pub use usage::CpuSamples;

use background::Background;

/// What handlers work with.
#[derive(Debug)]
pub struct Node {
    /// The configuration, and where it came from.
    pub loaded: Loaded,
    /// The work that requests asked for.
    pub ops: Ops,
    /// The numbers.
    pub metrics: Metrics,
    /// When this daemon started.
    pub started_at: SystemTime,
    /// Fires when it is told to stop: a stream that has no end ends then.
    pub stopping: CancellationToken,
    /// The cgroups of this host.
    pub hierarchy: Hierarchy,
    /// The images of this node.
    pub images: Images,
    /// The pods of this node.
    pub sandboxes: Sandboxes,
    /// The runtimes that pods may ask for.
    pub handlers: Handlers,
    /// The containers of this node.
    pub containers: Containers,
    /// The AppArmor profile that they get by default.
    pub apparmor: berth_runtime::apparmor::Default,
    /// Ids of objects that are being made: the audit leaves them alone.
    pub making: Making,
    /// Earlier looks at the CPU time of containers.
    pub cpu_samples: CpuSamples,
    /// The host's name, for pods that bring none.
    pub hostname: String,
    background: Background,
}
