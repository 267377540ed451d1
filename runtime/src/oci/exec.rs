//! `exec`: one more process in a container.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::{Capability, LinuxCapabilities, Process, User};
use rustix::fs::{Mode, OFlags};

use crate::cgroup::Hierarchy;
use crate::error::{Error, Storing as _};
use crate::newborn::{self, Nest};
use crate::seccomp::Filters;
use crate::spec;

use super::attend;
use super::birth::{Cradle, Newborn};
use super::create::Console;
use super::foreground::{Foreground, block_signals};
use super::handover::Handover;
use super::record::{Record, Status};
use super::{Runtime, cgroups};

/// What to execute, and where.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The container.
    pub id: String,
    /// The process.
    pub target: Target,
    /// Whether this process does not wait for it.
    pub detach: bool,
    /// What passes between it and the caller.
    pub handover: Handover,
    /// Whether a paused container will do: the process starts to run when it is resumed.
    pub ignore_paused: bool,
    /// A cgroup below the container's, by its path from there.
    pub cgroup: Option<String>,
}

/// What to execute.
#[derive(Clone, Debug)]
pub enum Target {
    /// A process as the specification has it, from a file.
    File(PathBuf),
    /// The container's own process, with these changes.
    Command {
        /// Program and arguments.
        args: Vec<String>,
        /// Working directory.
        cwd: Option<PathBuf>,
        /// More variables of the environment.
        env: Vec<String>,
        /// Whether it has a terminal.
        terminal: bool,
        /// `UID[:GID]`.
        user: Option<String>,
        /// More groups.
        additional_gids: Vec<u32>,
        /// More capabilities.
        capabilities: Vec<String>,
        /// Whether it may gain no privileges; as the container's if not said.
        no_new_privileges: bool,
        /// AppArmor profile.
        apparmor: Option<String>,
        /// SELinux label.
        label: Option<String>,
    },
}

impl Runtime {
    /// Executes a process in a container; answers its exit code, or 0 if it is detached.
    ///
    /// # Errors
    /// [`Error::WrongState`] unless the container is created or runs, [`Error::Start`] with what
    /// kept the program from running.
    pub fn exec(&self, exec: &Exec) -> Result<i32, Error> {
        let record = self.load(&exec.id)?;
        let init = self.enterable(&record, exec.ignore_paused)?;
        let process = process(&record, &exec.target)?;
        require_console(&process, exec)?;
        let signals = if exec.detach { None } else { Some(block_signals()?) };
        let mut console = exec.handover.console();
        let hierarchy = self.hierarchy()?;
        let newborn = execute(hierarchy, &record, &init, &process, exec, &mut console)?;
        exec.handover.tell_of(&newborn)?;
        match (newborn.keep(), signals) {
            (Some(child), Some(signals)) => {
                Foreground { child, master: console.master, signals }.wait()
            }
            _ => Ok(0),
        }
    }

    /// The container's first process, if others may join it.
    fn enterable(&self, record: &Record, ignore_paused: bool) -> Result<OwnedFd, Error> {
        let status = self.status(record)?;
        let id = &record.id;
        let verb = match status {
            Status::Paused => "exec in a paused container, without --ignore-paused",
            _ => "exec in it",
        };
        let refused = || Error::WrongState { id: id.clone(), state: status.name(), verb };
        match status {
            Status::Created | Status::Running => {}
            Status::Paused if ignore_paused => {}
            _ => return Err(refused()),
        }
        let life = record.process.ok_or_else(refused)?;
        life.open().storing("open the process of", id)?.ok_or_else(refused)
    }
}

fn execute(
    hierarchy: &Hierarchy,
    record: &Record,
    init: &OwnedFd,
    process: &Process,
    exec: &Exec,
    console: &mut Console<'_>,
) -> Result<Newborn, Error> {
    let env = process.env().iter().flatten().map(|entry| entry.clone().into_bytes()).collect();
    let filters = Filters::default();
    let seccomp = record.seccomp(&filters, record.process.map(|life| life.pid));
    let mut plan = spec::exec(&record.spec, process, env, false, &seccomp)?;
    if let Some(process) = &mut plan.process {
        exec.handover.equip(process, record)?;
    }
    let place = match &exec.cgroup {
        Some(below) => cgroups::below(&record.cgroup, below)?,
        None => cgroups::of_process(hierarchy, record)?,
    };
    let cgroup = hierarchy.open_cgroup(&place)?;
    let root = plan.shared_root.map(|_| root_of(record, init)).transpose()?;
    let cradle = Cradle {
        cgroup: cgroup.as_fd(),
        nest: Nest::Of(init.as_fd()),
        handles: [init].into_iter().chain(&root).map(OwnedFd::as_fd).collect(),
    };
    let initial = spec::initial_cpus(process)?;
    let mut newborn = Newborn::clone_on(initial.as_ref(), &plan, cradle)?;
    attend::joined(record, newborn.pid())?;
    newborn.hear(console)?;
    Ok(newborn)
}

/// The root directory of the container's first process.
fn root_of(record: &Record, init: &OwnedFd) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{}/root", record.process.map_or(0, |life| life.pid));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty()).storing("open", &path)?;
    // Its PID is nobody else's until it has been waited for.
    match newborn::pid_of(init.as_fd()).storing("find the process of", &record.id)? {
        Some(_) => Ok(root),
        None => {
            Err(io::Error::from(io::ErrorKind::NotFound)).storing("find the process of", &record.id)
        }
    }
}

