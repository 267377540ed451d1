//! `create`: everything but the start.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::net::SocketFlags;

use crate::error::{Error, Storing as _};
use crate::newborn::Nest;
use crate::plan::Handle;
use crate::protocol::PidNamespace;
use crate::seccomp::Filters;
use crate::socket;
use crate::spec::{self, Blueprint, Rootfs, Surroundings};

use super::attend::{self, Attendant};
use super::birth::{Cradle, Newborn, Parent};
use super::handover::Handover;
use super::life::Life;
use super::record::{GATE, Hold, Record, absolute};
use super::scope::Claim;
use super::{Runtime, cgroups};

/// A container to create.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// Its id.
    pub id: String,
    /// Whether systemd makes its cgroup, as a scope.
    pub systemd: bool,
    /// The directory with its `config.json`.
    pub bundle: PathBuf,
    /// What passes between its first process and the caller.
    pub handover: Handover,
    /// Whether its root is moved over the host's instead of pivoted into.
    pub no_pivot: bool,
    /// Whether it stays in the session keyring of its creator.
    pub no_new_keyring: bool,
}

/// Whether a new process waits for [`Runtime::start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It waits.
    Closed,
    /// It runs at once.
    Open,
}

impl Runtime {
    /// Creates a container, whose process waits to be started. If that fails, nothing is left.
    ///
    /// # Errors
    /// [`Error::Exists`] if the id is taken, [`Error::Spec`] if its configuration is wrong,
    /// [`Error::Start`] with the step that failed.
    pub fn create(&self, request: &Create) -> Result<(), Error> {
        let spec = load(&request.bundle)?;
        require_console(&spec, request)?;
        let mut console = request.handover.console();
        let (_hold, _, newborn) = self.make(request, spec, Gate::Closed, &mut console)?;
        newborn.keep();
        Ok(())
    }

    /// Makes a container and its process; undoes all of it if a step fails.
    pub(super) fn make(
        &self,
        request: &Create,
        spec: Spec,
        gate: Gate,
        console: &mut Console<'_>,
    ) -> Result<(Hold, Record, Newborn), Error> {
        let bundle = absolute(&request.bundle)?;
        let mut record = describe(request, spec, bundle)?;
        // Refuses what could not be run, while there is nothing to undo.
        let blueprint = blueprint(&record, request)?;
        let hold = self.reserve_with_cgroup(&record)?;
        let made = self
            .save(&record)
            .and_then(|()| self.populate(&mut record, blueprint, gate, console))
            .and_then(|newborn| request.handover.tell_of(&newborn).map(|()| newborn));
        match made {
            Ok(newborn) => Ok((hold, record, newborn)),
            Err(error) => {
                // The first error is the one that matters.
                let _ = self.tear_down(&record);
                Err(error)
            }
        }
    }

    /// Holds a new container, whose cgroup nobody else is in.
    pub(super) fn reserve_with_cgroup(&self, record: &Record) -> Result<Hold, Error> {
        let hold = self.reserve(&record.id)?;
        let used =
            self.hierarchy().and_then(|cgroups| cgroups::refuse_used(cgroups, &record.cgroup));
        if let Err(error) = used {
            // Not by the usual teardown: what is in that cgroup is somebody else's.
            self.forget(&record.id)?;
            return Err(error);
        }
        Ok(hold)
    }

    fn populate(
        &self,
        record: &mut Record,
        blueprint: Blueprint,
        gate: Gate,
        console: &mut Console<'_>,
    ) -> Result<Newborn, Error> {
        let Blueprint { mut plan, pid_namespace, open } = blueprint;
        let hierarchy = self.hierarchy()?;
        let claim = Claim::of(record)?;
        hierarchy.create(&record.cgroup, &spec::all_resources(&record.spec))?;
        let cgroup = hierarchy.open_cgroup(&record.cgroup)?;
        let mut handles: Vec<OwnedFd> = Vec::with_capacity(open.len() + 1);
        for path in open {
            handles.push(fs::File::open(&path).storing("open namespace", path)?.into());
        }
        if gate == Gate::Closed {
            let directory = self.directory(&record.id);
            let socket = socket::listen_in(&directory, GATE, SocketFlags::empty());
            handles.push(socket.storing("listen in", directory)?);
            plan.gate = Handle::try_from(handles.len() - 1).ok();
        }
        let nest = match pid_namespace {
            PidNamespace::New(_) => Nest::New,
            PidNamespace::Host(_) => Nest::Own,
            PidNamespace::Of(handle) => Nest::Of(handles[handle as usize].as_fd()),
        };
        let handles = handles.iter().map(OwnedFd::as_fd).collect();
        let mut attendant = Attendant::new(record, console)?;
        plan.announce = attendant.is_needed();
        let mut newborn = Newborn::clone(&plan, Cradle { cgroup: cgroup.as_fd(), nest, handles })?;
        // The scope has a process now that stays.
        drop(claim);
        record.process = Some(Life::of(newborn.pid()).storing("look at", "the new process")?);
        self.save(record)?;
        newborn.hear(&mut attendant)?;
        // It may have gone on in another process.
        if record.process.is_none_or(|life| life.pid != newborn.pid()) {
            record.process = Some(Life::of(newborn.pid()).storing("look at", "the new process")?);
            self.save(record)?;
        }
        Ok(newborn)
    }
}

