//! The child's side: executes a [`Plan`] between the clone and the `execve`.
//!
//! Runs in a single-threaded copy of its parent, so it may allocate and use the standard
//! library, and it ends in another program or in a [`Fault`] that is reported. It never
//! resolves a path of the container by string: every target below the root is opened with
//! `openat2(2)` beneath it ([`paths`]) and mounted upon by descriptor.
//!
//! ```text
//! hold procfs, OOM score ─► enter namespaces ─► open what is shared and bound
//!   ─► user namespace, second clone ─► own namespaces ─► names, sysctls ─► root ─► mounts
//!   ─► devices, links ─► the parent's turn ─► createContainer hooks ─► streams ─► masks
//!   ─► pivot ─► labels ─► scheduling, limits ─► working directory ─► identity
//!   ─► others' PID namespace, last clone ─► gate ─► startContainer hooks ─► seccomp ─► execve
//! ```

mod attributes;
mod command;
mod console;
mod devices;
mod environment;
pub(crate) mod errand;
mod hooks;
mod identity;
mod kernel;
mod labels;
mod material;
mod mounts;
mod namespaces;
mod paths;
mod procfs;
mod rebirth;
mod root;
mod seccomp;
mod streams;
#[cfg(test)]
mod testing;
pub(crate) mod trial;
mod users;

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::hooks::Kind;
use crate::newborn::{Nest, report_executing, report_namespaces, wait_at_gate};
use crate::plan::{Handle, Plan, Process};
use crate::protocol::Step;
use crate::sys;
use crate::sys::clone::SingleThreaded;

use material::Material;
use procfs::Procfs;

/// What a child was given.
#[derive(Debug)]
pub(crate) struct Inheritance<'a> {
    /// Descriptors behind the plan's handles.
    pub(crate) handles: Vec<BorrowedFd<'a>>,
    /// Standard streams; the child's own terminal replaces them if the plan says so.
    pub(crate) streams: [Option<BorrowedFd<'a>>; 3],
    /// The host's null device, read-only, if the parent has it; else a child that needs it makes
    /// it.
    pub(crate) null: Option<BorrowedFd<'a>>,
    /// Where it reports.
    pub(crate) report: BorrowedFd<'a>,
    /// The PID namespace that it is made for.
    pub(crate) nest: Nest<'a>,
    /// That its parent, and so itself, has one thread.
    pub(crate) proof: &'a SingleThreaded,
}

impl Inheritance<'_> {
    /// Whether it ends up in a PID namespace where others live already.
    fn has_company(&self) -> bool {
        matches!(self.nest, Nest::Of(_))
    }

    fn handle(&self, handle: Handle) -> io::Result<BorrowedFd<'_>> {
        let found = usize::try_from(handle).ok().and_then(|index| self.handles.get(index));
        found.copied().ok_or_else(|| io::Error::other(format!("no descriptor {handle}")))
    }
}

/// A step that failed.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Where.
    pub(crate) step: Step,
    /// What was attempted, on what.
    pub(crate) attempt: String,
    /// The kernel's answer.
    pub(crate) error: io::Error,
}

/// Says what a failed call was for.
trait Attempt<T> {
    /// Wraps the error; `attempt` is only formatted when there is one.
    fn attempt<D: Display>(self, step: Step, attempt: impl FnOnce() -> D) -> Result<T, Fault>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt<D: Display>(self, step: Step, attempt: impl FnOnce() -> D) -> Result<T, Fault> {
        self.map_err(|error| Fault { step, attempt: attempt().to_string(), error: error.into() })
    }
}

/// Executes `plan`; returns only if a step fails, with the connection of who has started it, if
/// it has come that far: the failure is reported there.
pub(crate) fn run(plan: &Plan, given: &Inheritance<'_>) -> (Fault, Option<OwnedFd>) {
    let mut starter = None;
    let process = plan.process.clone().unwrap_or_default();
    let ready = prepare(plan, &process, given)
        .and_then(|(procfs, agent)| settle(plan, process, procfs, given, agent, &mut starter));
    match ready.and_then(|settled| become_program(plan, &settled, given, starter.as_ref())) {
        Ok(never) => match never {},
        Err(fault) => (fault, starter),
    }
}

/// Everything that needs the privileges of the shim and the view of the host.
fn prepare(
    plan: &Plan,
    process: &Process,
    given: &Inheritance<'_>,
) -> Result<(Procfs, Option<seccomp::Agent>), Fault> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .attempt(Step::Clone, || "become undumpable")?;
    let mut agent = seccomp::connect(plan)?;
    let procfs = Procfs::open().attempt(Step::Clone, || "take hold of /proc")?;
    identity::adjust_oom_score(process, &procfs)?;
    let host = kernel::Host::look(plan, &procfs)?;
    let null = plan.root.is_none().then(|| streams::prepare(given)).transpose()?.flatten();
    if let Some(root) = users::root_of_entered(plan, given)? {
        streams::give(given, root)?;
    }
    if plan.root.is_none() {
        rebirth::head_for_company(given)?;
    }
    namespaces::enter(plan, given)?;
    labels::check_mounts(plan, &procfs)?;
    let material = Material::gather(plan, given)?;
    namespaces::prepare_time(plan, &procfs)?;
    if let Some(users) = &material.users {
        identity::allow_limits(process)?;
        streams::give(given, users::root_of(plan, users.as_fd())?)?;
        // From here on whoever is cloned is born there.
        rebirth::head_for_company(given)?;
        users::enter(users.as_fd())?;
    }
    // A birth among others is the one into a time namespace as well.
    if let Some(kinds) = plan.rebirth.filter(|_| !given.has_company()) {
        let pid = rebirth::reborn(kinds, given)?;
        agent = agent.map(|agent| agent.of_process(pid, plan));
    }
    rustix::process::setsid().attempt(Step::Clone, || "start a session")?;
    let home = namespaces::remember_mounts(plan, &procfs)?;
    namespaces::unshare(plan)?;
    match &plan.root {
        None => streams::install_inside(given, null)?,
        Some(root) => {
            kernel::set_names(plan)?;
            kernel::set_parameters(plan, &procfs, &host)?;
            build_root(plan, process, root, material, given)?;
            if let Some(home) = home {
                root::take_out(home.as_fd())?;
            }
        }
    }
    Ok((procfs, agent))
}

