//! What a daemon asks of the kernel, counted by strace: a count is the same on every machine, a
//! time is not. Everything that the daemon starts is followed, into namespaces as well.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::place::{Place, needs};
use crate::process::Process;
use crate::wait;

/// How long strace may take to have hold of all threads, or to let go of them.
const SOON: Duration = Duration::from_secs(10);

/// A running trace.
#[derive(Debug)]
pub struct Trace {
    strace: Process,
    lines: PathBuf,
    pid: i32,
    threads: BTreeSet<i32>,
}

/// A system call, as it was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The thread that made it.
    pub thread: i32,
    /// Its name and arguments, and what came of it if that was seen at once.
    pub text: String,
}

impl Trace {
    /// Watches the system calls that `calls` lists, as strace(1) has it behind `trace=`, of the
    /// process `pid` and all its children to come. Those that `held` lists are held up by that
    /// time before they begin.
    pub async fn begin(
        place: &Place,
        pid: i32,
        calls: &str,
        held: Option<(&str, Duration)>,
    ) -> Result<Self> {
        let dir = tempfile::tempdir_in(place.scratch()).context("make a directory")?.keep();
        let lines = dir.join("lines");
        let mut command = Command::new(needs::program("strace")?);
        command.args(["-f", "-q", "-s", "256", "-e", &format!("trace={calls}")]);
        if let Some((calls, time)) = held {
            let held = format!("inject={calls}:delay_enter={}", time.as_micros());
            command.args(["-e", &held]);
        }
        command.arg("-p").arg(pid.to_string()).arg("-o").arg(&lines);
        let strace = Process::start(place, command, &dir.join("log"))?;
        let mut trace = Self { strace, lines, pid, threads: BTreeSet::new() };
        wait::until("strace has hold of every thread", SOON, async || {
            trace.strace.ensure_running()?;
            Ok(threads(pid)?.into_iter().all(is_traced).then_some(()))
        })
        .await?;
        trace.threads = threads(pid)?;
        Ok(trace)
    }

    /// The calls so far, in their order.
    pub fn calls(&self) -> Result<Vec<Call>> {
        let text = fs::read_to_string(&self.lines).unwrap_or_default();
        text.lines().filter_map(parse).map(Ok).collect()
    }

    /// The calls so far whose name is one of `names`.
    pub fn of(&self, names: &[&str]) -> Result<Vec<Call>> {
        let is_named = |call: &Call| {
            let name = call.text.split('(').next().unwrap_or_default();
            names.contains(&name)
        };
        Ok(self.calls()?.into_iter().filter(is_named).collect())
    }

    /// The threads of the daemon itself: those that it had, and those that it has now.
    pub fn own_threads(&self) -> Result<BTreeSet<i32>> {
        Ok(&self.threads | &threads(self.pid)?)
    }

    /// Lets go of the daemon and its children.
    pub async fn end(mut self) -> Result<()> {
        self.strace.terminate(SOON).await.map(drop)
    }
}

fn threads(pid: i32) -> Result<BTreeSet<i32>> {
    let tasks = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&tasks).with_context(|| format!("list {tasks}"))?;
    Ok(entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
}

fn is_traced(thread: i32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(thread.to_string()).join("status"));
    // One that has ended meanwhile needs no tracer.
    status.map_or(true, |text| !text.contains("TracerPid:\t0\n"))
}

/// `1234  execve("/bin/true", …) = 0`; the second half of a call that was interrupted is none.
fn parse(line: &str) -> Option<Call> {
    let (thread, text) = line.split_once(' ')?;
    let text = text.trim_start();
    let begins = text.starts_with(|first: char| first.is_ascii_lowercase());
    begins.then(|| Some(Call { thread: thread.parse().ok()?, text: text.to_owned() }))?
}
