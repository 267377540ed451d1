//! berthd: turns requests of the Container Runtime Interface into calls on
//! berth's libraries, and their answers into CRI.
//!
//! ```text
//! kubelet, crictl ──berth.sock──► rpc ─┐            ┌─ sandbox ─► cni
//!                                      ├─► node ─► ops ─ runtime
//! berth ───────────admin.sock──► admin ┘            └─ imageservice
//!
//! scraper ─────────HTTP────────► berth-metrics
//! ```
//!
//! [`daemon`] starts and stops it all; [`config`] is what an operator says;
//! [`ops`] owns the work that requests ask for; [`status`] is what a client is
//! told when it fails. Only this crate names a CRI or gRPC type. It knows no
//! system call of containers, no CNI JSON and no overlay: those are its
//! libraries'. The daemon is never in the data path of a container.

pub mod about;
pub mod admin;
pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod error;
#[cfg(feature = "failpoints")]
mod failpoints;
pub mod logging;
pub mod logs;
pub mod node;
pub mod ops;
pub mod rpc;
pub mod status;
pub mod translate;
