//! The harness that proves berth from outside: it drives the shipped binaries through their
//! sockets, with a CRI client that is not ours, and knows the inside of none of our crates.

pub mod audit;
pub mod bench;
pub mod berth;
pub mod canary;
pub mod client;
pub mod daemon;
pub mod fault;
pub mod image;
pub mod network;
pub mod node;
pub mod oci;
pub mod place;
pub mod process;
pub mod registry;
pub mod trace;
pub mod wait;