/// Puts the root file system together and moves into it.
fn build_root(
    plan: &Plan,
    process: &Process,
    root: &crate::plan::Root,
    material: Material,
    given: &Inheritance<'_>,
) -> Result<(), Fault> {
    let over = material.users.is_some();
    let directory = root::attach(root, material.root, over)?;
    mounts::mount_all(&directory, &plan.mounts, material.mounts, material.mapper.as_ref())?;
    devices::make(&directory, &plan.devices, material.devices)?;
    devices::link(&directory, &plan.links)?;
    if plan.announce {
        report_namespaces(given.report)
            .attempt(Step::Namespaces, || "wait for who uses the namespaces")?;
    }
    root::enter(&directory)?;
    hooks::run(Kind::CreateContainer, plan, process)?;
    if process.terminal {
        console::open(&directory, process, given)?;
    } else {
        streams::install(given, &directory)?;
    }
    mounts::make_read_only(&directory, &plan.mounts)?;
    mounts::mask(&directory, &plan.masked, &plan.read_only)?;
    root::finish(root, &directory, over)
}

/// What is left of the plan when all else is done.
struct Settled {
    /// The process as it is to be executed.
    process: Process,
    filter: Option<seccomp::Filter>,
}

/// What is left to do inside of the container but to become the program. With a gate it waits
/// there, with its final identity, until `starter` has come.
fn settle(
    plan: &Plan,
    mut process: Process,
    procfs: Procfs,
    given: &Inheritance<'_>,
    mut agent: Option<seccomp::Agent>,
    starter: &mut Option<OwnedFd>,
) -> Result<Settled, Fault> {
    // Of all the code that has run until here little runs again.
    sys::image::leave_code().attempt(Step::Command, || "let go of code")?;
    let pause = process.program == crate::plan::Program::Pause as i32;
    if plan.root.is_none() && process.terminal {
        console::open_here(&process, given)?;
    }
    labels::set(&process, &procfs)?;
    drop(procfs);
    // Before that, hooks would run among the others, with the host's files in their sight; who
    // is in a user namespace had to do it when it was the host's root.
    if plan.root.is_some() && plan.user.is_none() {
        rebirth::head_for_company(given)?;
    }
    let gate = plan.gate.map(|gate| given.handle(gate)).transpose();
    let gate = gate.attempt(Step::Request, || "find the gate")?;
    // From here on paths are the container's: no descriptor of ours may be reachable through
    // `/proc/self/fd` by a working directory of its choice (CVE-2024-21626).
    let mut kept = vec![given.report];
    kept.extend(gate);
    kept.extend(agent.as_ref().map(seccomp::Agent::as_fd));
    sys::fds::close_all_but(3 + process.preserve_fds, &mut kept)
        .attempt(Step::Command, || "close descriptors")?;
    attributes::set(&process, given.has_company())?;
    match given.has_company() {
        true => identity::allow_limits(&process)?,
        false => identity::set_limits(&process)?,
    }
    identity::join_keyring(&process)?;
    environment::complete(&mut process);
    environment::give_streams(&process)?;
    command::make_working_directory(&process)?;
    // With root's permissions, as the field's runtimes do it: images have working directories
    // that not every user may enter. A network file system may refuse root and not the user.
    let entered = command::enter_working_directory(&process);
    let later = attributes::needed_later(&process, given.has_company());
    identity::assume(&process, later)?;
    entered.or_else(|_| command::enter_working_directory(&process))?;
    sys::signal::reset(pause).attempt(Step::Command, || "reset signals")?;
    if given.has_company() {
        let pid = rebirth::enter_company(&process, given)?;
        agent = agent.map(|agent| agent.of_process(pid, plan));
        identity::set_limits(&process)?;
        attributes::set_after_birth(&process)?;
    }
    if let Some(gate) = gate {
        command::expect(&process)?;
        let connection = wait_at_gate(given.report, gate);
        *starter = Some(connection.attempt(Step::Command, || "wait for the start")?);
    }
    let filter = seccomp::prepare(&process, agent)?;
    Ok(Settled { process, filter })
}

fn become_program(
    plan: &Plan,
    settled: &Settled,
    given: &Inheritance<'_>,
    starter: Option<&OwnedFd>,
) -> Result<Infallible, Fault> {
    hooks::run(Kind::StartContainer, plan, &settled.process)?;
    let program = command::prepare(&settled.process)?;
    report_executing(starter.map_or(given.report, std::os::fd::AsFd::as_fd))
        .attempt(Step::Command, || "report that all is ready")?;
    if let Some(filter) = &settled.filter {
        filter.load(&settled.process)?;
    }
    program.execute()
}