/// Where the master of a new terminal goes.
#[derive(Debug)]
pub(super) struct Console<'a> {
    /// To who listens there.
    pub(super) socket: Option<&'a Path>,
    /// Or to this process, which keeps it.
    pub(super) master: Option<OwnedFd>,
}

impl Parent for Console<'_> {
    fn take_terminal(&mut self, master: OwnedFd) -> Result<(), Error> {
        match self.socket {
            Some(path) => socket::hand_over(path, "/dev/ptmx", master.as_fd())
                .storing("send the terminal to", path),
            None => {
                self.master = Some(master);
                Ok(())
            }
        }
    }

    fn use_namespaces(&mut self, _pid: i32) -> Result<(), Error> {
        Ok(())
    }
}

/// Reads a bundle's configuration.
pub(super) fn load(bundle: &Path) -> Result<Spec, Error> {
    let path = bundle.join("config.json");
    let bytes = fs::read(&path).storing("read", &path)?;
    spec::parse(&bytes)
}

/// A process with a terminal that nobody would hold, or the other way round.
fn require_console(spec: &Spec, request: &Create) -> Result<(), Error> {
    let terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    match (terminal, &request.handover.console_socket) {
        (true, None) => Err(Error::Spec(
            "process.terminal needs --console-socket when the runtime does not stay".to_owned(),
        )),
        (false, Some(_)) => Err(Error::Spec("--console-socket needs process.terminal".to_owned())),
        _ => Ok(()),
    }
}

pub(super) fn describe(request: &Create, spec: Spec, bundle: PathBuf) -> Result<Record, Error> {
    let root = spec.root().as_ref().ok_or_else(|| Error::Spec("root is missing".to_owned()))?;
    let rootfs = bundle.join(root.path());
    let rootfs = fs::canonicalize(&rootfs)
        .map_err(|error| Error::Spec(format!("root.path {}: {error}", rootfs.display())))?;
    let unit = match request.systemd {
        true => Some(cgroups::unit(&spec, &request.id)?),
        false => None,
    };
    let cgroup = match &unit {
        Some(unit) => unit.cgroup()?,
        None => cgroups::place(&spec, &request.id)?,
    };
    Ok(Record {
        id: request.id.clone(),
        cgroup,
        unit,
        bundle,
        rootfs,
        created: crate::clock::rfc3339(),
        owner: owner(),
        keyring: !request.no_new_keyring,
        process: None,
        spec,
    })
}

fn owner() -> String {
    let uid = rustix::process::getuid();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.as_raw().to_string();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    });
    name.map_or(number.clone(), str::to_owned)
}

fn blueprint(record: &Record, request: &Create) -> Result<Blueprint, Error> {
    let env = record.spec.process().as_ref().and_then(|process| process.env().as_ref());
    let env: Vec<_> = env.into_iter().flatten().map(|entry| entry.clone().into_bytes()).collect();
    let filters = Filters::default();
    let around = Surroundings {
        rootfs: &Rootfs::Directory(record.rootfs.clone()),
        attach: &record.rootfs,
        bundle: Some(&record.bundle),
        no_pivot: request.no_pivot,
        members: &[],
        env: &env,
        oom_score_adj_best_effort: false,
        seccomp: record.seccomp(&filters, None),
    };
    let mut blueprint = spec::plan(&record.spec, &around)?;
    if let Some(process) = &mut blueprint.plan.process {
        request.handover.equip(process, record)?;
    }
    if let Some(hooks) = &mut blueprint.plan.hooks {
        hooks.about = attend::about(record);
    }
    Ok(blueprint)
}
