//! One look at all that a daemon could leave behind in its place.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::proc;

/// How deep directories are compared: to the ids of pods, containers and snapshots, not into
/// what they hold.
const DEPTH: usize = 4;
const CGROUPS: &str = "/sys/fs/cgroup";
const NETNS: &str = "/run/netns";
/// Files of CNI: addresses that host-local gave away, results that runtimes cache.
const CNI: &str = "/var/lib/cni";

/// Kinds of things that can be left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A mount in the place's mount namespace.
    Mount,
    /// A pinned network namespace.
    Namespace,
    /// A network interface.
    Link,
    /// A NAT rule that names a pod.
    Rule,
    /// A cgroup.
    Cgroup,
    /// A process, or a zombie.
    Process,
    /// An address that is still given away, or a cached result.
    Cni,
    /// A file or directory of the daemon.
    File,
    /// A socket that listens.
    Socket,
}

/// One thing that differs between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// What kind of thing.
    pub class: Class,
    /// Which one.
    pub what: String,
    /// How many more there are than before; negative for what is gone.
    pub more: i64,
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} ({:+})", self.class, self.what, self.more)
    }
}

/// All that was there at one time, counted: stacked mounts and equal processes matter.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    things: BTreeMap<(Class, String), i64>,
}

impl Snapshot {
    /// Looks at the place of this process, and at `dirs`.
    pub fn take(dirs: &[PathBuf]) -> Result<Self> {
        let mut snapshot = Self::default();
        snapshot.add(Class::Mount, proc::mounts()?);
        snapshot.add(Class::Namespace, tree(Path::new(NETNS), 1)?);
        snapshot.add(Class::Link, names(Path::new("/sys/class/net"))?);
        snapshot.add(Class::Rule, rules()?);
        snapshot.add(Class::Cgroup, cgroups(Path::new(CGROUPS))?);
        snapshot.add(Class::Process, proc::processes()?);
        snapshot.add(Class::Cni, cni_files()?);
        snapshot.add(Class::Socket, proc::listening()?);
        for dir in dirs {
            snapshot.add(Class::File, tree(dir, DEPTH)?);
        }
        Ok(snapshot)
    }

    /// What `after` has more or less.
    pub fn diff(&self, after: &Self) -> Vec<Stray> {
        let keys =
            self.things.keys().chain(after.things.keys().filter(|k| !self.things.contains_key(k)));
        let count = |snapshot: &Self, key| snapshot.things.get(key).copied().unwrap_or_default();
        let strays = keys.map(|key| Stray {
            class: key.0,
            what: key.1.clone(),
            more: count(after, key) - count(self, key),
        });
        strays.filter(|stray| stray.more != 0).collect()
    }

    /// Everything of one class, counted.
    pub fn of(&self, class: Class) -> BTreeMap<&str, i64> {
        let of_class = self.things.iter().filter(|((c, _), _)| *c == class);
        of_class.map(|((_, what), count)| (what.as_str(), *count)).collect()
    }

    fn add(&mut self, class: Class, things: Vec<String>) {
        for what in things {
            *self.things.entry((class, what)).or_default() += 1;
        }
    }
}

/// An empty list for what does not exist, or no longer does.
pub(super) fn gone_is_empty<T>(result: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match result {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>> {
    gone_is_empty(fs::read_dir(dir).and_then(Iterator::collect))
        .with_context(|| format!("list {}", dir.display()))
}

fn names(dir: &Path) -> Result<Vec<String>> {
    Ok(entries(dir)?.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
}

/// Every path below `dir`, `depth` levels down.
fn tree(dir: &Path, depth: usize) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in entries(dir)? {
        paths.push(entry.path().to_string_lossy().into_owned());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            paths.extend(tree(&entry.path(), depth - 1)?);
        }
    }
    Ok(paths)
}

fn cgroups(dir: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in entries(dir)? {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            paths.push(path.to_string_lossy().replacen(CGROUPS, "", 1));
            paths.extend(cgroups(&path)?);
        }
    }
    Ok(paths)
}

/// The addresses and results that CNI keeps, without what host-local keeps for good.
fn cni_files() -> Result<Vec<String>> {
    let permanent = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name == "lock" || name.starts_with("last_reserved_ip") || Path::new(path).is_dir()
    };
    let mut files = tree(Path::new(CNI), DEPTH)?;
    files.retain(|path| !permanent(path));
    Ok(files)
}

/// The NAT rules that carry a pod's id in their comment, as bridge and portmap write them. The
/// chains that portmap makes once carry none.
fn rules() -> Result<Vec<String>> {
    let output = match Command::new("iptables-save").args(["-t", "nat"]).output() {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        output => output.context("run iptables-save")?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "iptables-save: {}: {said}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter(|line| line.contains("id: ")).map(str::to_owned).collect())
}
