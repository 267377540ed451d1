//! A program that the harness runs beside a test: its process, its log, its end. And processes
//! of others in the same place, as /proc shows them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::place::Place;
use crate::wait;

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints is appended to `log`, which is evidence if the test
    /// fails.
    pub fn start(place: &Place, mut command: Command, log: &Path) -> Result<Self> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("open {}", log.display()))?;
        let errors = output.try_clone().context("duplicate a log file")?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        place.keep_evidence(log);
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// Its process id, as long as it has not been waited for.
    pub fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id()?.cast_signed())
    }

    /// All that it has printed.
    pub fn log(&self) -> Result<String> {
        let text = std::fs::read(&self.log).with_context(|| format!("read {}", self.log.display()));
        Ok(String::from_utf8_lossy(&text?).into_owned())
    }

    /// Fails if it has ended.
    pub fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("look at {}", self.name))? {
            Some(status) => bail!("{} ended: {status}", self.name),
            None => Ok(()),
        }
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.with_context(|| format!("wait for {}", self.name))
    }

    /// SIGKILL: it gets no chance to tidy up.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("kill {}", self.name))
    }

    /// SIGTERM, then waits until it has ended by itself.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let ended = tokio::time::timeout(deadline, self.child.wait()).await;
        ended
            .with_context(|| format!("wait {deadline:?} for {} to end", self.name))?
            .with_context(|| format!("wait for {}", self.name))
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} has ended", self.name))?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }
}

/// PIDs of the processes in this place whose command line has all of `words` in it.
pub fn find(words: &[&str]) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_all = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        words.iter().all(|word| line.contains(word))
    };
    pids.filter(has_all).collect()
}

/// SIGKILL to a process that is not a child of this one.
pub fn kill(pid: i32) -> Result<()> {
    let target = Pid::from_raw(pid).with_context(|| format!("{pid} is no PID"))?;
    kill_process(target, Signal::KILL).with_context(|| format!("kill {pid}"))
}

/// Waits until there is no such process, not even one that waits to be reaped.
pub async fn gone(pid: i32, within: Duration) -> Result<()> {
    let path = format!("/proc/{pid}");
    let gone = async || Ok((!Path::new(&path).exists()).then_some(()));
    wait::until(&format!("process {pid} is gone"), within, gone).await
}

/// Which namespace a process is in, as `net:[4026531840]`; `process` is a PID or `self`.
pub fn namespace(process: impl std::fmt::Display, kind: &str) -> Result<String> {
    let link = format!("/proc/{process}/ns/{kind}");
    let target = std::fs::read_link(&link).with_context(|| format!("read {link}"))?;
    Ok(target.to_string_lossy().into_owned())
}

/// Memory of a process, in KiB: the sum of some lines of its `smaps_rollup`, such as `Pss:`; 0 if
/// it has ended.
pub fn memory(pid: i32, lines: &[&str]) -> Result<u64> {
    let text = match std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Err(_) if !std::fs::exists(format!("/proc/{pid}"))? => return Ok(0),
        text => text.with_context(|| format!("read the memory of process {pid}"))?,
    };
    let wanted = text.lines().filter(|line| lines.iter().any(|start| line.starts_with(start)));
    let sizes = wanted.map(|line| {
        let size = line.split_whitespace().nth(1).context("a size")?;
        size.parse::<u64>().with_context(|| format!("parse {line}"))
    });
    sizes.sum()
}

/// The most memory that a process has had resident since its last execve, in KiB.
pub fn peak_memory(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a peak")?;
    line.split_whitespace().next().context("a size")?.parse().context("a number")
}

/// The lines of `smaps_rollup` that count what a process shares with nobody.
pub const PRIVATE: [&str; 2] = ["Private_Clean:", "Private_Dirty:"];

/// How many threads a process has.
pub fn threads(pid: i32) -> Result<usize> {
    let tasks = format!("/proc/{pid}/task");
    Ok(std::fs::read_dir(&tasks).with_context(|| format!("list {tasks}"))?.count())
}
