//! The room where `unsafe` lives: one wrapper per system call that no library offers safely.
//!
//! Every wrapper takes borrowed descriptors and returns an [`OwnedFd`](std::os::fd::OwnedFd) or
//! an [`io::Result`](std::io::Result), so that nothing outside of this folder needs `unsafe`.
//! What `rustix` and `nix` wrap already is called from where it is needed, not from here.

#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod clone;
mod entry;
pub(crate) mod exec;
pub(crate) mod fds;
pub(crate) mod image;
pub(crate) mod keyring;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod task;
pub(crate) mod watch;

use std::io;

/// The result of a raw system call: -1 becomes the thread's `errno`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
