//! The outermost process of a test: makes the stage, the namespaces and the cgroup, starts
//! PID 1 in them, relays its output and judges how it ended.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::cgroup::{self, Cgroup};
use super::stage::{Order, Stage};
use super::{Kind, needs};

/// Stages lie on the machine's disk, so that benchmarks find an honest one there. `E2E_DISK`
/// names another directory, outside of what a place has for itself (/run, /dev/shm).
const STAGES: &str = "/var/tmp";
const PREFIX: &str = "berth-e2e-";
/// What a test gets beyond its own deadline to print what it knows and to end.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the order in a new place and returns once nothing of it is left.
pub(super) fn run(order: &Order) -> Result<()> {
    needs::root()?;
    needs::of(order.inside)?;
    let stage = OwnedStage::make()?;
    stage.stage.give(order)?;

    let (reader, writer) = std::io::pipe().context("make the output pipe")?;
    let ended = std::thread::scope(|scope| {
        // This thread is spent: it lives in the new namespaces and may not start another one.
        let place = scope.spawn(|| in_new_namespaces(order, &stage, writer));
        relay(reader);
        place.join().map_err(|_| anyhow::anyhow!("the thread of the place panicked"))?
    })?;
    // A user-mode kernel halts after the verdict, and now and then aborts while it ends.
    let ends_well = |status: ExitStatus| status.success() || order.inside == Kind::Guest;
    match ended {
        Ended::Exited(status) if stage.stage.has_passed() && ends_well(status) => Ok(()),
        Ended::Exited(status) if status.success() => {
            bail!("`{}` failed in its place (no verdict), see above", order.again.name)
        }
        Ended::Exited(status) => {
            bail!("`{}` failed in its place ({status}), see above", order.again.name)
        }
        Ended::Killed => {
            bail!("`{}` was killed after {:?}, see above", order.again.name, order.deadline)
        }
    }
}

enum Ended {
    Exited(ExitStatus),
    Killed,
}

fn in_new_namespaces(order: &Order, stage: &OwnedStage, writer: PipeWriter) -> Result<Ended> {
    let mut new = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    // systemd is told PIDs, and knows its own.
    if order.inside != Kind::Systemd {
        new |= CloneFlags::CLONE_NEWPID;
    }
    unshare(new).context("unshare namespaces")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("make the mounts private")?;
    cgroup::mount_whole().context("mount cgroup2")?;
    sweep();

    let cgroup = Cgroup::make(&stage.stage.name())?;
    let mut command = order.command("init", &stage.stage);
    let errors = writer.try_clone().context("duplicate the output pipe")?;
    let child = command.stdin(Stdio::null()).stdout(writer).stderr(errors).spawn();
    // The command holds this process's ends of the pipe: relay() waits for them too.
    drop(command);
    let child = child.context("start PID 1 of the place");
    let ended = child.and_then(|child| wait(child, order.deadline + GRACE));
    if order.inside == Kind::Systemd {
        stop_units(&stage.stage)?;
    }
    cgroup.remove()?;
    ended
}

/// A slice takes its units with it. One that no unit was in is stopped as well.
fn stop_units(stage: &Stage) -> Result<()> {
    let status = Command::new("systemctl").args(["stop", "--quiet", &stage.slice()]).status();
    ensure!(status.context("run systemctl")?.success(), "stop {}", stage.slice());
    Ok(())
}

fn wait(mut child: Child, deadline: Duration) -> Result<Ended> {
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("open a pidfd of PID 1")?;
    let timeout = Timespec::try_from(deadline).context("a deadline")?;
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let ended = poll(&mut fds, Some(&timeout)).context("wait for PID 1")?;
    if ended == 0 {
        child.kill().context("kill PID 1")?;
    }
    let status = child.wait().context("reap PID 1")?;
    Ok(if ended == 0 { Ended::Killed } else { Ended::Exited(status) })
}

/// Prints what the place prints, so that libtest and nextest treat it as the test's own output,
/// until its last process has gone.
fn relay(reader: PipeReader) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        print!("{}", String::from_utf8_lossy(&line));
        line.clear();
    }
}

/// A stage that this process made, and removes. Its lock tells others that its owner lives.
struct OwnedStage {
    stage: Stage,
    _lock: File,
}

impl OwnedStage {
    fn make() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(stages())
            .with_context(|| format!("make a stage in {}", stages().display()))?
            .keep();
        // Under its name only once it is locked: who sweeps must never find it open.
        let [unnamed, named] = ["lock.new", "lock"].map(|name| dir.join(name));
        let lock = File::create(&unnamed).context("make the lock of the stage")?;
        lock.lock().context("lock the stage")?;
        std::fs::rename(unnamed, named).context("name the lock of the stage")?;
        Ok(Self { stage: Stage { dir }, _lock: lock })
    }
}

impl Drop for OwnedStage {
    fn drop(&mut self) {
        if let Err(err) = std::fs::remove_dir_all(&self.stage.dir) {
            eprintln!("remove {}: {err}, ignoring", self.stage.dir.display());
        }
    }
}

fn stages() -> PathBuf {
    std::env::var_os("E2E_DISK").map_or_else(|| STAGES.into(), PathBuf::from)
}

/// Removes what runs that were killed left behind: stages whose lock nobody holds, and their
/// cgroups.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(stages()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(lock) = File::open(entry.path().join("lock")) else { continue };
        let is_left = name.starts_with(PREFIX) && lock.try_lock().is_ok();
        if is_left && Cgroup::left_by(&name).remove().is_ok() {
            // Another test may be sweeping the same stage.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
