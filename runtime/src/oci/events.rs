//! `events`: what a container uses, from time to time, and that it ran out of memory.
//!
//! One JSON document per line, in the words of runc's `events`, which is what its readers know.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cgroup::oom::oom_kills;
use crate::error::{Error, Storing as _};

use super::Runtime;
use super::record::Record;

/// Something to tell of a container.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// `stats` or `oom`.
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl Runtime {
    /// What a container has used until now, as one event.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it has ended.
    pub fn statistics(&self, id: &str) -> Result<Event, Error> {
        let record = self.load(id)?;
        self.living(&record)?;
        let cgroup = self.hierarchy()?.open_cgroup(&record.cgroup)?;
        Ok(statistics(id, cgroup.as_fd()))
    }

    /// Tells events to `tell` until the container has ended or `tell` fails: what it uses every
    /// `interval`, and at once when the kernel has killed one of its processes for memory.
    ///
    /// # Errors
    /// As [`statistics`](Self::statistics), and those of `tell`.
    pub fn watch(
        &self,
        id: &str,
        interval: Duration,
        mut tell: impl FnMut(&Event) -> io::Result<()>,
    ) -> Result<(), Error> {
        let record = self.load(id)?;
        let process = self.living(&record)?;
        let cgroup = self.hierarchy()?.open_cgroup(&record.cgroup)?;
        // Where the memory controller is missing there is no such file, and no such event.
        let memory = open(cgroup.as_fd(), "memory.events").ok();
        let mut killed = oom_kills(cgroup.as_fd());
        let mut due = Instant::now() + interval;
        loop {
            let ended = wait(&process, memory.as_ref(), due).storing("watch", id)?;
            let now = oom_kills(cgroup.as_fd());
            if now > killed {
                killed = now;
                tell(&Event { kind: "oom", id: id.to_owned(), data: None }).storing("print", id)?;
            }
            if ended {
                return Ok(());
            }
            if Instant::now() >= due {
                tell(&statistics(id, cgroup.as_fd())).storing("print", id)?;
                due = Instant::now() + interval;
            }
        }
    }

    fn living(&self, record: &Record) -> Result<OwnedFd, Error> {
        let ended = || Error::WrongState {
            id: record.id.clone(),
            state: "stopped",
            verb: "watch it: container not running",
        };
        let life = record.process.ok_or_else(ended)?;
        life.open().storing("open the process of", &record.id)?.ok_or_else(ended)
    }
}

/// Waits until `due`, or until something has happened that is worth a look; answers whether the
/// process has ended.
fn wait(process: &OwnedFd, memory: Option<&OwnedFd>, due: Instant) -> io::Result<bool> {
    // A file of a cgroup is ready until it has been read since the last change, and for ever when
    // its cgroup is gone.
    let memory = memory.filter(|file| pread(file, &mut [0; 512], 0).is_ok());
    let left = Timespec::try_from(due.saturating_duration_since(Instant::now()));
    let left = left.unwrap_or(Timespec { tv_sec: 5, tv_nsec: 0 });
    let mut fds = vec![PollFd::new(process, PollFlags::IN)];
    fds.extend(memory.map(|file| PollFd::new(file, PollFlags::PRI)));
    poll(&mut fds, Some(&left)).or_else(|error| match error {
        Errno::INTR => Ok(0),
        error => Err(error),
    })?;
    Ok(fds.first().is_some_and(|process| !process.revents().is_empty()))
}

fn statistics(id: &str, cgroup: BorrowedFd<'_>) -> Event {
    Event { kind: "stats", id: id.to_owned(), data: Some(usage(cgroup)) }
}

fn usage(cgroup: BorrowedFd<'_>) -> Value {
    let number = |file: &str| text(cgroup, file).trim().parse::<u64>().ok();
    let cpu = table(&text(cgroup, "cpu.stat"));
    let micros = |name: &str| cpu.get(name).and_then(Value::as_u64).unwrap_or(0) * 1000;
    let count = |name: &str| cpu.get(name).cloned().unwrap_or(json!(0));
    let memory = table(&text(cgroup, "memory.stat"));
    let events = table(&text(cgroup, "memory.events"));
    json!({
        "cpu": {
            "usage": {
                "total": micros("usage_usec"),
                "kernel": micros("system_usec"),
                "user": micros("user_usec"),
            },
            "throttling": {
                "periods": count("nr_periods"),
                "throttledPeriods": count("nr_throttled"),
                "throttledTime": micros("throttled_usec"),
            },
            "psi": pressure(&text(cgroup, "cpu.pressure")),
        },
        "memory": {
            "cache": memory.get("file").cloned().unwrap_or(json!(0)),
            "usage": {
                "limit": number("memory.max").unwrap_or(u64::MAX),
                "usage": number("memory.current").unwrap_or(0),
                "max": number("memory.peak").unwrap_or(0),
                "failcnt": events.get("max").cloned().unwrap_or(json!(0)),
            },
            "swap": {
                "limit": number("memory.swap.max").unwrap_or(u64::MAX),
                "usage": number("memory.swap.current").unwrap_or(0),
                "failcnt": 0,
            },
            "raw": memory,
            "psi": pressure(&text(cgroup, "memory.pressure")),
        },
        "pids": {
            "current": number("pids.current").unwrap_or(0),
            "limit": number("pids.max").unwrap_or(0),
        },
        "blkio": {
            "ioServiceBytesRecursive": bytes_of_devices(&text(cgroup, "io.stat")),
            "psi": pressure(&text(cgroup, "io.pressure")),
        },
        "hugetlb": huge_pages(cgroup),
    })
}

