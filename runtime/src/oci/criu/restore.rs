//! `restore`: a container made of saved processes.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Storing as _};
use crate::spec;
use crate::sys::clone::Child;
use crate::sys::namespace;

use super::super::Runtime;
use super::super::create::{Create, describe, load};
use super::super::foreground::{Foreground, block_signals};
use super::super::handover::write_pid;
use super::super::life::Life;
use super::super::record::{Record, absolute};
use super::super::run::Keep;
use super::super::scope::Claim;
use super::{Call, Criu, check, external, text};

/// The first argument of the helper; the second is what it is to do.
pub const RESTORER: &str = "--restore-here";

/// A container to make of saved processes.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    /// The container, of which a bundle with the same configuration is there.
    pub create: Create,
    /// How, and where from.
    pub criu: Criu,
}

/// What the helper is told.
#[derive(Debug, Deserialize, Serialize)]
struct Errand {
    program: PathBuf,
    words: Vec<String>,
    /// Where it is to tell what goes wrong.
    log: PathBuf,
    root: PathBuf,
    /// Where the root is mounted.
    at: PathBuf,
    cgroup: PathBuf,
    namespaces: Vec<(PathBuf, String)>,
}

impl Runtime {
    /// Makes a container of saved processes, which run on; answers its exit code, or 0 if it is
    /// detached. If that fails, nothing is left. Hooks have been run when it was created, and are
    /// not run again but for those of its end.
    ///
    /// # Errors
    /// As [`Runtime::create`]; [`Error::Criu`].
    pub fn restore(&self, request: &Restore, keep: Keep) -> Result<i32, Error> {
        request.criu.find()?;
        let create = &request.create;
        let spec = load(&create.bundle)?;
        check(&spec)?;
        if create.handover.console_socket.is_some() {
            let text = "--console-socket: a container with a terminal cannot be restored";
            return Err(Error::Spec(text.to_owned()));
        }
        let images = request.criu.images()?;
        if !images.is_dir() {
            let text = format!("--image-path {}: there is no such directory", images.display());
            return Err(Error::Spec(text));
        }
        let call = request.criu.call("restore", &images)?;
        let mut record = describe(create, spec, absolute(&create.bundle)?)?;
        let signals = if keep == Keep::Detached { None } else { Some(block_signals()?) };
        let hold = self.reserve_with_cgroup(&record)?;
        let made = self.save(&record).and_then(|()| self.revive(call, &mut record, &images));
        let told = made.and_then(|child| match &create.handover.pid_file {
            Some(path) => write_pid(path, child.pid.as_raw_nonzero().get()).map(|()| child),
            None => Ok(child),
        });
        let child = told.inspect_err(|_| {
            // The first error is the one that matters.
            let _ = self.tear_down(&record);
        })?;
        let Some(signals) = signals else { return Ok(0) };
        self.stay(&hold, &record, Foreground { child, master: None, signals }, keep)
    }

    fn revive(&self, mut call: Call, record: &mut Record, images: &Path) -> Result<Child, Error> {
        let hierarchy = self.hierarchy()?;
        let claim = Claim::of(record)?;
        hierarchy.create(&record.cgroup, &spec::all_resources(&record.spec))?;
        let directory = self.directory(&record.id);
        let (at, pid_file) = (directory.join("root"), directory.join("restored"));
        fs::create_dir(&at).storing("make directory", &at)?;
        call.push(["--root".to_owned(), text(&at)?]);
        call.push(["--restore-detached", "--restore-sibling", "--pidfile"].map(str::to_owned));
        call.push([text(&pid_file)?]);
        for (place, source) in external::mounts(&record.spec, &record.rootfs) {
            call.push(["--external".to_owned(), format!("mnt[{place}]:{source}")]);
        }
        for (number, stream) in external::load(images)?.iter().enumerate() {
            if external::is_given(stream) {
                call.push(["--inherit-fd".to_owned(), format!("fd[{number}]:{stream}")]);
            }
        }
        let namespaces = external::namespaces(&record.spec)?;
        let errand = Errand {
            program: call.program.clone(),
            words: call.words.clone(),
            log: call.log.clone(),
            root: record.rootfs.clone(),
            at: at.clone(),
            cgroup: hierarchy.path(&record.cgroup),
            namespaces: namespaces.into_iter().map(|(path, key)| (path, key.into())).collect(),
        };
        let json = serde_json::to_string(&errand).map_err(io::Error::from);
        let json = json.storing("encode the restore of", &record.id)?;
        let mut helper = Command::new("/proc/self/exe");
        let status = helper.args([RESTORER, &json]).status().storing("start", &call.program)?;
        if !status.success() {
            return Err(call.failed(&status.to_string()));
        }
        drop(claim);
        let child = self.found(&pid_file)?;
        let life = Life::of(child.pid.as_raw_nonzero().get());
        record.process = Some(life.storing("look at", "the restored process")?);
        let _ = fs::remove_file(&pid_file);
        let _ = fs::remove_dir(&at);
        self.save(record)?;
        Ok(child)
    }

    /// The restored process, which is a child of this one.
    fn found(&self, pid_file: &Path) -> Result<Child, Error> {
        let text = fs::read_to_string(pid_file).storing("read", pid_file)?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidData).map_err(io::Error::from);
        let pid = pid.storing("understand", pid_file)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).storing("open", "the restored process")?;
        Ok(Child { pid, pidfd })
    }
}

/// What the helper does before it becomes criu. Its mounts are its own: the mount point of the
/// root goes with it, however it ends. Comes back only if a step fails, which it logs as criu
/// would.
pub fn restore_here(errand: &str) -> io::Error {
    let errand: Errand = match serde_json::from_str(errand) {
        Ok(errand) => errand,
        Err(error) => return error.into(),
    };
    let error = match prepare(&errand) {
        Err(error) => error,
        Ok(words) => {
            let mut criu = Command::new(&errand.program);
            criu.args(&errand.words).args(words).exec()
        }
    };
    let log = fs::File::options().create(true).append(true).open(&errand.log);
    // Nobody else listens.
    let _ = log.and_then(|mut log| writeln!(log, "Error (berth-oci): {error}"));
    error
}

fn prepare(errand: &Errand) -> io::Result<Vec<String>> {
    let named = |what: &'static str| {
        move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
    };
    namespace::unshare(libc::CLONE_NEWNS as u64).map_err(named("make a mount namespace"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(io::Error::from).map_err(named("keep mounts private"))?;
    mount_bind_recursive(&errand.root, &errand.at)
        .map_err(io::Error::from)
        .map_err(named("mount the root"))?;
    fs::write(errand.cgroup.join("cgroup.procs"), "0").map_err(named("enter the cgroup"))?;
    let mut words = Vec::new();
    for (path, key) in &errand.namespaces {
        // Kept open for criu.
        let file = rustix::fs::open(path, OFlags::RDONLY, Mode::empty())?;
        let number = std::os::fd::IntoRawFd::into_raw_fd(file);
        words.extend(["--inherit-fd".to_owned(), format!("fd[{number}]:{key}")]);
    }
    Ok(words)
}
