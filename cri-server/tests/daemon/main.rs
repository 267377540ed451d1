//! The binary `berthd` as a service manager and a client meet it: started with
//! a configuration, spoken to through its sockets, told to stop.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod harness;
mod lifecycle;
mod serving;
