//! The cgroup v2 hierarchy, and the cgroups that are ours in it.
//!
//! A process is never moved: it is cloned into its cgroup, which is complete by then. A cgroup
//! of ours carries the extended attribute `trusted.berth`, whose value is the state directory
//! of its daemon, so that the audit finds those that nobody remembers.

mod devices;
pub mod limits;
mod path;
mod stats;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags, XattrFlags};
use tokio::io::Interest;

use crate::error::Error;
use crate::sys::watch::watch;

pub use path::CgroupPath;
pub use stats::Stats;
pub(crate) use stats::oom_kills;

/// The attribute by which a cgroup is known as ours.
const OWNER: &str = "trusted.berth";

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
        self.make_directories(path)?;
        let failed = |attempt| path.failed(attempt);
        let directory = self.directory(path);
        let fd = open_directory(&directory).map_err(failed("open"))?;
        for write in writes {
            fs::write(directory.join(&write.file), &write.value).map_err(|source| {
                Error::Limit {
                    cgroup: path.to_string(),
                    file: write.file,
                    value: write.value,
                    source,
                }
            })?;
        }
        if let Some(rules) = resources.devices() {
            self.0.filters.apply(fd.as_fd(), rules).map_err(failed("restrict the devices of"))?;
        }
        Ok(())
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
        let directory = self.directory(path);
        if remove_directories(&directory).is_err() {
            self.kill(path)?;
            self.empty(path, DEATH).await?;
            remove_directories(&directory).map_err(path.failed("remove"))?;
        }
        for above in directory.ancestors().skip(1).take_while(|above| self.is_ours(above)) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// As [`remove`](Self::remove), for a program without an async runtime.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn remove_blocking(&self, path: &CgroupPath) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(path.failed("wait for"))?;
        runtime.block_on(self.remove(path))
    }

    /// PIDs of the processes in and below a cgroup; one that is gone has none.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn processes(&self, path: &CgroupPath) -> Result<Vec<i32>, Error> {
        let mut found = Vec::new();
        collect_processes(&self.directory(path), &mut found).map_err(path.failed("look into"))?;
        Ok(found)
    }

    /// Freezes the processes in and below a cgroup, or lets them go on, and returns when they have.
    ///
    /// # Errors
    /// [`Error::Deadline`] if a process cannot be frozen, because it sleeps in the kernel.
    pub fn freeze(&self, path: &CgroupPath, frozen: bool) -> Result<(), Error> {
        let directory = self.directory(path);
        let value = if frozen { "1" } else { "0" };
        fs::write(directory.join("cgroup.freeze"), value).map_err(path.failed("freeze"))?;
        let wanted = if frozen { "frozen 1" } else { "frozen 0" };
        let done = wait_for_event(&directory, wanted, DEATH).map_err(path.failed("watch"))?;
        let late = || Error::Deadline { attempt: format!("freeze cgroup {path}"), after: DEATH };
        done.then_some(()).ok_or_else(late)
    }

    /// Whether a cgroup is frozen, itself or with one above it.
    pub fn is_frozen(&self, path: &CgroupPath) -> bool {
        let events = fs::read_to_string(self.directory(path).join("cgroup.events"));
        events.is_ok_and(|events| events.lines().any(|line| line == "frozen 1"))
    }

    /// What a cgroup has used; absent if it is gone.
    pub fn stats(&self, path: &CgroupPath) -> Option<Stats> {
        let directory = self.directory(path);
        directory.is_dir().then(|| Stats::read(&directory))
    }

    /// How many processes of a cgroup the kernel has killed for memory; none where there is no
    /// memory controller.
    pub fn oom_kills(&self, path: &CgroupPath) -> u64 {
        self.open_cgroup(path).map_or(0, |cgroup| oom_kills(cgroup.as_fd()))
    }

    /// Paths of the cgroups that carry the owner's mark, wherever they are.
    pub fn owned(&self) -> Vec<CgroupPath> {
        let mut found = Vec::new();
        self.collect_owned(Path::new(""), &mut found);
        found
    }

    fn collect_owned(&self, relative: &Path, found: &mut Vec<CgroupPath>) {
        let directory = self.0.root.join(relative);
        let Ok(entries) = fs::read_dir(&directory) else {
            return;
        };
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            let relative = relative.join(entry.file_name());
            if self.is_ours(&entry.path()) {
                found.extend(CgroupPath::parse(&relative.to_string_lossy()));
            }
            self.collect_owned(&relative, found);
        }
    }

    fn is_ours(&self, directory: &Path) -> bool {
        let mut value = vec![0; self.0.owner.len() + 1];
        let length = rustix::fs::getxattr(directory, OWNER, &mut value[..]);
        length.is_ok_and(|length| &value[..length] == self.0.owner.as_bytes())
    }

    /// Waits until no process is left in and below a cgroup; one that is gone has none.
    ///
    /// # Errors
    /// [`Error::Deadline`] if there are processes after `patience`.
    pub async fn empty(&self, path: &CgroupPath, patience: Duration) -> Result<(), Error> {
        let waited = tokio::time::timeout(patience, wait_unpopulated(&self.directory(path))).await;
        let late = || Error::Deadline { attempt: format!("empty cgroup {path}"), after: patience };
        waited.map_err(|_| late())?.map_err(path.failed("watch"))
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

    /// Makes what is missing of a path, and hands the controllers down to it.
    ///
    /// Tries again when a directory on the way is removed meanwhile with its last cgroup.
    fn make_directories(&self, path: &CgroupPath) -> Result<(), Error> {
        let mut attempts = 0;
        loop {
            match self.try_make_directories(path) {
                Err((_, error)) if is_gone(&error) && attempts < 16 => attempts += 1,
                Err((cgroup, error)) => return Err(cgroup.failed("make")(error)),
                Ok(()) => return Ok(()),
            }
        }
    }

    fn try_make_directories(&self, path: &CgroupPath) -> Result<(), (CgroupPath, io::Error)> {
        let mut parent = self.0.root.clone();
        for ancestor in path.ancestry() {
            self.delegate(&parent);
            let directory = self.directory(&ancestor);
            match fs::create_dir(&directory) {
                Ok(()) => {
                    let owner = self.0.owner.as_bytes();
                    rustix::fs::setxattr(&directory, OWNER, owner, XattrFlags::empty())
                        .map_err(|error| (ancestor, error.into()))?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err((ancestor, error)),
            }
            parent = directory;
        }
        Ok(())
    }

    /// Enables all controllers for the children of a cgroup. Where one is refused, a limit that
    /// needs it says so when it is written.
    fn delegate(&self, directory: &Path) {
        let file = directory.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&file).unwrap_or_default();
        let enabled: BTreeSet<_> = enabled.split_whitespace().collect();
        for controller in self.controllers().filter(|controller| !enabled.contains(controller)) {
            let _ = fs::write(&file, format!("+{controller}"));
        }
    }

    fn directory(&self, path: &CgroupPath) -> PathBuf {
        self.0.root.join(path.as_str().trim_start_matches('/'))
    }
}

