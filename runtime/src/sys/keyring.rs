//! Session keyrings (`keyrings(7)`).

use std::ffi::CStr;
use std::io;

use super::check;

/// `KEY_USR_SEARCH`: the owner may find it by its name.
const OWNER_SEARCHES: u32 = 0x0008_0000;

/// Joins the session keyring of this name, or makes it, so that who comes later can join it.
pub(crate) fn join_session(name: &CStr) -> io::Result<()> {
    let command = libc::KEYCTL_JOIN_SESSION_KEYRING;
    // SAFETY: the kernel reads the name up to its NUL, and keeps nothing of it.
    let keyring = check(unsafe { libc::syscall(libc::SYS_keyctl, command, name.as_ptr()) })?;
    let permissions = permissions(keyring)? | OWNER_SEARCHES;
    let command = libc::KEYCTL_SETPERM;
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, command, keyring, permissions) })?;
    Ok(())
}

/// The permissions of a key, from its description: `type;uid;gid;permissions;name`.
fn permissions(key: libc::c_long) -> io::Result<u32> {
    let mut text = [0_u8; 512];
    let (command, room) = (libc::KEYCTL_DESCRIBE, text.len());
    // SAFETY: the kernel writes at most `room` bytes into `text`.
    let length =
        check(unsafe { libc::syscall(libc::SYS_keyctl, command, key, text.as_mut_ptr(), room) })?;
    let length = usize::try_from(length).unwrap_or(0).min(room);
    let text = String::from_utf8_lossy(&text[..length]);
    let field = text.split(';').nth(3).and_then(|field| u32::from_str_radix(field, 16).ok());
    field.ok_or_else(|| io::Error::other("a key without permissions"))
}
