//! Procfs of a PID namespace where others live, made by somebody who is outside of it.
//!
//! A procfs shows the PID namespace of who opens it, so somebody has to be in there before the
//! container's first process is, which comes last of all ([`super::super::rebirth`]). The others
//! see who that is, and might make it theirs: so it has nothing. It is born into an empty root
//! in a mount namespace of its own, with one socket, and with the privileges of a user namespace
//! without users; and all that it does is to open a context of the file system, which becomes one
//! here, outside, by the host's privileges.
//!
//! ```text
//! child            middle                        opener
//!   │ clone ─────────► lets go of everything,
//!   │                  heads for the namespace
//!   │                  clone ─────────────────────► fsopen(2)
//!   │◄───────────────────────────────────── context │
//!   │ configures and mounts it
//! ```

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mount::{FsOpenFlags, fsopen};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::plan::{FileSystem, Mount};
use crate::socket;
use crate::sys::clone::{Birth, SingleThreaded, clone_process};
use crate::sys::exec::exit_now;
use crate::sys::{fds, namespace};

use super::super::users::reap;
use super::super::{Inheritance, namespaces, root};
use super::filesystem;

/// A detached procfs of the PID namespace `others`.
pub(super) fn make(
    fs: &FileSystem,
    mount: &Mount,
    others: BorrowedFd<'_>,
    given: &Inheritance<'_>,
) -> io::Result<OwnedFd> {
    let context = open(others, given.proof)?;
    Ok(filesystem::finish(&context, fs, &fs.options, mount.set | mount.deep_set)?)
}

fn open(others: BorrowedFd<'_>, proof: &SingleThreaded) -> io::Result<OwnedFd> {
    let (ours, theirs) = socket::pair()?;
    let middle =
        clone_process(proof, &Birth::default(), || send_opener(others, theirs.as_fd(), proof))?;
    drop(theirs);
    let answer = socket::receive(ours.as_fd(), &mut [0; 8]);
    reap(&middle)?;
    let Some(context) = answer?.descriptors.pop() else {
        return Err(io::Error::other("nobody could open it in the PID namespace"));
    };
    Ok(context)
}

fn send_opener(
    others: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    proof: &SingleThreaded,
) -> Infallible {
    let opener = let_go(others, socket).and_then(|()| {
        clone_process(proof, &Birth::default(), || {
            if let Ok(context) = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC) {
                // Nobody to tell but who misses it.
                let _ = socket::send(socket, &[0], &[context.as_fd()]);
            }
            exit_now(0)
        })
    });
    exit_now(i32::from(opener.and_then(|opener| reap(&opener)).is_err()))
}

/// Keeps nothing of the host's but the socket.
fn let_go(others: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<()> {
    fds::close_all_but(0, &mut [others, socket])?;
    namespace::enter(others, libc::CLONE_NEWPID as u64)?;
    namespaces::withdraw()?;
    let empty = root::make_empty(4096)?;
    root::move_to(empty.as_fd(), "/")?;
    root::pivot(empty.as_fd())?;
    rustix::process::chdir("/")?;
    drop(empty);
    fds::close_all_but(0, &mut [socket])?;
    // Where nobody may make user namespaces, its privileges are the host's: for one call, in a
    // place without anything.
    let _ = namespace::unshare((libc::CLONE_NEWUSER | libc::CLONE_NEWNS) as u64);
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
