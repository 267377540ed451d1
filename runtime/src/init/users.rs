//! User namespaces: made, found, entered.
//!
//! A user namespace is needed before anything lives in it: owners of files are mapped by its
//! descriptor, and only somebody with the host's privileges may do that. So a child that does
//! nothing is born into it, its mappings are written, its namespace is opened, and it goes.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::newborn::pid_of;
use crate::plan::{IdMaps, IdRange, Plan, Users};
use crate::protocol::Step;
use crate::socket;
use crate::spec::idmaps;
use crate::sys;
use crate::sys::clone::{Birth, Child, SingleThreaded, clone_process};
use crate::sys::exec::exit_now;
use crate::sys::namespace;

use super::{Attempt, Fault, Inheritance};

const STEP: Step = Step::Namespaces;

/// Opens the user namespace of the plan, if it has one, and makes it if it is new.
pub(super) fn find(plan: &Plan, given: &Inheritance<'_>) -> Result<Option<OwnedFd>, Fault> {
    let users = plan.user.as_ref().and_then(|user| user.users.as_ref());
    users
        .map(|users| match users {
            Users::New(maps) => make(maps).attempt(STEP, || "make a user namespace"),
            Users::Of(handle) => given
                .handle(*handle)
                .and_then(open)
                .attempt(STEP, || "open the user namespace of linux.namespaces"),
        })
        .transpose()
}

/// User and group of a file, as the host has them.
pub(super) type Owner = (u32, u32);

/// Whom of the host the root of the plan's user namespace is.
pub(super) fn root_of(plan: &Plan, users: BorrowedFd<'_>) -> Result<Owner, Fault> {
    if let Some(Users::New(maps)) = plan.user.as_ref().and_then(|user| user.users.as_ref()) {
        let host = |ranges: &[IdRange]| ranges.iter().find(|range| range.inside == 0).copied();
        if let (Some(user), Some(group)) = (host(&maps.users), host(&maps.groups)) {
            return Ok((user.host, group.host));
        }
    }
    ask_root(users).attempt(STEP, || "find the root of the user namespace")
}

/// As [`root_of`], of the user namespace of others that the plan enters, if it does.
pub(super) fn root_of_entered(
    plan: &Plan,
    given: &Inheritance<'_>,
) -> Result<Option<Owner>, Fault> {
    let entered = plan.enter.iter().find(|enter| enter.kinds & libc::CLONE_NEWUSER as u64 != 0);
    let ask = |handle| ask_root(open(given.handle(handle)?)?.as_fd());
    entered
        .map(|enter| ask(enter.of).attempt(STEP, || "find the root of the user namespace"))
        .transpose()
}

/// Of somebody else's namespace nobody tells the mappings but who is in it: a child makes a file
/// there, and the file has an owner.
fn ask_root(users: BorrowedFd<'_>) -> io::Result<Owner> {
    let (ours, theirs) = socket::pair()?;
    let proof = SingleThreaded::check()?;
    let child = clone_process(&proof, &Birth::default(), || {
        if enter(users).is_ok()
            && let Ok(file) = memfd_create("owner", MemfdFlags::CLOEXEC)
        {
            let _ = socket::send(theirs.as_fd(), &[0], &[file.as_fd()]);
        }
        exit_now(0)
    })?;
    drop(theirs);
    let answer = socket::receive(ours.as_fd(), &mut [0; 8]);
    reap(&child)?;
    let file = answer?.descriptors.pop();
    let file = file.ok_or_else(|| io::Error::other("nobody can enter it"))?;
    let about = rustix::fs::fstat(&file)?;
    Ok((about.st_uid, about.st_gid))
}

/// Waits for the end of a child.
pub(super) fn reap(child: &Child) -> io::Result<()> {
    let wait = || waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    rustix::io::retry_on_intr(wait).map(drop)?;
    Ok(())
}

/// Enters a user namespace and becomes its root.
pub(super) fn enter(users: BorrowedFd<'_>) -> Result<(), Fault> {
    namespace::enter(users, libc::CLONE_NEWUSER as u64)
        .attempt(STEP, || "enter the user namespace")?;
    become_root().attempt(STEP, || "become root of the user namespace")
}

/// Who enters a user namespace has all capabilities in it, and the ids that it had, which may not
/// exist there.
pub(super) fn become_root() -> io::Result<()> {
    set_thread_groups(&[])?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    // A change of ids may reset it, and nobody of the namespace may look into this process yet.
    let never = rustix::process::DumpableBehavior::NotDumpable;
    Ok(rustix::process::set_dumpable_behavior(never)?)
}

/// Makes a user namespace with these mappings, without anybody in it.
pub(super) fn make(maps: &IdMaps) -> io::Result<OwnedFd> {
    let (ours, theirs) = socket::pair()?;
    let proof = SingleThreaded::check()?;
    let birth = Birth { namespaces: libc::CLONE_NEWUSER as u64, ..Birth::default() };
    let child = clone_process(&proof, &birth, || wait_for_the_end(theirs.as_fd()))?;
    let namespace = map_and_open(&child, maps);
    // Should this process end before, `ours` closes, and the child ends as well.
    pidfd_send_signal(&child.pidfd, Signal::KILL)?;
    reap(&child)?;
    drop(ours);
    namespace
}

fn wait_for_the_end(socket: BorrowedFd<'_>) -> Infallible {
    // Its copy of the other end would keep the connection alive.
    if sys::fds::close_all_but(0, &mut [socket]).is_ok() {
        let _ = socket::receive(socket, &mut [0; 8]);
    }
    exit_now(0)
}

fn map_and_open(child: &Child, maps: &IdMaps) -> io::Result<OwnedFd> {
    let directory = directory_of(child.pidfd.as_fd())?;
    fs::write(format!("{directory}/gid_map"), idmaps::text(&maps.groups))?;
    fs::write(format!("{directory}/uid_map"), idmaps::text(&maps.users))?;
    Ok(File::open(format!("{directory}/ns/user"))?.into())
}

/// The user namespace that `handle` is open on, or that of the process that it is a pidfd of.
fn open(handle: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    if pid_of(handle).is_err() {
        return handle.try_clone_to_owned();
    }
    open_namespace_of(handle, "user")
}

/// Opens a namespace of the process behind a pidfd. That is still alive afterwards, so that the
/// PID was its own when the path was opened.
pub(super) fn open_namespace_of(pidfd: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let namespace = File::open(format!("{}/ns/{name}", directory_of(pidfd)?))?;
    directory_of(pidfd)?;
    Ok(namespace.into())
}

fn directory_of(pidfd: BorrowedFd<'_>) -> io::Result<String> {
    let pid = pid_of(pidfd)?.ok_or_else(|| io::Error::other("the process is gone"))?;
    Ok(format!("/proc/{pid}"))
}
