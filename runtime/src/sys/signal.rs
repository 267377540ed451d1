//! Signal masks and dispositions, which a program inherits across `execve`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// Sends a signal, real-time ones included, to the process behind `pidfd` (Linux 5.1).
pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `siginfo_t` asks the kernel to fill in that of kill(2).
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0)
    })?;
    Ok(())
}

/// Gives every signal its default disposition but `SIGCHLD`, which is ignored when
/// `reap_children` is set, and unblocks all.
///
/// An ignored `SIGCHLD` survives `execve` and makes the kernel reap the program's children: it
/// is all that a pause process needs to be a good PID 1.
pub(crate) fn reset(reap_children: bool) -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        let ignore = reap_children && signal == libc::SIGCHLD;
        let handler = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
        // The kernel's own `struct sigaction`: handler, flags, restorer, mask. The C library's
        // functions refuse two real-time signals, and its posix_spawn(3), by which shims are
        // started, leaves just these ignored.
        let action = [handler, 0, 0, 0];
        let (old, mask) = (std::ptr::null_mut::<usize>(), size_of::<u64>());
        // SAFETY: neither disposition runs code of ours, `action` is as long as the kernel reads,
        // and a null pointer asks for nothing to be written.
        check(unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), old, mask)
        })?;
    }
    // SAFETY: an all-zero signal set is what sigemptyset makes, and the pointers are valid.
    check(i64::from(unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    }))?;
    Ok(())
}
