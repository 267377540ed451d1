//! Descriptors as numbers: the standard ones, and closing many at once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// Takes over descriptor 0, on which the shim finds its control connection.
///
/// To be called once, before anything else uses standard input.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    // SAFETY: the shim calls this first thing in `main`, where nothing else owns descriptor 0;
    // the duplicate below is what it keeps, 0 stays open on the same file for the process.
    let stdin = unsafe { BorrowedFd::borrow_raw(0) };
    Ok(rustix::io::fcntl_dupfd_cloexec(stdin, 3)?)
}

/// Makes `fd` the process's descriptor `number`, open across `execve`.
pub(crate) fn install(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        return Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?);
    }
    // SAFETY: dup2 on numbers that the caller chose; what was open there is given up, which is
    // what installing a standard stream means.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into())?;
    Ok(())
}

/// Closes every descriptor from `first` on but those `kept` (`close_range`, Linux 5.9), which
/// are sorted on the way.
///
/// To be called where the process is about to become another program: the owners of what is
/// closed must never run their destructors.
pub(crate) fn close_all_but(first: u32, kept: &mut [BorrowedFd<'_>]) -> io::Result<()> {
    kept.sort_by_key(AsRawFd::as_raw_fd);
    let mut next = first;
    for fd in kept.iter() {
        let number = u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX);
        if number > next {
            close_range(next, number - 1)?;
        }
        next = next.max(number.saturating_add(1));
    }
    close_range(next, u32::MAX)
}

/// Keeps whatever this process was started with, but its standard streams, from the programs that
/// it starts: those of other people's plugins and runtimes among them (Linux 5.11).
///
/// # Errors
/// The kernel's.
pub fn keep_inheritance_to_ourselves() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: nothing is closed here, and nothing that is ours passes an execve.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, flags) })?;
    Ok(())
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the child that calls this ends in `execve` or `_exit`, so that no owner of a closed
    // descriptor uses or closes it again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// Descriptors that arrived over a socket, as owned ones.
///
/// `numbers` must come from an `SCM_RIGHTS` message of this process and be wrapped once.
pub(crate) fn adopt(number: i32) -> OwnedFd {
    // SAFETY: the kernel has just installed this descriptor for us and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(number) }
}
