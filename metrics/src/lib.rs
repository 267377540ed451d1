//! The numbers of berthd: their names, and how they leave the process.
//!
//! Owns the Prometheus registry and every metric family. It counts what it is
//! told and decides nothing: no type of another berth crate appears here.
//!
//! Naming: `berth_<subsystem>_<what>_<unit>`, base units (seconds, bytes),
//! `_total` for counters, `_info` for constants. Labels are bounded (an
//! operation, a code, a verb); a pod's or an image's name never is one.

mod exporter;
mod families;
mod pulls;

pub use exporter::serve;
pub use families::{Build, Error, InFlight, Metrics};
