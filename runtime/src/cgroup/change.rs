//! Changing the limits of a cgroup that is in use: all of them or none.
//!
//! ```text
//! read what each file says ─► write all ─► read all back ─► replace the device filter
//!                                └──────────────┴──── on failure: write back, last first
//! ```
//!
//! What is raised is raised in the order of the plan, which is from the outside in, and what is
//! lowered is lowered after that from the inside out: so limits that bound each other hold at
//! every step.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::limits::unified::is_keyed;
use super::limits::{Absent, Write};

/// Why a change was not made, and what became of the files that had been written by then.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) write: Write,
    pub(super) source: io::Error,
    pub(super) undone: Vec<Undone>,
}

/// A file that was written before another one failed.
#[derive(Debug)]
pub struct Undone {
    /// The interface file.
    pub file: String,
    /// What it was set back to.
    pub value: String,
    /// Why it could not be.
    pub error: Option<io::Error>,
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, value, error } = self;
        match error {
            None => write!(f, "{file} is {value:?} again"),
            Some(error) => write!(f, "{file} could not be set back to {value:?}: {error}"),
        }
    }
}

/// Writes one limit; false if its file is not there and nothing is lost without it.
pub(super) fn write(directory: &Path, write: &Write) -> io::Result<bool> {
    let written = write_file(directory, &write.file, &write.value);
    match (&write.absent, written) {
        (Absent::Skip, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        (Absent::Instead(file, value), Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            write_file(directory, file, value).map(|()| true)
        }
        (_, written) => written.map(|()| true),
    }
}

/// Not `fs::write`, which would ask for the file to be made: where there is none that is told as
/// a lack of permission.
fn write_file(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    fs::File::options().write(true).open(directory.join(file))?.write_all(value.as_bytes())
}

/// What is written, with what was there before.
#[derive(Debug)]
struct Step {
    file: String,
    value: String,
    before: String,
    write: Write,
}

impl Step {
    /// Looks at the file that is going to be written, if there is one.
    fn look(directory: &Path, write: Write) -> Result<Option<Self>, Box<Refused>> {
        let read = |file: &str| fs::read_to_string(directory.join(file));
        let (mut file, mut value) = (write.file.clone(), write.value.clone());
        let mut found = read(&file);
        if found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            match &write.absent {
                Absent::Refuse => {}
                Absent::Skip => return Ok(None),
                Absent::Instead(other, on_its_scale) => {
                    (file, value) = ((*other).to_owned(), on_its_scale.clone());
                    found = read(&file);
                }
            }
        }
        match found {
            Ok(before) => Ok(Some(Self { file, value, before: before.trim_end().into(), write })),
            Err(source) => Err(Box::new(Refused { write, source, undone: Vec::new() })),
        }
    }

    fn lowers(&self) -> bool {
        let limit = |text: &str| {
            let first = text.split_whitespace().next()?;
            if first == "max" { Some(u64::MAX) } else { first.parse().ok() }
        };
        matches!((limit(&self.before), limit(&self.value)), (Some(a), Some(b)) if b < a)
    }

    fn write(&self, directory: &Path) -> io::Result<()> {
        write_file(directory, &self.file, &self.value)
    }

    fn read_back(&self, directory: &Path) -> io::Result<()> {
        let now = fs::read_to_string(directory.join(&self.file))?;
        if took(&self.file, &self.value, now.trim_end()) {
            return Ok(());
        }
        Err(io::Error::other(format!("it reads {:?} afterwards", now.trim_end())))
    }

    fn undo(&self, directory: &Path) -> Option<Undone> {
        let value = before(&self.file, &self.value, &self.before)?;
        let error = write_file(directory, &self.file, &value).err();
        Some(Undone { file: self.file.clone(), value, error })
    }
}

/// Makes all writes, and then does what `last` does; if any of it fails, sets everything back.
pub(super) fn change(
    directory: &Path,
    writes: Vec<Write>,
    last: impl FnOnce() -> io::Result<()>,
) -> Result<(), Box<Refused>> {
    let steps = writes.into_iter().map(|write| Step::look(directory, write));
    let steps: Vec<_> = steps.collect::<Result<_, _>>()?;
    let steps = in_order(steps.into_iter().flatten().collect());
    for (index, step) in steps.iter().enumerate() {
        if let Err(source) = step.write(directory) {
            return Err(roll_back(directory, &steps[..index], step, source));
        }
    }
    for step in &steps {
        if let Err(source) = step.read_back(directory) {
            return Err(roll_back(directory, &steps, step, source));
        }
    }
    last().map_err(|source| {
        let undone = undo(directory, &steps);
        Box::new(Refused { write: Write::devices(), source, undone })
    })
}

