//! Cache and memory bandwidth by Intel RDT and its likes: the kernel's `resctrl` file system.
//!
//! A directory in it is a class of service: a process whose PID is in its `tasks` has what its
//! `schemata` say, and so have the children that it makes from then on. A container has a class
//! of its own, by its id, or one that somebody else looks after, by `closID`; in either it may
//! have a group of its own to be measured by. What is made here is removed with the container, a
//! class of somebody else's never.
//!
//! Reference: the kernel's `Documentation/filesystems/resctrl.rst`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Storing as _};

/// What a container is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Name of its class; `/` for that of everybody.
    pub class: String,
    /// Whether the class is the container's own.
    pub own: bool,
    /// The container's id, and the name of its group for measuring.
    pub container: String,
    /// Lines of `schemata`.
    pub schemata: Vec<String>,
    /// Whether it is measured by itself.
    pub monitoring: bool,
}

/// The file system, where it is mounted.
#[derive(Clone, Debug)]
pub struct Resctrl(PathBuf);

impl Resctrl {
    /// Finds it.
    ///
    /// # Errors
    /// [`Error::Spec`] if it is not mounted: whoever asks for `linux.intelRdt` has to know.
    pub fn find() -> Result<Self, Error> {
        let path = "/proc/self/mountinfo";
        let mounts = fs::read_to_string(path).storing("read", path)?;
        let missing = || Error::Spec("linux.intelRdt: resctrl is not mounted on this host".into());
        mount_point(&mounts).map(Self).ok_or_else(missing)
    }

    /// Makes or finds the class, sets its schemata, and puts the process `pid` into it. What this
    /// has made of a failed attempt is gone again.
    ///
    /// # Errors
    /// [`Error::Storage`] with the kernel's own words, [`Error::Spec`] if a class that is not
    /// described does not exist.
    pub fn apply(&self, allocation: &Allocation, pid: i32) -> Result<(), Error> {
        let applied = self.make(allocation).and_then(|()| self.enter(allocation, pid));
        if applied.is_err() {
            // The first error is the one that matters.
            let _ = self.remove(allocation);
        }
        applied
    }

    /// Puts another process of the container into its class.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn enter(&self, allocation: &Allocation, pid: i32) -> Result<(), Error> {
        let mut groups = vec![self.class(allocation)];
        groups.extend(self.monitor(allocation));
        groups.iter().try_for_each(|group| self.write(&group.join("tasks"), &pid.to_string()))
    }

    /// Removes what was made for the container; once more does no harm.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn remove(&self, allocation: &Allocation) -> Result<(), Error> {
        // A class goes with the groups in it.
        let path =
            if allocation.own { Some(self.class(allocation)) } else { self.monitor(allocation) };
        let Some(path) = path else { return Ok(()) };
        match fs::remove_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.storing("remove", path),
        }
    }

    fn make(&self, allocation: &Allocation) -> Result<(), Error> {
        let class = self.class(allocation);
        let described = !allocation.schemata.is_empty();
        if !allocation.own && !described && !class.is_dir() {
            let name = &allocation.class;
            let text = format!(
                "linux.intelRdt.closID: there is no class {name:?}, and no schemata to make it with"
            );
            return Err(Error::Spec(text));
        }
        self.make_directory(&class)?;
        if described {
            let lines = allocation.schemata.join("\n") + "\n";
            self.write(&class.join("schemata"), &lines)?;
        }
        self.monitor(allocation).map_or(Ok(()), |group| self.make_directory(&group))
    }

    fn class(&self, allocation: &Allocation) -> PathBuf {
        self.0.join(allocation.class.trim_start_matches('/'))
    }

    fn monitor(&self, allocation: &Allocation) -> Option<PathBuf> {
        let group = || self.class(allocation).join("mon_groups").join(&allocation.container);
        allocation.monitoring.then(group)
    }

    fn make_directory(&self, path: &Path) -> Result<(), Error> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(|error| self.explain(error)).storing("make", path),
        }
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        let file = fs::OpenOptions::new().write(true).open(path);
        let written = file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(|error| self.explain(error)).storing("write", path)
    }

    /// The kernel says in a file what an error number cannot.
    fn explain(&self, error: io::Error) -> io::Error {
        match fs::read_to_string(self.0.join("info/last_cmd_status")) {
            Ok(text) if !text.trim().is_empty() && text.trim() != "ok" => {
                io::Error::new(error.kind(), format!("{error}: {}", text.trim()))
            }
            _ => error,
        }
    }
}

fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts
        .lines()
        .find_map(|line| {
            let (mount, fs) = line.split_once(" - ")?;
            (fs.split(' ').next()? == "resctrl").then(|| mount.split(' ').nth(4)).flatten()
        })
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree that looks like resctrl's, in which directories have their files already.
    fn tree(groups: &[&str]) -> (tempfile::TempDir, Resctrl) {
        let directory = tempfile::tempdir().unwrap();
        for group in groups {
            let group = directory.path().join(group.trim_start_matches('/'));
            fs::create_dir_all(group.join("mon_groups")).unwrap();
            for file in ["tasks", "schemata"] {
                fs::write(group.join(file), "").unwrap();
            }
        }
        let resctrl = Resctrl(directory.path().to_owned());
        (directory, resctrl)
    }

    fn allocation(class: &str, own: bool) -> Allocation {
        Allocation {
            class: class.to_owned(),
            own,
            container: "c1".to_owned(),
            schemata: vec!["L3:0=f".to_owned(), "MB:0=20".to_owned()],
            monitoring: false,
        }
    }

    #[test]
    fn a_process_gets_what_the_schemata_say() {
        let (directory, resctrl) = tree(&["/", "c1"]);
        resctrl.apply(&allocation("c1", true), 42).unwrap();
        let read = |file: &str| fs::read_to_string(directory.path().join(file)).unwrap();
        assert_eq!(read("c1/schemata"), "L3:0=f\nMB:0=20\n");
        assert_eq!(read("c1/tasks"), "42");
    }

    #[test]
    fn the_class_of_everybody_is_the_root() {
        let (directory, resctrl) = tree(&["/"]);
        resctrl.apply(&Allocation { schemata: Vec::new(), ..allocation("/", false) }, 42).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("tasks")).unwrap(), "42");
    }

    #[test]
    fn a_class_that_nobody_describes_must_be_there() {
        let (_directory, resctrl) = tree(&["/"]);
        let undescribed = Allocation { schemata: Vec::new(), ..allocation("gold", false) };
        let error = resctrl.apply(&undescribed, 42).unwrap_err().to_string();
        assert!(error.contains("linux.intelRdt.closID: "), "{error}");
    }

    #[test]
    fn only_what_is_the_containers_goes_with_it() {
        let (directory, resctrl) = tree(&["/"]);
        let mine = allocation("c1", true);
        fs::create_dir(directory.path().join("c1")).unwrap();
        resctrl.remove(&mine).unwrap();
        resctrl.remove(&mine).unwrap();
        assert!(!directory.path().join("c1").exists());
        let (directory, resctrl) = tree(&["gold"]);
        let theirs = Allocation { monitoring: true, ..allocation("gold", false) };
        fs::create_dir(directory.path().join("gold/mon_groups/c1")).unwrap();
        resctrl.remove(&theirs).unwrap();
        assert!(directory.path().join("gold/tasks").exists());
        assert!(!directory.path().join("gold/mon_groups/c1").exists());
    }

    #[test]
    fn a_failed_attempt_leaves_nothing_and_tells_the_kernels_words() {
        let (directory, resctrl) = tree(&["/"]);
        fs::create_dir(directory.path().join("info")).unwrap();
        fs::write(directory.path().join("info/last_cmd_status"), "Mask is bad\n").unwrap();
        // An ordinary directory has no file `schemata` to write to.
        let error = resctrl.apply(&allocation("c1", true), 42).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.ends_with(": Mask is bad"), "{cause}");
        assert!(!directory.path().join("c1").exists());
    }

    #[test]
    fn the_mount_is_found_wherever_it_is() {
        let mounts =
            "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /sys/fs/resctrl rw - resctrl resctrl rw\n";
        assert_eq!(mount_point(mounts), Some(PathBuf::from("/sys/fs/resctrl")));
        assert_eq!(mount_point("1 0 8:1 / /resctrl rw - ext4 resctrl rw\n"), None);
    }
}