fn require_console(process: &Process, exec: &Exec) -> Result<(), Error> {
    let terminal = process.terminal().unwrap_or(false);
    match (terminal, &exec.handover.console_socket) {
        (true, None) if exec.detach => {
            Err(Error::Spec("a terminal needs --console-socket with --detach".to_owned()))
        }
        (false, Some(_)) => Err(Error::Spec("--console-socket needs a terminal".to_owned())),
        _ => Ok(()),
    }
}

fn process(record: &Record, target: &Target) -> Result<Process, Error> {
    match target {
        Target::File(path) => {
            let bytes = fs::read(path).storing("read", path)?;
            spec::parse_process(&bytes)
        }
        Target::Command { .. } => {
            let own = record.spec.process().clone();
            let own = own.ok_or_else(|| Error::Spec("process is missing".to_owned()))?;
            adapt(own, target)
        }
    }
}

/// The container's own process, with the changes of a command line.
fn adapt(mut process: Process, target: &Target) -> Result<Process, Error> {
    let Target::Command {
        args,
        cwd,
        env,
        terminal,
        user,
        additional_gids,
        capabilities,
        no_new_privileges,
        apparmor,
        label,
    } = target
    else {
        return Ok(process);
    };
    let mut all = process.env().clone().unwrap_or_default();
    all.extend(env.iter().cloned());
    process.set_args(Some(args.clone())).set_env(Some(all)).set_terminal(Some(*terminal));
    if let Some(cwd) = cwd {
        process.set_cwd(cwd.clone());
    }
    if *no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    if apparmor.is_some() {
        process.set_apparmor_profile(apparmor.clone());
    }
    if label.is_some() {
        process.set_selinux_label(label.clone());
    }
    let mut identity = match user {
        Some(text) => parse_user(text, process.user())?,
        None => process.user().clone(),
    };
    let mut groups = identity.additional_gids().clone().unwrap_or_default();
    groups.extend(additional_gids);
    identity.set_additional_gids(Some(groups));
    process.set_user(identity);
    if !capabilities.is_empty() {
        let sets = process.capabilities().clone().unwrap_or_else(no_capabilities);
        process.set_capabilities(Some(with_capabilities(sets, capabilities)?));
    }
    Ok(process)
}

/// `UID[:GID]`, in decimal. Nothing else: a name that looks like a number, or a number that does
/// not fit, must never end as root (CVE-2026-30892).
fn parse_user(text: &str, own: &User) -> Result<User, Error> {
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = part.parse::<u32>().ok().filter(|number| digits && *number != u32::MAX);
        number.ok_or_else(|| Error::Spec(format!("--user {text:?} is not UID[:GID]")))
    };
    let mut user = own.clone();
    user.set_uid(number(uid)?);
    if let Some(gid) = gid {
        user.set_gid(number(gid)?);
    }
    Ok(user)
}

fn no_capabilities() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_permitted(None);
    sets.set_inheritable(None).set_ambient(None);
    sets
}

fn capability(name: &str) -> Result<Capability, Error> {
    let named = serde_json::from_value(serde_json::Value::String(name.to_ascii_uppercase()));
    named.map_err(|_| Error::Spec(format!("unknown capability {name:?}")))
}

/// Adds to the sets that a program is judged by, never to the inheritable ones. What is in those
/// becomes ambient, or a user other than root would have nothing of it.
fn with_capabilities(
    mut sets: LinuxCapabilities,
    names: &[String],
) -> Result<LinuxCapabilities, Error> {
    let more: Result<Vec<Capability>, _> = names.iter().map(|name| capability(name)).collect();
    let more = more?;
    let with = |set: &Option<std::collections::HashSet<Capability>>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(more.iter().copied());
        Some(set)
    };
    if let Some(inheritable) = sets.inheritable().clone().filter(|set| !set.is_empty()) {
        let mut ambient = sets.ambient().clone().unwrap_or_default();
        ambient.extend(more.iter().filter(|capability| inheritable.contains(capability)));
        sets.set_ambient(Some(ambient));
    }
    let (bounding, effective, permitted) =
        (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_and_nothing_else() {
        let own = User::default();
        let parsed = |text: &str| parse_user(text, &own).map(|user| (user.uid(), user.gid()));
        assert_eq!(parsed("1").unwrap(), (1, 0));
        assert_eq!(parsed("1000:7").unwrap(), (1000, 7));
        assert_eq!(parsed("4294967294").unwrap(), (4_294_967_294, 0));
        for bad in
            ["", "root", "-1", "+1", "4294967295", "4294967296", "1:", ":1", "1:x", "0x0", "1 "]
        {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn capabilities_are_added_to_what_counts() {
        let sets = |json: &str| serde_json::from_str::<LinuxCapabilities>(json).unwrap();
        let with = |sets, name: &str| with_capabilities(sets, &[name.to_owned()]).unwrap();
        let has = |set: &Option<std::collections::HashSet<Capability>>| {
            set.as_ref().is_some_and(|set| set.contains(&Capability::Kill))
        };
        for name in ["CAP_KILL", "cap_kill"] {
            let given = with(no_capabilities(), name);
            assert!(has(given.bounding()) && has(given.effective()) && has(given.permitted()));
            assert!(!has(given.inheritable()) && !has(given.ambient()));
        }
        assert!(has(with(sets(r#"{"inheritable": ["CAP_KILL"]}"#), "CAP_KILL").ambient()));
        assert!(!has(with(sets(r#"{"inheritable": ["CAP_CHOWN"]}"#), "CAP_KILL").ambient()));
        assert!(with_capabilities(no_capabilities(), &["CAP_NONE".to_owned()]).is_err());
    }
}
