//! Kills for memory: whether there were any, and whose limit was the reason.
//!
//! The kernel counts twice, in `memory.events.local`: `oom_kill` in the cgroup of the victim, and
//! `oom` in the cgroup that had reached its limit, which may be one above. Both counts are raised
//! before the victim gets its signal, so whoever has reaped it finds them, as long as the cgroup
//! is there. They are never reset, and those above are shared with other containers: what counts
//! is what has been added since the container was started.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};

use super::CgroupPath;
use super::stats::Table;

/// How far above a container limits are looked at: a kubelet has its pods in the fourth level.
const LEVELS: usize = 8;

/// How often the limit of a cgroup was reached, and of those above it, by level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached([u64; LEVELS]);

impl Reached {
    /// Counts now. Where there is no memory controller nothing is ever reached.
    pub(crate) fn now(cgroup: BorrowedFd<'_>) -> Self {
        let mut counts = [0; LEVELS];
        for (level, count) in counts.iter_mut().enumerate() {
            // The root of the hierarchy has no limits, and no such file.
            let Some(found) = read(cgroup, level, "oom") else { break };
            *count = found;
        }
        Self(counts)
    }

    /// The lowest level whose limit was reached since `earlier`: 0 is the cgroup itself. None if
    /// the machine as a whole was out of memory.
    pub(crate) fn since(&self, earlier: &Self) -> Option<u32> {
        let level = self.0.iter().zip(&earlier.0).position(|(now, earlier)| now > earlier)?;
        u32::try_from(level).ok()
    }
}

/// Processes of a cgroup itself, without those below it, that were killed for memory; none where
/// there is no memory controller.
pub(crate) fn oom_kills(cgroup: BorrowedFd<'_>) -> u64 {
    read(cgroup, 0, "oom_kill").unwrap_or(0)
}

fn read(cgroup: BorrowedFd<'_>, level: usize, name: &str) -> Option<u64> {
    let path = format!("{}memory.events.local", "../".repeat(level));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(cgroup, path, flags, Mode::empty()).ok()?;
    let text = io::read_to_string(fs::File::from(file)).ok()?;
    Table::of(text).get(name)
}

/// Says whose limit it was that `level`, counted from a container's cgroup, stands for.
pub(crate) fn tell(container: &CgroupPath, level: Option<u32>) -> String {
    let Some(level) = level else {
        return "killed for memory: the machine had none left".to_owned();
    };
    let mut cgroup = container.clone();
    for _ in 0..level {
        cgroup = cgroup.parent().unwrap_or(cgroup);
    }
    let whose = match level {
        0 => "the container",
        _ if pod(container).is_some_and(|pod| pod.contains(&cgroup)) => "its pod",
        _ => "all pods together",
    };
    format!("killed for memory: the limit of {whose} was reached (cgroup {cgroup})")
}

/// The pod's cgroup: the one above the container's, or above the scope that both are in.
fn pod(container: &CgroupPath) -> Option<CgroupPath> {
    let above = container.parent().ok()?;
    if above.as_str().ends_with(".scope") { above.parent().ok() } else { Some(above) }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir_all, write};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn the_lowest_limit_that_was_reached_since_is_the_reason() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("pods/pod/app");
        create_dir_all(&deep).unwrap();
        let set = |at: &str, oom: u64, kills: u64| {
            let text = format!("low 0\noom {oom}\noom_kill {kills}\n");
            write(root.path().join(at).join("memory.events.local"), text).unwrap();
        };
        set("pods", 3, 0);
        set("pods/pod", 5, 0);
        set("pods/pod/app", 1, 1);
        let app = File::open(&deep).unwrap();
        let earlier = Reached::now(app.as_fd());
        assert_eq!(Reached::now(app.as_fd()).since(&earlier), None);
        assert_eq!(oom_kills(app.as_fd()), 1);
        set("pods", 4, 0);
        assert_eq!(Reached::now(app.as_fd()).since(&earlier), Some(2));
        set("pods/pod", 6, 0);
        assert_eq!(Reached::now(app.as_fd()).since(&earlier), Some(1));
        set("pods/pod/app", 2, 2);
        assert_eq!(Reached::now(app.as_fd()).since(&earlier), Some(0));
    }

    #[test]
    fn without_a_memory_controller_nothing_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let directory = File::open(root.path()).unwrap();
        assert_eq!(Reached::now(directory.as_fd()), Reached::default());
        assert_eq!(oom_kills(directory.as_fd()), 0);
    }

    #[test]
    fn a_level_is_told_by_who_has_the_limit() {
        let told = |path: &str, level| tell(&CgroupPath::parse(path).unwrap(), level);
        let plain = "/kubepods/burstable/pod1/app";
        assert!(
            told(plain, Some(0))
                .contains("of the container was reached (cgroup /kubepods/burstable/pod1/app)")
        );
        assert!(
            told(plain, Some(1))
                .contains("of its pod was reached (cgroup /kubepods/burstable/pod1)")
        );
        assert!(
            told(plain, Some(2))
                .contains("of all pods together was reached (cgroup /kubepods/burstable)")
        );
        assert!(told(plain, None).contains("the machine had none left"));
        let scoped = "/kubepods.slice/kubepods-pod1.slice/berth-s.scope/app";
        assert!(told(scoped, Some(1)).contains("its pod"));
        assert!(
            told(scoped, Some(2))
                .contains("its pod was reached (cgroup /kubepods.slice/kubepods-pod1.slice)")
        );
        assert!(told(scoped, Some(3)).contains("all pods"));
    }
}
