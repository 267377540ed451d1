//! Speaks the CNI specification to network plugins: finds the network of a
//! node, attaches containers to it, detaches them, and knows what is owed.
//!
//! ```text
//!  conf dirs ─► load ─► watch ─► status(), network()
//!                                     │
//!            attachment ─► add(), del() ─► request (data) ─► exec (process)
//!                             │    │              ▲
//!                            cache ┘           result
//!                             └─► owed(), audit()
//! ```
//!
//! Versions 0.3.0 to 1.1.0 of the specification are spoken. Records of
//! attachments are libcni's, so that `cnitool` and other runtimes can undo what
//! was done here. The crate knows nothing of pods beyond the arguments that
//! plugins take, and creates no namespace: the caller names one by its path.
//!
//! Operations on one container must not overlap; the caller sees to that.
//! Operations on different containers run side by side, up to a limit.

mod add;
mod attachment;
mod audit;
mod cache;
mod capability;
mod cidr;
mod cni;
mod del;
mod error;
mod exec;
mod leftover;
mod load;
mod name;
mod netlink;
mod network;
mod owed;
mod request;
mod result;
mod version;
mod watch;

pub use attachment::Attachment;
pub use audit::Stray;
pub use capability::{Bandwidth, Capabilities, IpRange, PortMapping, Protocol, Resolver};
pub use cidr::Cidr;
pub use cni::{Cni, Settings};
pub use error::{Call, Error, Fault, NotReadyReason, Result, Verb};
pub use load::NetworkStatus;
pub use netlink::{addresses, loopback_up};
pub use network::{Malformed, Network};
pub use owed::Owed;
pub use result::{Attached, Dns, Interface, Ip, PluginRun, Route};
pub use version::SpecVersion;
