//! What the caller of `create`, `run` and `exec` gives a new process, and is told of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::thread::CapabilitySet;

use crate::error::{Error, Storing as _};
use crate::plan::Process;
use crate::{socket, spec};

use super::birth::Newborn;
use super::create::Console;
use super::listeners;
use super::record::Record;

/// Descriptors and names that pass between a caller and a new process.
#[derive(Clone, Debug, Default)]
pub struct Handover {
    /// The socket that the master of its terminal is sent to.
    pub console_socket: Option<PathBuf>,
    /// The file that its PID is written to.
    pub pid_file: Option<PathBuf>,
    /// The socket that a pidfd of it is sent to.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors from 3 on it inherits.
    pub preserve_fds: u32,
}

impl Handover {
    /// Where the master of its terminal goes.
    pub(super) fn console(&self) -> Console<'_> {
        Console { socket: self.console_socket.as_deref(), master: None }
    }

    /// Gives a planned process what is the caller's to give.
    pub(super) fn equip(&self, process: &mut Process, record: &Record) -> Result<(), Error> {
        // Nobody's terminal but ours.
        process.plain_lines = self.console_socket.is_none();
        process.preserve_fds = self.preserve_fds + listeners::adopt(process);
        if record.keyring {
            process.keyring = spec::session_keyring(&record.id);
        }
        keep_to_own_capabilities(process, &record.spec)
    }

    /// Tells who wants to know which process it is.
    pub(super) fn tell_of(&self, newborn: &Newborn) -> Result<(), Error> {
        if let Some(path) = &self.pidfd_socket
            && let Some(pidfd) = newborn.pidfd()
        {
            socket::hand_over(path, "pidfd", pidfd).storing("send the pidfd to", path)?;
        }
        match &self.pid_file {
            Some(path) => write_pid(path, newborn.pid()),
            None => Ok(()),
        }
    }
}

/// Takes away what this process cannot give: the specification wants a container that starts
/// without it, and a warning. In a user namespace of its own it has everything.
fn keep_to_own_capabilities(process: &mut Process, spec: &Spec) -> Result<(), Error> {
    let namespaces = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    if namespaces.into_iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User) {
        return Ok(());
    }
    let own =
        rustix::thread::capabilities(None).storing("read the capabilities in", "/proc/self")?;
    let Some(sets) = &mut process.capabilities else { return Ok(()) };
    let missing = (sets.permitted | sets.effective | sets.ambient) & !own.permitted.bits();
    for (name, _) in CapabilitySet::from_bits_retain(missing).iter_names() {
        tracing::warn!(
            "process.capabilities: can't grant CAP_{name}: this process lacks it, ignoring"
        );
    }
    for set in [&mut sets.permitted, &mut sets.effective, &mut sets.inheritable, &mut sets.ambient]
    {
        *set &= own.permitted.bits();
    }
    Ok(())
}

/// Writes a PID file at once: who waits for it never reads half of it.
pub(super) fn write_pid(path: &Path, pid: i32) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}"));
    let written: io::Result<()> = fs::write(&temporary, pid.to_string());
    written.and_then(|()| fs::rename(&temporary, path)).storing("write", path)
}
