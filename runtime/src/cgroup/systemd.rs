//! Cgroups that systemd knows of.
//!
//! Where systemd is the first process, the upper part of the hierarchy is its own: a cgroup that
//! it does not know of loses its controllers at the next `daemon-reload`. So a pod, or a
//! container of the command line, is a *scope*: a unit whose cgroup is delegated
//! (`Delegate=yes`), below which systemd touches nothing. Slices cannot be delegated.
//!
//! ```text
//! kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice   the kubelet's
//!   cri-berth-SANDBOX.scope                                               one unit for each pod
//!     SANDBOX  CONTAINER  CONTAINER/exec-1                                made here, as ever
//! ```
//!
//! A scope begins with a process, and is gone as soon as there is none in and below it. Ours are
//! cloned where they belong and never moved; so a helper, which does nothing, is moved in
//! instead and ends once another process lives below.

mod bus;
mod properties;
mod unit;

pub use bus::Systemd;
pub use properties::{Property, Value, of_limits, of_pod};
pub use unit::{Unit, slice_path};
