//! Session keyrings (`keyrings(7)`).

use std::ffi::CStr;
use std::io;

use super::check;

/// Joins the session keyring of this name, or makes it.
pub(crate) fn join_session(name: &CStr) -> io::Result<()> {
    let command = libc::KEYCTL_JOIN_SESSION_KEYRING;
    // SAFETY: the kernel reads the name up to its NUL, and keeps nothing of it.
    check(unsafe { libc::syscall(libc::SYS_keyctl, command, name.as_ptr()) })?;
    Ok(())
}
