//! `setns(2)` and `unshare(2)` with every kind of namespace: the flags of the libraries lack that
//! of time.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// Enters the namespaces of `kinds` (`CLONE_NEW*`) of the process or the namespace file that `of`
/// is open on.
pub(crate) fn enter(of: BorrowedFd<'_>, kinds: u64) -> io::Result<()> {
    let kinds = flags(kinds)?;
    // SAFETY: no memory is involved. The callers have one thread and share nothing but open files
    // with others, which is what the kernel asks for.
    check(unsafe { libc::setns(of.as_raw_fd(), kinds) }.into())?;
    Ok(())
}

/// Moves the process into new namespaces of `kinds` (`CLONE_NEW*`); of time and PID namespaces
/// only its next children are born into the new one.
pub(crate) fn unshare(kinds: u64) -> io::Result<()> {
    let kinds = flags(kinds)?;
    // SAFETY: as above; descriptors stay as they are without CLONE_FILES.
    check(unsafe { libc::unshare(kinds) }.into())?;
    Ok(())
}

fn flags(kinds: u64) -> io::Result<i32> {
    const ALL: u64 = (libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWTIME) as u64;
    match i32::try_from(kinds) {
        Ok(flags) if kinds & !ALL == 0 => Ok(flags),
        _ => Err(io::Error::other(format!("unknown kinds of namespaces {kinds:#x}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kinds_of_namespaces_are_flags() {
        assert_eq!(flags(libc::CLONE_NEWTIME as u64).unwrap(), libc::CLONE_NEWTIME);
        assert!(flags(libc::CLONE_VM as u64).is_err());
        assert!(flags(u64::MAX).is_err());
    }
}
