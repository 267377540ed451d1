//! A process that keeps the host's privileges a little longer, for mounts that can only be made
//! when the container lives in its user namespace already, and whose owners are to be mapped: parts
//! of its own root, with what has been mounted in it by then.
//!
//! It gets a detached mount, maps it, and answers. It ends with the last descriptor of the other
//! side, which is closed before the program runs.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::plan::{Mount, MountSource};
use crate::protocol::{MAX_PACKET, Step};
use crate::socket;
use crate::sys;
use crate::sys::clone::{Birth, SingleThreaded, clone_process};
use crate::sys::exec::exit_now;

use super::super::{Attempt, Fault};
use super::dress::{self, Known};

/// The connection to it.
#[derive(Debug)]
pub(in crate::init) struct Mapper(OwnedFd);

impl Mapper {
    /// Starts it, if one of `mounts` needs it.
    pub(in crate::init) fn start(mounts: &[Mount], users: &OwnedFd) -> Result<Option<Self>, Fault> {
        let inside = |mount: &Mount| matches!(mount.source, Some(MountSource::Inside(_)));
        if !mounts.iter().any(|mount| inside(mount) && mount.owners.is_some()) {
            return Ok(None);
        }
        let start = || -> io::Result<Self> {
            let (ours, theirs) = socket::pair()?;
            let proof = SingleThreaded::check()?;
            clone_process(&proof, &Birth::default(), || serve(mounts, users, theirs.as_fd()))?;
            Ok(Self(ours))
        };
        start().attempt(Step::Mount, || "start a process that maps owners").map(Some)
    }

    /// Has it map the owners of `tree`, the mount of this index.
    pub(super) fn map(&self, index: usize, tree: BorrowedFd<'_>) -> io::Result<()> {
        socket::send(self.0.as_fd(), &index.to_le_bytes(), &[tree])?;
        let answer = socket::receive(self.0.as_fd(), &mut vec![0; MAX_PACKET])?.bytes;
        match answer.split_first() {
            Some((0, _)) => Ok(()),
            Some((_, words)) => Err(io::Error::other(String::from_utf8_lossy(words).into_owned())),
            None => Err(io::Error::other("the process that maps owners has gone")),
        }
    }
}

fn serve(mounts: &[Mount], users: &OwnedFd, socket: BorrowedFd<'_>) -> Infallible {
    let mut known = Known::default();
    if sys::fds::close_all_but(0, &mut [users.as_fd(), socket]).is_ok() {
        while let Ok(true) = serve_one(mounts, users, socket, &mut known) {}
    }
    exit_now(0)
}

fn serve_one(
    mounts: &[Mount],
    users: &OwnedFd,
    socket: BorrowedFd<'_>,
    known: &mut Known,
) -> io::Result<bool> {
    let mut packet = socket::receive(socket, &mut [0; 16])?;
    let Some(tree) = packet.descriptors.pop() else {
        return Ok(false);
    };
    let index = packet.bytes.try_into().map(usize::from_le_bytes);
    let mount = index.ok().and_then(|index| mounts.get(index));
    let mount = mount.ok_or(io::ErrorKind::InvalidInput)?;
    let mut answer = vec![0];
    if let Err(error) = dress::map(&tree, mount, Some(users), known) {
        answer = vec![1];
        answer.extend(error.to_string().into_bytes());
    }
    socket::send(socket, &answer, &[])?;
    Ok(true)
}
