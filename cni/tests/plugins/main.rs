//! The public face, with plugins that are small shell scripts: what they are
//! given, in which order they run, and what becomes of it when they misbehave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod add;
mod del;
mod fault;
mod node;
