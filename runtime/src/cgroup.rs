//! The cgroup v2 hierarchy, and the cgroups that are ours in it.
//!
//! A process is never moved: it is cloned into its cgroup, which is complete by then. A cgroup
//! of ours carries the extended attribute `trusted.berth`, whose value is the state directory
//! of its daemon, so that the audit finds those that nobody remembers.

mod change;
mod devices;
mod events;
pub mod limits;
pub(crate) mod oom;
mod path;
mod stats;
pub mod systemd;
mod tree;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, RefusedLimit};

use events::{Event, Events};

pub use change::Undone;
pub use path::CgroupPath;
pub use stats::Stats;

/// `CGROUP2_SUPER_MAGIC`.
const CGROUP2: libc::c_long = 0x6367_7270;

/// How long killed processes may take to go. One that sleeps in the kernel takes as long as
/// what it sleeps for.
const DEATH: Duration = Duration::from_secs(10);

/// What becomes of a limit whose controller the host does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingControllers {
    /// The request is refused.
    Refuse,
    /// The limit is left out, with a warning.
    Tolerate,
}

/// A mounted cgroup v2 hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    owner: String,
    controllers: BTreeSet<String>,
    missing: MissingControllers,
    filters: devices::Filters,
}

impl Hierarchy {
    /// Opens the hierarchy that is mounted at `root`; `owner` marks what is made in it.
    ///
    /// # Errors
    /// If nothing of cgroup version 2 is mounted there.
    pub fn open(root: &Path, owner: &str, missing: MissingControllers) -> Result<Self, Error> {
        let failed = |attempt, source| Error::Cgroup { attempt, cgroup: "/".to_owned(), source };
        let statfs = rustix::fs::statfs(root).map_err(|error| failed("look at", error.into()))?;
        if statfs.f_type != CGROUP2 {
            let text = format!("{} is not cgroup version 2", root.display());
            return Err(failed("open", io::Error::other(text)));
        }
        let controllers = fs::read_to_string(root.join("cgroup.controllers"))
            .map_err(|error| failed("read the controllers of", error))?;
        Ok(Self(Arc::new(Inner {
            root: root.to_owned(),
            owner: owner.to_owned(),
            controllers: controllers.split_whitespace().map(str::to_owned).collect(),
            missing,
            filters: devices::Filters::default(),
        })))
    }

    /// The controllers that the host has.
    pub fn controllers(&self) -> impl Iterator<Item = &str> {
        self.0.controllers.iter().map(String::as_str)
    }

    /// Makes the cgroup at `path` with all that is missing above it, and applies `resources`.
    ///
    /// # Errors
    /// If the hierarchy refuses, or lacks a controller that a limit needs. What was made by
    /// then stays, for the caller's teardown.
    pub fn create(&self, path: &CgroupPath, resources: &LinuxResources) -> Result<(), Error> {
        let writes = self.possible(limits::plan(resources)?)?;
        let rules = resources.devices().as_deref().map(devices::parse).transpose()?;
        self.make_directories(path)?;
        let failed = |attempt| path.failed(attempt);
        let directory = self.directory(path);
        let fd = open_directory(&directory).map_err(failed("open"))?;
        for write in writes {
            if let Err(source) = change::write(&directory, &write) {
                return Err(not_set(path, write, source, Vec::new()));
            }
        }
        if let Some(rules) = rules {
            self.0.filters.apply(fd.as_fd(), &rules).map_err(failed("restrict the devices of"))?;
        }
        Ok(())
    }

    /// Changes the limits of a cgroup that is in use, and its device filter if `resources` speak
    /// of devices: all of it, or on any failure nothing.
    ///
    /// A limit that `resources` do not have stays as it is; those that belong together (quota
    /// and period, memory and swap) are given together.
    ///
    /// # Errors
    /// [`Error::Limit`] with the file that could not be changed and what was set back.
    /// [`Error::Spec`] if more memory is in use than `resources` would leave and they ask to
    /// check that (`checkBeforeUpdate`).
    pub fn update(&self, path: &CgroupPath, resources: &LinuxResources) -> Result<(), Error> {
        self.update_and(path, resources, || Ok(()))
    }

