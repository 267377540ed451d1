//! The child's side of an [`Errand`]: has a foreign runtime make a process, and hands it over.
//!
//! Unlike a child that executes a plan it does not become the program. It waits for the runtime,
//! and until it ends it is the parent of what the runtime has left behind; then the shim is.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, waitid};

use crate::foreign::errand::{Errand, Pin};
use crate::newborn::{report_adopted, report_executing, report_terminal};
use crate::plan::Root;
use crate::protocol::Step;
use crate::socket;
use crate::sys;
use crate::sys::clone::{Birth, SingleThreaded, clone_process};

use super::{Attempt, Fault, Inheritance, mounts, root, streams, users};

/// Environment of a runtime: some look for helpers.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `errand` to its end, reporting on the way.
pub(crate) fn run(errand: &Errand, given: &Inheritance<'_>) -> Result<(), Fault> {
    rustix::process::setsid().attempt(Step::Clone, || "start a session")?;
    let this = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(this))
        .attempt(Step::Clone, || "become a subreaper")?;
    if let Some(root) = &errand.root {
        furnish(errand, root, given)?;
    }
    streams::install_here(given)?;
    let console = listen(errand).attempt(Step::Streams, || "listen for a terminal")?;
    call(&errand.create)?;
    let (pid, pidfd) = find_made(&errand.pid_file)
        .attempt(Step::Runtime, || format!("find what is named in {}", errand.pid_file))?;
    report_adopted(given.report, pid, pidfd.as_fd())
        .attempt(Step::Runtime, || "hand the process over")?;
    if let Some(console) = console {
        let master = receive_master(&console).attempt(Step::Streams, || "receive a terminal")?;
        report_terminal(given.report, master.as_fd())
            .attempt(Step::Streams, || "hand a terminal over")?;
    }
    if !errand.start.is_empty() {
        call(&errand.start)?;
    }
    report_executing(given.report).attempt(Step::Runtime, || "report that it runs")
}

/// Attaches the root, and what else the runtime needs of the pod, where only this process and
/// its children see it. All other mounts stay what they are to the host: a volume that passes
/// mounts on is bound from here.
fn furnish(errand: &Errand, root: &Root, given: &Inheritance<'_>) -> Result<(), Fault> {
    let step = Step::Mount;
    let pins = errand.pins.iter().map(|pin| {
        let opened = open_namespace(pin, given);
        opened.attempt(Step::Namespaces, || format!("open the pod's {} namespace", pin.name))
    });
    let pins: Vec<OwnedFd> = pins.collect::<Result<_, _>>()?;
    let shares = errand.shares.iter().map(|share| {
        let what = share.what.clone().unwrap_or_default();
        mounts::open_shared(&what, given)
    });
    let shares: Vec<OwnedFd> = shares.collect::<Result<_, _>>()?;
    unshare(CloneFlags::CLONE_NEWNS).attempt(Step::Namespaces, || "make a mount namespace")?;
    mount_change(errand.cut_off.as_str(), MountPropagationFlags::DOWNSTREAM)
        .attempt(step, || format!("cut {} off", errand.cut_off))?;
    let directory = root::open(root, None)?;
    root::attach(root, directory, false)?;
    for (pin, file) in errand.pins.iter().zip(pins) {
        let bound = clone_of_magic_link(&file).and_then(|tree| attach(&tree, &pin.at));
        bound.attempt(step, || format!("bind a namespace to {}", pin.at))?;
    }
    for (share, tree) in errand.shares.iter().zip(shares) {
        attach(&tree, &share.at).attempt(step, || format!("attach a mount to {}", share.at))?;
    }
    Ok(())
}

/// Opens a namespace of the process behind a pidfd. That is still alive afterwards, so that the
/// PID was its own when the path was opened.
fn open_namespace(pin: &Pin, given: &Inheritance<'_>) -> io::Result<OwnedFd> {
    let pidfd = given.handle(pin.of)?;
    users::open_namespace_of(pidfd, &pin.name)
}

/// A namespace file is on no mount that could be cloned by its descriptor, but by its link.
fn clone_of_magic_link(file: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, path, flags)?)
}

fn attach(tree: &OwnedFd, at: &str) -> io::Result<()> {
    Ok(move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Runs one command of the runtime and waits for it. What it says stands in its log.
fn call(words: &[String]) -> Result<(), Fault> {
    let name = words.first().map_or("", String::as_str);
    let attempt = || format!("run {name}");
    let code = spawn_and_wait(words).attempt(Step::Runtime, attempt)?;
    if code == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("exit code {code}"))).attempt(Step::Runtime, attempt)
}

fn spawn_and_wait(words: &[String]) -> io::Result<i32> {
    let words: Vec<CString> =
        words.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?;
    let program = words.first().ok_or_else(|| io::Error::other("no command"))?;
    let env = [CString::new(PATH)?];
    let proof = SingleThreaded::check()?;
    let child = clone_process(&proof, &Birth::default(), || become_runtime(program, &words, &env))?;
    let ended = rustix::io::retry_on_intr(|| {
        waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
    })?;
    let ended = ended.ok_or_else(|| io::Error::other("it did not end"))?;
    let code = ended.exit_status().or(ended.terminating_signal().map(|signal| 128 + signal));
    Ok(code.unwrap_or(255))
}

/// A runtime does not outlive the errand: who kills that ends both.
fn become_runtime(program: &CString, words: &[CString], env: &[CString]) -> Infallible {
    let ready = rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(io::Error::from)
        .and_then(|()| sys::signal::reset(false));
    if ready.is_ok() {
        sys::exec::execve(program, words, env);
    }
    sys::exec::exit_now(127)
}

/// What the runtime has made. It is a child of this process, or the file lies.
fn find_made(pid_file: &str) -> io::Result<(i32, OwnedFd)> {
    let text = fs::read_to_string(pid_file)?;
    let number: i32 = text.trim().parse().map_err(io::Error::other)?;
    let pid = Pid::from_raw(number).ok_or_else(|| io::Error::other("PID 0"))?;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), look)?;
    Ok((number, pidfd_open(pid, PidfdFlags::empty())?))
}

fn listen(errand: &Errand) -> io::Result<Option<UnixListener>> {
    if errand.console.is_empty() {
        return Ok(None);
    }
    UnixListener::bind(&errand.console).map(Some)
}

/// The master of the terminal, which the runtime has sent by the time it ends.
fn receive_master(console: &UnixListener) -> io::Result<OwnedFd> {
    console.set_nonblocking(true)?;
    let (connection, _) = console.accept()?;
    connection.set_nonblocking(true)?;
    let mut buffer = vec![0; crate::protocol::MAX_PACKET];
    let mut packet = socket::receive(connection.as_fd(), &mut buffer)?;
    packet.descriptors.pop().ok_or_else(|| io::Error::other("no descriptor came with it"))
}
