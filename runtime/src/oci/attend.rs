//! What the parent does for a container beside hearing it out: hooks, interfaces of the host,
//! and its class of cache and memory bandwidth.
//!
//! ```text
//! create   the child's namespaces and root are made, it waits ─► resctrl, interfaces,
//!          prestart and createRuntime hooks
//! start    its program runs ─► poststart hooks
//! delete   nothing of it is left but the record ─► poststop hooks
//! ```

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use crate::error::{Error, Storing as _};
use crate::hooks::{Kind, StateJson, run_all};
use crate::netdevices::{self, NetDevice};
use crate::plan::About;
use crate::rdt::{Allocation, Resctrl};
use crate::spec::{self, Hooks};

use super::birth::Parent;
use super::record::Record;

/// A parent with all that is to be done for one container.
#[derive(Debug)]
pub(super) struct Attendant<'a, P> {
    console: &'a mut P,
    about: About,
    hooks: Hooks,
    devices: Vec<NetDevice>,
    allocation: Option<Allocation>,
}

impl<'a, P: Parent> Attendant<'a, P> {
    /// Reads what is to be done from the container's specification.
    pub(super) fn new(record: &Record, console: &'a mut P) -> Result<Self, Error> {
        Ok(Self {
            console,
            about: about(record),
            hooks: spec::hooks(&record.spec)?,
            devices: spec::net_devices(&record.spec)?,
            allocation: spec::rdt(&record.spec, &record.id)?,
        })
    }

    /// Whether the child has to wait for it.
    pub(super) fn is_needed(&self) -> bool {
        let Hooks { prestart, create_runtime, .. } = &self.hooks;
        let hooks = !prestart.is_empty() || !create_runtime.is_empty();
        hooks || !self.devices.is_empty() || self.allocation.is_some()
    }
}

impl<P: Parent> Parent for Attendant<'_, P> {
    fn take_terminal(&mut self, master: OwnedFd) -> Result<(), Error> {
        self.console.take_terminal(master)
    }

    fn use_namespaces(&mut self, pid: i32) -> Result<(), Error> {
        if let Some(allocation) = &self.allocation {
            Resctrl::find()?.apply(allocation, pid)?;
        }
        if !self.devices.is_empty() {
            let path = format!("/proc/{pid}/ns/net");
            let namespace = File::open(&path).storing("open", path)?;
            netdevices::move_all(&self.devices, namespace.as_fd())?;
        }
        for kind in [Kind::Prestart, Kind::CreateRuntime] {
            run_all(kind, self.hooks.of(kind), &StateJson::new(&self.about, kind, Some(pid)))?;
        }
        self.console.use_namespaces(pid)
    }
}

/// What hooks are told of a container.
pub(super) fn about(record: &Record) -> About {
    About {
        id: record.id.clone(),
        bundle: record.bundle.to_string_lossy().into_owned(),
        ..spec::about(&record.spec)
    }
}

/// Runs the hooks that come once the program runs.
pub(super) fn started(record: &Record, pid: i32) -> Result<(), Error> {
    let hooks = spec::hooks(&record.spec)?;
    let state = StateJson::new(&about(record), Kind::Poststart, Some(pid));
    run_all(Kind::Poststart, &hooks.poststart, &state)
}

/// Puts another process of the container into its class.
pub(super) fn joined(record: &Record, pid: i32) -> Result<(), Error> {
    match spec::rdt(&record.spec, &record.id)? {
        Some(allocation) => Resctrl::find()?.enter(&allocation, pid),
        None => Ok(()),
    }
}

/// Removes what [`Attendant`] has made, and runs the hooks that come last. A hook that fails
/// keeps nobody from deleting a container.
pub(super) fn gone(record: &Record) -> Result<(), Error> {
    if let Some(allocation) = spec::rdt(&record.spec, &record.id)?
        && let Ok(resctrl) = Resctrl::find()
    {
        resctrl.remove(&allocation)?;
    }
    // Without a process there were no namespaces for the others to be run for.
    if record.process.is_some() {
        let hooks = spec::hooks(&record.spec)?;
        let state = StateJson::new(&about(record), Kind::Poststop, None);
        if let Err(error) = run_all(Kind::Poststop, &hooks.poststop, &state) {
            tracing::warn!(%error, "ignoring");
        }
    }
    Ok(())
}
