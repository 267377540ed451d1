//! The binary, from outside: what it asks of a daemon, what it prints, how it ends.
//!
//! The daemon here follows a script. That berth and berthd understand each other is for `e2e` to
//! prove.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod daemon;

mod errors;
mod images;
mod lists;
mod run;
