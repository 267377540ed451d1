//! A whole machine: what a server of today has and a development machine may lack. `.ci/machine`
//! finds or boots one and runs a whole test binary on it; here it is only recognized.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::{cgroup, needs};

/// Controllers that the top of the hierarchy must hand on.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
/// Free huge pages of 2 MiB.
const HUGE_PAGES: u64 = 16;

/// Fails unless this machine has all that makes one whole; the message says how to get one.
pub(super) fn ensure_whole() -> Result<()> {
    let missing = missing();
    ensure!(
        missing.is_empty(),
        "this machine has not {}; run `make test-full`, which boots one that has",
        missing.join(", ")
    );
    Ok(())
}

fn missing() -> Vec<String> {
    let offered = cgroup::offered();
    let controllers = CONTROLLERS.iter().filter(|name| !offered.iter().any(|o| o == *name));
    let mut missing: Vec<_> = controllers.map(|name| format!("the controller {name}")).collect();
    let parts = [
        // As sd_booted(3) has it.
        ("systemd as PID 1", Path::new("/run/systemd/system").is_dir()),
        ("AppArmor", says("/sys/module/apparmor/parameters/enabled").starts_with('Y')),
        // The file is there also where PSI is off: reading it fails then.
        ("PSI", says("/proc/pressure/memory").starts_with("some")),
        ("free huge pages", free_huge_pages() >= HUGE_PAGES),
        ("two CPUs", says("/sys/fs/cgroup/cpuset.cpus.effective").trim() != "0"),
        ("criu", needs::program("criu").is_ok()),
        ("systemctl", needs::program("systemctl").is_ok()),
    ];
    missing.extend(parts.iter().filter(|(_, there)| !there).map(|(name, _)| (*name).to_owned()));
    missing
}

fn free_huge_pages() -> u64 {
    let count = says("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    count.trim().parse().unwrap_or(0)
}

fn says(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}