fn in_order(steps: Vec<Step>) -> Vec<Step> {
    let (lowered, mut all): (Vec<_>, Vec<_>) = steps.into_iter().partition(Step::lowers);
    all.extend(lowered.into_iter().rev());
    all
}

fn roll_back(directory: &Path, done: &[Step], failed: &Step, source: io::Error) -> Box<Refused> {
    Box::new(Refused { write: failed.write.clone(), source, undone: undo(directory, done) })
}

fn undo(directory: &Path, done: &[Step]) -> Vec<Undone> {
    done.iter().rev().filter_map(|step| step.undo(directory)).collect()
}

/// What has to be written to a file, after `written` was, so that it says `before` again; nothing
/// if that happens by itself.
fn before(file: &str, written: &str, before: &str) -> Option<String> {
    if file == "cpu.weight" && before == "0" {
        // It was idle, which is set back after this.
        return None;
    }
    if !is_keyed(file) {
        return Some(before.to_owned());
    }
    let (key, rest) = split_key(file, written);
    if let Some(line) = before.lines().find(|line| split_key(file, line).0 == key) {
        return Some(line.to_owned());
    }
    let lifted = match file {
        "io.weight" | "io.bfq.weight" => " default".to_owned(),
        "io.latency" => " target=0".to_owned(),
        "misc.max" => " max".to_owned(),
        _ => rest
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, _)| format!(" {name}=max"))
            .collect(),
    };
    Some(format!("{key}{lifted}"))
}

/// The device or resource that a line is about. A weight without one is the default.
fn split_key<'a>(file: &str, line: &'a str) -> (&'a str, &'a str) {
    let line = line.trim();
    match line.split_once(' ') {
        Some((key, rest)) => (key, rest),
        None if matches!(file, "io.weight" | "io.bfq.weight") => ("default", line),
        None => (line, ""),
    }
}

/// Whether a file that says `now` has taken what was written. Files that nothing is known of
/// have.
fn took(file: &str, written: &str, now: &str) -> bool {
    let written = written.trim();
    if is_keyed(file) {
        return took_line(file, written, now);
    }
    match file.split('.').next() {
        // Rounded down to pages; and a huge page may have a gibibyte.
        Some("memory" | "hugetlb") => match (written.parse::<u64>(), now.parse::<u64>()) {
            (Ok(written), Ok(now)) => now <= written && written - now < (1 << 30),
            // A suffix like "1G" is the kernel's to read.
            (Err(_), Ok(_)) => written != "max",
            _ => written == now || written.parse::<u64>().is_ok_and(|n| n > i64::MAX as u64),
        },
        Some("cpu") if file == "cpu.max" => {
            let mut now = now.split_whitespace();
            written.split_whitespace().all(|word| now.next() == Some(word))
        }
        Some("cpu" | "pids") => written == now,
        _ => true,
    }
}