fn open_directory(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::empty())?)
}

fn collect_processes(directory: &Path, found: &mut Vec<i32>) -> io::Result<()> {
    let processes = match fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if is_gone(&error) => return Ok(()),
        processes => processes?,
    };
    found.extend(processes.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_processes(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// Removes a cgroup and those below it, the lowest first; one that is gone is fine.
fn remove_directories(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if is_gone(&error) => return Ok(()),
        Ok(()) => return Ok(()),
        Err(_) => {}
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_directories(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

/// `cgroup.events` becomes exceptional for poll(2) whenever it changes.
async fn wait_unpopulated(directory: &Path) -> io::Result<()> {
    let file = match fs::File::open(directory.join("cgroup.events")) {
        Err(error) if is_gone(&error) => return Ok(()),
        opened => watch(opened?.into(), Interest::PRIORITY)?,
    };
    loop {
        // Read before every wait: the change may have come first.
        let mut text = [0; 64];
        match rustix::io::pread(file.get_ref(), &mut text, 0).map_err(io::Error::from) {
            Ok(length) if text[..length].starts_with(b"populated 1") => {}
            Err(error) if !is_gone(&error) => return Err(error),
            _ => return Ok(()),
        }
        file.ready(Interest::PRIORITY).await?.clear_ready();
    }
}

/// Waits until `cgroup.events` has this line; false if it has not after `patience`.
fn wait_for_event(directory: &Path, line: &str, patience: Duration) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let file = fs::File::open(directory.join("cgroup.events"))?;
    let until = std::time::Instant::now() + patience;
    loop {
        let mut text = [0; 256];
        let length = rustix::io::pread(&file, &mut text, 0)?;
        if String::from_utf8_lossy(&text[..length]).lines().any(|found| found == line) {
            return Ok(true);
        }
        let left = until.saturating_duration_since(std::time::Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&file, PollFlags::PRI)];
        if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout)))? == 0 {
            return Ok(false);
        }
    }
}

/// A cgroup that is removed while one of its files is open answers `ENODEV`.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
