//! Checkpoint and restore, by criu (`criu(8)`), where there is one.
//!
//! criu reads from outside all that the processes of a container are made of, and makes processes
//! that are the same. What is not the container's own it has to be told of: bind mounts and masks,
//! namespaces that somebody else has made, and where the standard streams lead.
//!
//! ```text
//! checkpoint   berth-oci ─► criu dump ─► images; the container is deleted, or runs on
//! restore      berth-oci: record, cgroup with its limits
//!                └─► berth-oci, as a helper: its own mounts, the root bound to a mount point,
//!                    in the container's cgroup; becomes
//!                    └─► criu restore ─► the container's process, a child of berth-oci
//! ```
//!
//! Reference: the manual page of criu, and its wiki on external resources.

mod checkpoint;
mod external;
mod restore;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::error::{Error, Storing as _};

pub use checkpoint::Checkpoint;
pub use restore::{RESTORER, Restore, restore_here};

/// Where images are if nobody says it.
const IMAGES: &str = "checkpoint";

/// Ways of criu to treat cgroups (`--manage-cgroups`).
const CGROUP_MODES: [&str; 6] = ["none", "props", "soft", "full", "strict", "ignore"];

/// What `checkpoint` and `restore` have in common.
#[derive(Clone, Debug, Default)]
pub struct Criu {
    /// The program; looked for in `PATH` if absent.
    pub program: Option<PathBuf>,
    /// The directory of the images.
    pub images: Option<PathBuf>,
    /// The directory of logs; that of the images if absent.
    pub work: Option<PathBuf>,
    /// How cgroups are treated.
    pub manage_cgroups: Option<String>,
    /// Whether TCP connections are kept.
    pub tcp_established: bool,
    /// Whether unix sockets may lead out of the container.
    pub ext_unix_sk: bool,
    /// Whether it may be part of a session outside of it.
    pub shell_job: bool,
    /// Whether file locks are kept.
    pub file_locks: bool,
}

/// A call of criu that is being put together.
#[derive(Debug)]
struct Call {
    verb: &'static str,
    program: PathBuf,
    words: Vec<String>,
    log: PathBuf,
}

impl Criu {
    /// The directory of the images, by its absolute path.
    fn images(&self) -> Result<PathBuf, Error> {
        let path = self.images.clone().unwrap_or_else(|| IMAGES.into());
        std::path::absolute(&path).storing("find", path)
    }

    /// Begins a call with what all have; the directory of the images is there.
    fn call(&self, verb: &'static str, images: &Path) -> Result<Call, Error> {
        let program = self.find()?;
        let work = match &self.work {
            None => images.to_owned(),
            Some(work) => {
                make(work)?;
                std::path::absolute(work).storing("find", work)?
            }
        };
        let mode = self.manage_cgroups.as_deref().unwrap_or("soft");
        if !CGROUP_MODES.contains(&mode) {
            let known = CGROUP_MODES.join(", ");
            let text = format!("--manage-cgroups-mode {mode:?} is none of {known}");
            return Err(Error::Spec(text));
        }
        let log = format!("{verb}.log");
        let mut words = vec![verb.to_owned()];
        words.extend(["--images-dir".to_owned(), text(images)?]);
        words.extend(["--work-dir".to_owned(), text(&work)?]);
        words.extend(["--log-file".to_owned(), log.clone(), "-v4".to_owned()]);
        words.push(format!("--manage-cgroups={mode}"));
        for (given, option) in [
            (self.tcp_established, "--tcp-established"),
            (self.ext_unix_sk, "--ext-unix-sk"),
            (self.shell_job, "--shell-job"),
            (self.file_locks, "--file-locks"),
        ] {
            words.extend(given.then(|| option.to_owned()));
        }
        Ok(Call { verb, program, words, log: work.join(log) })
    }

    /// Looks for the program.
    fn find(&self) -> Result<PathBuf, Error> {
        let dirs = std::env::var_os("PATH").unwrap_or_default();
        // It is an administrator's program, which PATH may leave out.
        let dirs = std::env::split_paths(&dirs).chain(["/usr/sbin".into(), "/sbin".into()]);
        let mut found = match &self.program {
            Some(program) => vec![program.clone()],
            None => dirs.map(|dir| dir.join("criu")).collect(),
        };
        found.retain(|path| is_program(path));
        found.into_iter().next().ok_or_else(|| {
            let text = "checkpoint and restore are not supported without criu, and there is none";
            Error::Criu { verb: "find it", cause: text.to_owned() }
        })
    }
}

fn is_program(path: &Path) -> bool {
    let found = fs::metadata(path);
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

impl Call {
    fn push(&mut self, words: impl IntoIterator<Item = String>) {
        self.words.extend(words);
    }

    /// Why it failed: what its log says of that, before anything else.
    fn failed(&self, otherwise: &str) -> Error {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let told = last_error(&log).unwrap_or(otherwise);
        let cause = format!("{told} ({})", self.log.display());
        Error::Criu { verb: self.verb, cause }
    }
}

/// The error that comes first in the last group of them: those behind it are its consequences.
fn last_error(log: &str) -> Option<&str> {
    let errors = log.lines().filter_map(|line| line.find("Error (").map(|at| &line[at..]));
    errors.into_iter().next()
}

/// Refuses what criu, or we, could not bring back.
fn check(spec: &Spec) -> Result<(), Error> {
    let process = spec.process().as_ref();
    if process.and_then(|process| process.terminal()) == Some(true) {
        let text = "process.terminal: a container with a terminal cannot be checkpointed";
        return Err(Error::Spec(text.to_owned()));
    }
    external::namespaces(spec).map(drop)
}

/// Makes a directory with all above it; tells whether it is new.
fn make(directory: &Path) -> Result<bool, Error> {
    if directory.is_dir() {
        return Ok(false);
    }
    let mut private = DirBuilder::new();
    private.mode(0o700).recursive(true);
    private.create(directory).storing("make directory", directory)?;
    Ok(true)
}

fn text(path: impl AsRef<OsStr>) -> Result<String, Error> {
    let path = path.as_ref();
    let odd = || io::Error::other("it is not UTF-8");
    path.to_str().map(str::to_owned).ok_or_else(odd).storing("use", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_told() {
        let log = "(00.1) Warn  x\n(00.2)      1: Error (criu/a.c:1): File bad\n\
                   (00.3) Error (criu/b.c:2): FAILED.\n";
        assert_eq!(last_error(log), Some("Error (criu/a.c:1): File bad"));
        assert_eq!(last_error("(00.1) fine\n"), None);
    }

    #[test]
    fn options_are_crius() {
        let directory = tempfile::tempdir().unwrap();
        let criu = Criu {
            program: Some("/proc/self/exe".into()),
            work: Some(directory.path().join("work")),
            tcp_established: true,
            ..Criu::default()
        };
        let call = criu.call("dump", Path::new("/images")).unwrap();
        let words = call.words.join(" ");
        assert!(words.starts_with("dump --images-dir /images --work-dir /"), "{words}");
        assert!(words.ends_with("--manage-cgroups=soft --tcp-established"), "{words}");
        assert_eq!(call.log, directory.path().join("work/dump.log"));
        let odd = Criu { manage_cgroups: Some("some".to_owned()), ..criu };
        let error = odd.call("dump", Path::new("/images")).unwrap_err().to_string();
        assert!(error.contains("--manage-cgroups-mode"), "{error}");
    }
}
