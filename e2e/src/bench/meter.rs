//! What a daemon and all that it starts spend on one operation, as /proc counts it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Ticks of /proc/PID/stat in a second (proc(5), `USER_HZ`): the same on all architectures.
const TICKS: f64 = 100.0;
/// There is no event for memory that grows. Reading what a few processes have takes less than a
/// hundredth of this time.
const SAMPLING: Duration = Duration::from_millis(10);

/// What an operation took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) seconds: f64,
    /// Processor time of all processes.
    pub(super) cpu_seconds: f64,
    /// Bytes that went to the page cache of a disk.
    pub(super) written: u64,
    /// The most memory at a time, in KiB: what is private of all processes, and the pages of the
    /// program's file once.
    pub(super) peak: u64,
}

/// A measurement under way.
#[derive(Debug)]
pub(super) struct Meter {
    pid: i32,
    start: Instant,
    cpu_seconds: f64,
    written: u64,
    end: SyncSender<()>,
    sampler: JoinHandle<u64>,
}

impl Meter {
    /// Begins to measure the process `pid` and its children.
    pub(super) fn begin(pid: i32) -> Result<Self> {
        let (end, is_over) = sync_channel(1);
        let sampler = std::thread::spawn(move || sample(pid, &is_over));
        let (cpu_seconds, written) = (cpu_seconds(pid)?, written(pid)?);
        Ok(Self { pid, start: Instant::now(), cpu_seconds, written, end, sampler })
    }

    pub(super) fn end(self) -> Result<Cost> {
        let seconds = self.start.elapsed().as_secs_f64();
        drop(self.end);
        let peak = self.sampler.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))?;
        Ok(Cost {
            seconds,
            cpu_seconds: cpu_seconds(self.pid)? - self.cpu_seconds,
            written: written(self.pid)? - self.written,
            peak,
        })
    }
}

fn sample(pid: i32, is_over: &Receiver<()>) -> u64 {
    let mut peak = memory(pid);
    while is_over.recv_timeout(SAMPLING) == Err(RecvTimeoutError::Timeout) {
        peak = peak.max(memory(pid));
    }
    peak
}

/// Memory of a process and all its descendants now, in KiB.
fn memory(pid: i32) -> u64 {
    let sizes = family(pid).into_iter().map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let size = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().next().and_then(|size| size.parse().ok()).unwrap_or(0_u64)
        };
        (size("RssAnon:") + size("RssShmem:"), size("RssFile:"))
    });
    let (private, files): (Vec<_>, Vec<_>) = sizes.unzip();
    private.iter().sum::<u64>() + files.iter().max().copied().unwrap_or_default()
}

/// A process and its descendants.
fn family(pid: i32) -> HashSet<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: HashMap<i32, i32> =
        pids.filter_map(|pid| Some((pid, stat(pid).ok()?.get(1)?.parse().ok()?))).collect();
    let mut family = HashSet::from([pid]);
    loop {
        let known = family.len();
        let new = parents.iter().filter(|(_, parent)| family.contains(parent));
        let new: Vec<_> = new.map(|(child, _)| *child).collect();
        family.extend(new);
        if family.len() == known {
            return family;
        }
    }
}

/// The fields of /proc/PID/stat from the third, the state, on.
fn stat(pid: i32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("read a process's stat")?;
    let (_, fields) = text.rsplit_once(") ").context("a name in parentheses")?;
    Ok(fields.split(' ').map(str::to_owned).collect())
}

/// Of the process, its threads, and its children that it has waited for.
fn cpu_seconds(pid: i32) -> Result<f64> {
    let fields = stat(pid)?;
    let ticks = fields.get(11..15).context("four times")?.iter().map(|field| field.parse::<f64>());
    Ok(ticks.sum::<Result<f64, _>>().context("parse a time")? / TICKS)
}

/// As [`cpu_seconds`].
fn written(pid: i32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).context("read a process's io")?;
    let count = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    count.context("written bytes")?.parse().context("parse written bytes")
}