/// By the size of a page, as the names of the files have it.
fn huge_pages(cgroup: BorrowedFd<'_>) -> Map<String, Value> {
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let sizes = sizes.filter_map(|entry| size_of_page(entry.file_name().to_str()?));
    sizes
        .filter_map(|size| {
            let number =
                |name: &str| text(cgroup, &format!("hugetlb.{size}.{name}")).trim().parse();
            let usage: u64 = number("current").ok()?;
            let failures = table(&text(cgroup, &format!("hugetlb.{size}.events")));
            let failures = failures.get("max").cloned().unwrap_or(json!(0));
            let told = json!({"usage": usage, "max": number("max").ok(), "failcnt": failures});
            Some((size, told))
        })
        .collect()
}

/// `hugepages-2048kB` is `2MB` to the cgroup.
fn size_of_page(directory: &str) -> Option<String> {
    let kib: u64 = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        _ if kib.is_multiple_of(1 << 20) => format!("{}GB", kib >> 20),
        _ if kib.is_multiple_of(1 << 10) => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    })
}

fn open(cgroup: BorrowedFd<'_>, file: &str) -> io::Result<OwnedFd> {
    Ok(openat(cgroup, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A file of the cgroup; one that is missing, for want of its controller, says nothing.
fn text(cgroup: BorrowedFd<'_>, file: &str) -> String {
    let mut text = String::new();
    let read = open(cgroup, file).map(std::fs::File::from);
    // Half a text is told as what it is: fewer numbers.
    let _ = read.and_then(|mut file| file.read_to_string(&mut text));
    text
}

/// Lines of `NAME NUMBER`.
fn table(text: &str) -> Map<String, Value> {
    let pairs = text.lines().filter_map(|line| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), json!(number.parse::<u64>().ok()?)))
    });
    pairs.collect()
}

/// Pressure stall information: lines of `some avg10=0.00 … total=0`.
fn pressure(text: &str) -> Value {
    let lines: Map<_, _> = text.lines().filter_map(pressure_line).collect();
    if lines.is_empty() { Value::Null } else { Value::Object(lines) }
}

fn pressure_line(line: &str) -> Option<(String, Value)> {
    let mut words = line.split(' ');
    let kind = words.next()?.to_owned();
    let numbers: Map<_, _> = words
        .filter_map(|word| {
            let (name, number) = word.split_once('=')?;
            let value = match number.parse::<u64>() {
                Ok(whole) => json!(whole),
                Err(_) => json!(number.parse::<f64>().ok()?),
            };
            Some((name.to_owned(), value))
        })
        .collect();
    (!numbers.is_empty()).then_some((kind, Value::Object(numbers)))
}

/// Lines of `MAJOR:MINOR rbytes=N wbytes=N …`.
fn bytes_of_devices(text: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((major, minor)) = device else { continue };
        let (Ok(major), Ok(minor)) = (major.parse::<u64>(), minor.parse::<u64>()) else { continue };
        for (key, op) in [("rbytes=", "Read"), ("wbytes=", "Write")] {
            let value =
                line.split(' ').find_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
            if let Some(value) = value {
                all.push(json!({"major": major, "minor": minor, "op": op, "value": value}));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_numbers() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 total=0\n";
        let told = pressure(text);
        assert_eq!(told["some"]["avg10"], 1.5);
        assert_eq!(told["some"]["total"], 7);
        assert_eq!(told["full"]["total"], 0);
        assert_eq!(pressure(""), Value::Null);
    }

    #[test]
    fn devices_are_told_by_direction() {
        let told = bytes_of_devices("8:0 rbytes=5 wbytes=6 rios=1\n8:16 rios=1\nnonsense\n");
        assert_eq!(told.len(), 2);
        assert_eq!((&told[0]["op"], &told[1]["value"]), (&json!("Read"), &json!(6)));
    }

    #[test]
    fn a_table_is_what_has_numbers() {
        let told = table("anon 5\nfile x\n");
        assert_eq!((told.len(), &told["anon"]), (1, &json!(5)));
    }
}
