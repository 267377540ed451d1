//! Containers by the standard OCI command line, for other engines and other people's tests.
//!
//! Every call is a short-lived process of one thread that does what berthd and its shim do
//! together: it plans ([`crate::spec`]), makes the cgroup, clones the child (`newborn`)
//! and hears it out. What must outlive the call lies in the container's directory.
//!
//! ```text
//! create ─► record ─► cgroup ─► child ─► … ─► it waits at start.sock
//! start  ─► connects there ─────────────────► it executes, or says why not
//! delete ─► kill ─► cgroup ─► record
//!
//! ROOT/ID/state.json    what is known of the container; the first thing made, the last to go
//! ROOT/ID/start.sock    while it is created and not started; its own process listens
//! ```
//!
//! Reference: the OCI runtime specification, `runtime.md`, and the command line of runc.

mod attend;
mod birth;
mod cgroups;
mod create;
mod criu;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod guard;
mod handover;
mod kill;
mod life;
mod listeners;
mod pause;
mod record;
mod run;
mod scope;
mod start;
mod state;
mod template;
mod update;

use std::cell::OnceCell;
use std::path::PathBuf;

pub use create::Create;
pub use criu::{Checkpoint, Criu, RESTORER, Restore, restore_here};
pub use events::Event;
pub use exec::{Exec, Target};
pub use features::features;
pub(crate) use guard::CLONING;
pub use guard::guard_program;
pub use handover::Handover;
pub use kill::signal_number;
pub use record::{Record, Status};
pub use run::Keep;
pub use scope::{HELPER, hold_scope};
pub use state::Described;
pub use template::template;
pub use update::{IntelRdt, Update};

pub use crate::clock::rfc3339 as timestamp;

use crate::cgroup::Hierarchy;
use crate::error::Error;
use crate::sys::clone::SingleThreaded;

/// The containers below one root directory.
#[derive(Clone, Debug)]
pub struct Runtime {
    root: PathBuf,
    /// Opened when it is first asked for.
    hierarchy: OnceCell<Hierarchy>,
}

impl Runtime {
    /// Takes the directory of all containers' records, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), hierarchy: OnceCell::new() }
    }

    /// The hierarchy of cgroup version 2.
    fn hierarchy(&self) -> Result<&Hierarchy, Error> {
        if let Some(hierarchy) = self.hierarchy.get() {
            return Ok(hierarchy);
        }
        let opened = cgroups::hierarchy()?;
        Ok(self.hierarchy.get_or_init(|| opened))
    }
}

/// Proof that this program may clone; `berth-oci` never has a second thread.
fn alone() -> Result<SingleThreaded, Error> {
    use crate::error::Storing as _;
    SingleThreaded::check().storing("count the threads in", "/proc/self/task")
}
