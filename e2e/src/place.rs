//! Where a test runs. A test names the place that it needs and is run again there, in a
//! process of its own; it never passes by skipping.
//!
//! ```text
//!   cargo test ── test fn ──► outside        new namespaces, a cgroup, a stage directory
//!                               └─► init     PID 1: mounts, lo, reaps      (this binary again)
//!                                    ├─► inside   the test itself          (and once more)
//!                                    └─► linux.uml
//!                                          └─► guest   PID 1 of the guest  (and once more)
//!                                                └─► inside
//! ```
//!
//! A whole machine is not booted from here: `.ci/machine` runs a test binary on one, and from
//! there on a test goes the way of a native one.
//!
//! Owns namespaces, mounts, cgroups and the boot of the guest; knows nothing of daemons,
//! images or pods. No process is forked by our code: a thread unshares, and what it spawns
//! by exec is born inside. PID 1 dies with the test, and with it all that the test started;
//! mounts, links and rules go with their namespaces.

mod cgroup;
mod guest;
mod init;
mod inside;
mod machine;
mod mounts;
pub mod needs;
mod outside;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};

use stage::{Again, Order, Step};

/// How long a native test may take before it is killed.
pub const NATIVE_DEADLINE: Duration = Duration::from_secs(120);

/// How long a test with cgroup controllers may take, a guest's boot included: everything
/// that forks is an order of magnitude slower in a guest.
pub const CONTROLLERS_DEADLINE: Duration = Duration::from_secs(600);

/// How long a test on a whole machine may take: an emulated one computes six times slower.
pub const MACHINE_DEADLINE: Duration = Duration::from_secs(600);

/// What a test asks of the place that it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Private namespaces at full speed; resource limits may be missing.
    Native,
    /// The cgroup v2 controllers cpu, memory and pids.
    Controllers,
    /// All that a server has, in private namespaces.
    WholeMachine,
    /// The same, beside its systemd.
    Systemd,
}

/// What kind of place a test found itself in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// Private namespaces of this machine's kernel.
    Native,
    /// A user-mode Linux guest on this machine's file system.
    Guest,
    /// This machine's own PIDs, cgroups and /run, which its systemd manages; mounts, network, IPC
    /// and host name are private.
    Systemd,
    /// The machine itself, as it is: only when `E2E_ENDPOINT` names a daemon that runs there.
    Machine,
}

/// The place that a test runs in, as the test sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Place {
    kind: Kind,
    scratch: PathBuf,
    disk: PathBuf,
    slice: String,
    evidence: Arc<Mutex<Vec<PathBuf>>>,
}

impl Place {
    /// What kind of place this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// An empty directory in memory, gone with the test. Its path is short enough for unix
    /// sockets below it, and overlayfs accepts it as an upper directory. Beside systemd it lies
    /// on the machine's disk, where services see it too.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// An empty directory on the machine's disk, removed after the test. In a guest it lies in
    /// memory, because overlayfs cannot write to the guest's view of the disk.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// Makes the directory `name` in [`Place::scratch`], if needed, and returns its path.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.scratch.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }

    /// A slice of systemd's that is the test's own, such as `berth_e2e_1a2b3c.slice`.
    pub fn slice(&self) -> &str {
        &self.slice
    }

    /// True if the cgroup v2 controller `name` can be used here.
    pub fn has_controller(&self, name: &str) -> bool {
        cgroup::controllers(Path::new(cgroup::MOUNT)).iter().any(|c| c == name)
    }

    /// Names a file whose end is printed if the test fails: a daemon's log, for example.
    pub fn keep_evidence(&self, file: impl Into<PathBuf>) {
        let file = file.into();
        let mut evidence = self.evidence.lock().unwrap_or_else(|e| e.into_inner());
        if !evidence.contains(&file) {
            evidence.push(file);
        }
    }
}

/// Runs the calling `#[test]` in private namespaces of this machine.
///
/// # Panics
/// If the test fails, does not end within [`NATIVE_DEADLINE`], or the machine lacks what the
/// place needs; the message then names the command to run.
pub fn native<T>(test: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    native_within(NATIVE_DEADLINE, test);
}

/// [`native`] with a deadline of its own.
pub fn native_within<T>(deadline: Duration, test: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    dispatch(Need::Native, Again::this_test(), deadline, test);
}

/// Runs the calling `#[test]` where the cgroup controllers cpu, memory and pids work: natively
/// if this machine has them in cgroup v2, else in a user-mode Linux guest.
///
/// # Panics
/// As [`native`], with [`CONTROLLERS_DEADLINE`].
pub fn with_controllers<T>(test: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    dispatch(Need::Controllers, Again::this_test(), CONTROLLERS_DEADLINE, test);
}

/// Runs the calling `#[test]` in private namespaces of a machine that has all that a server has:
/// every cgroup controller, AppArmor, PSI, huge pages, criu. Belongs in the test binary `full`,
/// which `make test-full` runs on such a machine.
///
/// # Panics
/// As [`native`], with [`MACHINE_DEADLINE`]; and on any lesser machine.
pub fn full_machine<T>(test: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    dispatch(Need::WholeMachine, Again::this_test(), MACHINE_DEADLINE, test);
}

/// [`full_machine`] with a deadline of its own.
pub fn full_machine_within<T>(deadline: Duration, test: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    dispatch(Need::WholeMachine, Again::this_test(), deadline, test);
}

/// As [`full_machine`], for a test that has systemd do something: PIDs, cgroups and /run are the
/// machine's own. All units of the test belong in [`Place::slice`], which ends with it.
///
/// # Panics
/// As [`full_machine`].
pub fn beside_systemd<T>(test: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    dispatch(Need::Systemd, Again::this_test(), MACHINE_DEADLINE, test);
}

/// Runs a whole program, such as a benchmark, in private namespaces of this machine.
///
/// # Panics
/// As [`native`].
pub fn native_program<T>(deadline: Duration, program: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    dispatch(Need::Native, Again::this_program(), deadline, program);
}

/// True in the process in which the test body runs.
pub fn is_inside() -> bool {
    matches!(Step::current(), Step::Inside(_))
}

fn dispatch<T>(need: Need, again: Again, deadline: Duration, test: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    match Step::current() {
        Step::Outside if std::env::var_os("E2E_ENDPOINT").is_some() => {
            inside::on_the_machine(deadline, test);
        }
        Step::Outside => {
            let order = |inside| Order::new(again, inside, deadline);
            let whole = || machine::ensure_whole();
            let ran = match need {
                Need::Controllers if !cgroup::machine_has_controllers() => {
                    outside::run(&order(Kind::Guest))
                }
                Need::Native | Need::Controllers => outside::run(&order(Kind::Native)),
                Need::WholeMachine => whole().and_then(|()| outside::run(&order(Kind::Native))),
                Need::Systemd => whole().and_then(|()| outside::run(&order(Kind::Systemd))),
            };
            if let Err(err) = ran {
                panic!("{err:#}");
            }
        }
        Step::Init(stage) => init::run(&stage),
        Step::Guest(stage) => guest::run(&stage),
        Step::Inside(stage) => inside::run(&stage, test),
    }
}
