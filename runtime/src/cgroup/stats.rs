//! What a cgroup has used, read from its files in one go.

use std::fs;
use std::path::Path;

/// Resource usage of a cgroup. What the host has no controller for is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time in nanoseconds, since the cgroup was made.
    pub cpu_nanoseconds: Option<u64>,
    /// Memory that is charged to it, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory without what the kernel could reclaim at once (inactive file pages), in bytes.
    pub working_set_bytes: Option<u64>,
    /// Anonymous memory, in bytes.
    pub rss_bytes: Option<u64>,
    /// Page faults.
    pub page_faults: Option<u64>,
    /// Major page faults.
    pub major_page_faults: Option<u64>,
    /// The limit on memory, in bytes; absent if there is none.
    pub memory_limit_bytes: Option<u64>,
    /// Swap in use, in bytes.
    pub swap_bytes: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
}

impl Stats {
    /// Reads the files of the cgroup at `directory`; those that are missing are skipped.
    pub(super) fn read(directory: &Path) -> Self {
        let cpu = Table::read(&directory.join("cpu.stat"));
        let memory = Table::read(&directory.join("memory.stat"));
        let number = |file: &str| read_number(&directory.join(file));
        let memory_bytes = number("memory.current");
        let inactive = memory.get("inactive_file").unwrap_or(0);
        Self {
            cpu_nanoseconds: cpu.get("usage_usec").map(|micros| micros.saturating_mul(1000)),
            memory_bytes,
            working_set_bytes: memory_bytes.map(|bytes| bytes.saturating_sub(inactive)),
            rss_bytes: memory.get("anon"),
            page_faults: memory.get("pgfault"),
            major_page_faults: memory.get("pgmajfault"),
            memory_limit_bytes: number("memory.max"),
            swap_bytes: number("memory.swap.current"),
            pids: number("pids.current"),
        }
    }
}

/// A file of lines `NAME NUMBER`.
pub(super) struct Table(String);

impl Table {
    pub(super) fn of(text: String) -> Self {
        Self(text)
    }

    fn read(path: &Path) -> Self {
        Self(fs::read_to_string(path).unwrap_or_default())
    }

    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

/// A file with one number; `max` is none.
fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let write = |file, text| fs::write(directory.path().join(file), text).unwrap();
        write("cpu.stat", "usage_usec 1500\nuser_usec 1000\n");
        write("memory.stat", "anon 300\ninactive_file 100\npgfault 5\npgmajfault 2\n");
        write("memory.current", "1000\n");
        write("memory.max", "max\n");
        let stats = Stats::read(directory.path());
        let expected = Stats {
            cpu_nanoseconds: Some(1_500_000),
            memory_bytes: Some(1000),
            working_set_bytes: Some(900),
            rss_bytes: Some(300),
            page_faults: Some(5),
            major_page_faults: Some(2),
            ..Stats::default()
        };
        assert_eq!(stats, expected);
    }
}