    /// [`Hierarchy::update`] that somebody else is told of, and may refuse: then, too, nothing is
    /// changed.
    ///
    /// # Errors
    /// As [`Hierarchy::update`], and what `tell` answers.
    pub fn update_and(
        &self,
        path: &CgroupPath,
        resources: &LinuxResources,
        tell: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let writes = self.possible(limits::plan(resources)?)?;
        let rules = resources.devices().as_deref().map(devices::parse).transpose()?;
        let directory = self.directory(path);
        let fd = open_directory(&directory).map_err(path.failed("open"))?;
        if let Some(memory) = resources.memory() {
            limits::check_usage(memory, &Stats::read(&directory))?;
        }
        let mut untold = None;
        let last = || {
            if let Err(error) = tell() {
                let text = io::Error::other(error.to_string());
                untold = Some(error);
                return Err(text);
            }
            rules.iter().try_for_each(|rules| self.0.filters.apply(fd.as_fd(), rules))
        };
        let changed = change::change(&directory, writes, last);
        changed.map_err(|refused| {
            let not_set = || not_set(path, refused.write, refused.source, refused.undone);
            untold.unwrap_or_else(not_set)
        })
    }

    /// Makes a cgroup in one that has processes, which takes no controllers.
    ///
    /// # Errors
    /// If the hierarchy refuses.
    pub fn create_below_processes(&self, path: &CgroupPath) -> Result<(), Error> {
        fs::create_dir(self.directory(path)).map_err(path.failed("make"))
    }

    /// Removes a cgroup if nothing is in it.
    pub fn remove_if_unused(&self, path: &CgroupPath) {
        let _ = fs::remove_dir(self.directory(path));
    }