fn took_line(file: &str, written: &str, now: &str) -> bool {
    let (key, wanted) = split_key(file, written);
    let line = now.lines().map(|line| split_key(file, line)).find(|(found, _)| *found == key);
    match line {
        Some((_, has)) => wanted.split_whitespace().all(|word| {
            let mut words = has.split_whitespace();
            word == "default" || words.any(|has| has == word)
        }),
        // The kernel does not list a device without limits.
        None => wanted.split_whitespace().all(|word| word.ends_with("max") || word == "default"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits;

    fn step(file: &str, value: &str, before: &str) -> Step {
        let json = format!(r#"{{"unified": {{{file:?}: {value:?}}}}}"#);
        let resources = serde_json::from_str(&json).unwrap();
        let write = limits::plan(&resources).unwrap().remove(0);
        Step { file: file.into(), value: value.into(), before: before.into(), write }
    }

    fn order(steps: Vec<Step>) -> Vec<String> {
        in_order(steps).into_iter().map(|step| step.file).collect()
    }

    #[test]
    fn limits_are_raised_from_the_outside_and_lowered_from_the_inside() {
        let up = vec![
            step("cpu.max", "50000 100000", "20000 100000"),
            step("cpu.max.burst", "30000", "10000"),
        ];
        assert_eq!(order(up), ["cpu.max", "cpu.max.burst"]);
        let down = vec![
            step("cpu.max", "20000 100000", "max 100000"),
            step("cpu.max.burst", "10000", "30000"),
            step("memory.max", "1000", "max"),
            step("memory.high", "max", "900"),
        ];
        assert_eq!(order(down), ["memory.high", "memory.max", "cpu.max.burst", "cpu.max"]);
    }

    #[test]
    fn what_was_there_before_can_be_written_back() {
        let table = [
            ("memory.max", "5", "max", Some("max")),
            ("cpu.max", "5 100000", "max 100000", Some("max 100000")),
            ("cpu.weight", "50", "0", None),
            ("cpuset.cpus", "0", "", Some("")),
            ("io.max", "8:0 rbps=5 wiops=6", "", Some("8:0 rbps=max wiops=max")),
            (
                "io.max",
                "8:0 rbps=5",
                "8:16 rbps=1 wbps=max riops=max wiops=max\n8:0 rbps=max wbps=7 riops=max wiops=max",
                Some("8:0 rbps=max wbps=7 riops=max wiops=max"),
            ),
            ("io.weight", "200", "default 100", Some("default 100")),
            ("io.weight", "8:0 200", "default 100", Some("8:0 default")),
            ("rdma.max", "mlx hca_handle=2", "", Some("mlx hca_handle=max")),
            ("misc.max", "sev 5", "sev 7", Some("sev 7")),
        ];
        for (file, written, was, expected) in table {
            assert_eq!(before(file, written, was).as_deref(), expected, "{file} {written}");
        }
    }

    #[test]
    fn what_is_read_back_may_be_rounded_but_not_ignored() {
        let good = [
            ("memory.max", "5000", "4096"),
            ("memory.max", "max", "max"),
            ("memory.max", "1G", "1073741824"),
            ("cpu.max", "max", "max 100000"),
            ("cpu.max", "5000 100000", "5000 100000"),
            ("pids.max", "7", "7"),
            ("cpuset.cpus", "0,1", "0-1"),
            ("io.max", "8:0 rbps=5 wbps=max", "8:0 rbps=5 wbps=max riops=max wiops=max"),
            ("io.max", "8:0 rbps=max", ""),
            ("io.weight", "200", "default 200"),
            ("io.weight", "8:0 default", "default 100"),
        ];
        for (file, written, now) in good {
            assert!(took(file, written, now), "{file} {written} {now}");
        }
        let bad = [
            ("memory.max", "4096", "max"),
            ("memory.max", "max", "4096"),
            ("cpu.max", "5000", "max 100000"),
            ("cpu.weight", "5", "100"),
            ("pids.max", "7", "max"),
            ("io.max", "8:0 rbps=5", ""),
            ("io.max", "8:0 rbps=5", "8:0 rbps=6 wbps=max riops=max wiops=max"),
            ("io.weight", "200", "default 100"),
        ];
        for (file, written, now) in bad {
            assert!(!took(file, written, now), "{file} {written} {now}");
        }
    }

    /// A directory with files of which `refusing` cannot be written: what a cgroup looks like
    /// from here.
    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(directory.path().join(file), text).unwrap();
        }
        directory
    }

    fn planned(json: &str) -> Vec<Write> {
        limits::plan(&serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn a_failure_sets_everything_back_and_says_so() {
        let directory = files(&[("cpu.weight", "100"), ("pids.max", "max"), ("memory.max", "max")]);
        let writes = planned(r#"{"cpu": {"shares": 2}, "pids": {"limit": 7}}"#);
        let refused = change(directory.path(), writes, || Err(io::Error::other("no"))).unwrap_err();
        let undone: Vec<_> = refused.undone.iter().map(ToString::to_string).collect();
        assert_eq!(undone, ["cpu.weight is \"100\" again", "pids.max is \"max\" again"]);
        let read = |file| fs::read_to_string(directory.path().join(file)).unwrap();
        assert_eq!((read("cpu.weight"), read("pids.max")), ("100".into(), "max".into()));
    }

    #[test]
    fn a_file_that_is_not_there_changes_nothing() {
        let directory = files(&[("cpu.weight", "100")]);
        let writes = planned(r#"{"cpu": {"shares": 2}, "memory": {"limit": 9}}"#);
        let refused = change(directory.path(), writes, || Ok(())).unwrap_err();
        assert_eq!(refused.write.file, "memory.max");
        assert!(refused.undone.is_empty());
        assert_eq!(fs::read_to_string(directory.path().join("cpu.weight")).unwrap(), "100");
    }

    #[test]
    fn another_file_takes_the_place_of_one_that_is_not_there() {
        let directory = files(&[("io.weight", "default 100")]);
        let weight = planned(r#"{"blockIO": {"weight": 1000}}"#);
        assert!(write(directory.path(), &weight[0]).unwrap());
        assert!(
            fs::read_to_string(directory.path().join("io.weight")).unwrap().starts_with("10000")
        );
        let reserved = planned(r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}"#);
        assert!(!write(directory.path(), &reserved[1]).unwrap());
        assert!(write(directory.path(), &reserved[0]).is_err());
    }
}
