//! `seccomp(2)`.

use std::io;
use std::os::fd::OwnedFd;

use super::{check, fds};
use crate::seccomp::FLAG_NEW_LISTENER;

const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;

/// A program in the form that the kernel takes.
#[derive(Debug)]
pub(crate) struct Program(Vec<libc::sock_filter>);

impl Program {
    /// Reads instructions (`struct sock_filter`, one after the other).
    pub(crate) fn new(bytes: &[u8]) -> io::Result<Self> {
        let (instructions, rest) = bytes.as_chunks::<{ size_of::<libc::sock_filter>() }>();
        if !rest.is_empty() || u16::try_from(instructions.len()).is_err() {
            return Err(io::Error::other(format!("a filter of {} bytes", bytes.len())));
        }
        let instruction = |[a, b, jt, jf, c, d, e, f]: [u8; 8]| libc::sock_filter {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes([c, d, e, f]),
        };
        Ok(Self(instructions.iter().copied().map(instruction).collect()))
    }

    /// Puts the calling thread under the filter, for good (Linux 5.0 for the listener).
    ///
    /// Takes `CAP_SYS_ADMIN` or `no_new_privs`. With the flag `NEW_LISTENER` the kernel returns
    /// the descriptor that notifications come by, close-on-exec. Allocates nothing: the filter
    /// may forbid it from then on.
    pub(crate) fn load(&self, flags: u64) -> io::Result<Option<OwnedFd>> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.0.len()).unwrap_or(u16::MAX),
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: `program` points to as many instructions as it says, which outlive the call; the
        // kernel copies and never writes them.
        let result = check(unsafe {
            libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        })?;
        if flags & FLAG_NEW_LISTENER == 0 {
            return Ok(None);
        }
        let fd = i32::try_from(result).map_err(|_| io::Error::other("no descriptor"))?;
        Ok(Some(fds::adopt(fd)))
    }
}