    /// Opens the directory of a cgroup, to clone a process into it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open_cgroup(&self, path: &CgroupPath) -> Result<OwnedFd, Error> {
        open_directory(&self.directory(path)).map_err(path.failed("open"))
    }

    /// The directory of a cgroup, for other programs.
    pub fn path(&self, path: &CgroupPath) -> PathBuf {
        self.directory(path)
    }

    /// Whether a cgroup is there.
    pub fn exists(&self, path: &CgroupPath) -> bool {
        self.directory(path).is_dir()
    }

    /// Kills all processes in and below a cgroup (`cgroup.kill`, Linux 5.14); none is fine.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn kill(&self, path: &CgroupPath) -> Result<(), Error> {
        match fs::write(self.directory(path).join("cgroup.kill"), "1") {
            Err(error) if !is_gone(&error) => Err(path.failed("kill the processes of")(error)),
            _ => Ok(()),
        }
    }

    /// Kills what is left in a cgroup, waits until it is gone, and removes it with all below,
    /// and those above that were made for it and are empty now; one that is gone is fine.
    ///
    /// # Errors
    /// If processes outlive `SIGKILL` for ten seconds, or the kernel refuses.
    pub async fn remove(&self, path: &CgroupPath) -> Result<(), Error> {
        if self.remove_unless_used(path)? {
            return Ok(());
        }
        self.empty(path, DEATH).await?;
        self.remove_emptied(path)
    }

    /// [`Hierarchy::remove`] for programs without an async runtime: the thread waits.
    ///
    /// # Errors
    /// As [`Hierarchy::remove`].
    pub fn remove_blocking(&self, path: &CgroupPath) -> Result<(), Error> {
        if self.remove_unless_used(path)? {
            return Ok(());
        }
        self.wait_blocking(path, Event::Empty, "empty", DEATH)?;
        self.remove_emptied(path)
    }

    /// Removes a cgroup if no process is in the way; else has them killed, and tells so.
    fn remove_unless_used(&self, path: &CgroupPath) -> Result<bool, Error> {
        let directory = self.directory(path);
        if tree::remove(&directory).is_ok() {
            self.remove_above(&directory);
            return Ok(true);
        }
        self.kill(path)?;
        Ok(false)
    }

    fn remove_emptied(&self, path: &CgroupPath) -> Result<(), Error> {
        let directory = self.directory(path);
        tree::remove(&directory).map_err(path.failed("remove"))?;
        self.remove_above(&directory);
        Ok(())
    }

    /// PIDs of the processes in and below a cgroup; one that is gone has none.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn processes(&self, path: &CgroupPath) -> Result<Vec<i32>, Error> {
        tree::processes(&self.directory(path)).map_err(path.failed("look into"))
    }

    /// Has every process in and below a cgroup stand still, or go on, and waits with the thread
    /// until they do.
    ///
    /// # Errors
    /// [`Error::Deadline`] if one still runs after ten seconds, which a process that sleeps in
    /// the kernel may; it is frozen when it wakes.
    pub fn freeze(&self, path: &CgroupPath, frozen: bool) -> Result<(), Error> {
        let (value, event, attempt) =
            if frozen { ("1", Event::Frozen, "freeze") } else { ("0", Event::Thawed, "thaw") };
        let file = self.directory(path).join("cgroup.freeze");
        fs::write(file, value).map_err(path.failed(attempt))?;
        self.wait_blocking(path, event, attempt, DEATH)
    }

    /// Whether every process of a cgroup stands still, because of itself or of one above it.
    pub fn is_frozen(&self, path: &CgroupPath) -> bool {
        let text = fs::read_to_string(self.directory(path).join("cgroup.events"));
        text.is_ok_and(|text| text.lines().any(|line| line == "frozen 1"))
    }

    /// What a cgroup has used; absent if it is gone.
    pub fn stats(&self, path: &CgroupPath) -> Option<Stats> {
        let directory = self.directory(path);
        directory.is_dir().then(|| Stats::read(&directory))
    }

    /// How many processes of a cgroup the kernel has killed for memory; none where there is no
    /// memory controller.
    pub fn oom_kills(&self, path: &CgroupPath) -> u64 {
        self.open_cgroup(path).map_or(0, |cgroup| oom::oom_kills(cgroup.as_fd()))
    }

    /// Waits until no process is left in and below a cgroup; one that is gone has none.
    ///
    /// # Errors
    /// [`Error::Deadline`] if there are processes after `patience`.
    pub async fn empty(&self, path: &CgroupPath, patience: Duration) -> Result<(), Error> {
        let Some(events) = self.events(path)? else { return Ok(()) };
        let waited = tokio::time::timeout(patience, events.wait(Event::Empty)).await;
        waited.map_err(|_| late("empty", path, patience))?.map_err(path.failed("watch"))
    }

    fn wait_blocking(
        &self,
        path: &CgroupPath,
        event: Event,
        attempt: &str,
        patience: Duration,
    ) -> Result<(), Error> {
        let Some(events) = self.events(path)? else { return Ok(()) };
        match events.wait_blocking(event, Instant::now() + patience) {
            Ok(true) => Ok(()),
            Ok(false) => Err(late(attempt, path, patience)),
            Err(error) => Err(path.failed("watch")(error)),
        }
    }

    fn events(&self, path: &CgroupPath) -> Result<Option<Events>, Error> {
        Events::open(&self.directory(path)).map_err(path.failed("watch"))
    }

    /// Keeps the writes whose controller is there, and refuses or drops the others.
    fn possible(&self, writes: Vec<limits::Write>) -> Result<Vec<limits::Write>, Error> {
        let has =
            |controller: &str| controller == "cgroup" || self.0.controllers.contains(controller);
        let (possible, missing): (Vec<_>, _) =
            writes.into_iter().partition(|write| has(write.controller()));
        for write in missing {
            if self.0.missing == MissingControllers::Refuse {
                let controller = write.controller().to_owned();
                return Err(Error::MissingController { controller, limit: write.file });
            }
            tracing::debug!(limit = write.file, "no controller for a limit, ignoring");
        }
        Ok(possible)
    }

    fn directory(&self, path: &CgroupPath) -> PathBuf {
        self.0.root.join(path.as_str().trim_start_matches('/'))
    }
}

fn open_directory(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::empty())?)
}

fn not_set(
    path: &CgroupPath,
    write: limits::Write,
    source: io::Error,
    undone: Vec<Undone>,
) -> Error {
    let limits::Write { file, value, field, .. } = write;
    let cgroup = path.to_string();
    Error::Limit(Box::new(RefusedLimit { cgroup, file, value, field, source, undone }))
}

fn late(attempt: &str, path: &CgroupPath, after: Duration) -> Error {
    Error::Deadline { attempt: format!("{attempt} cgroup {path}"), after }
}

/// A cgroup that is removed while one of its files is open answers `ENODEV`.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
