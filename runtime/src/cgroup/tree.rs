//! Making and removing the directories of the hierarchy, and knowing our own.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::XattrFlags;

use crate::error::Error;

use super::{CgroupPath, Hierarchy, is_gone};

/// The attribute by which a cgroup is known as ours.
const OWNER: &str = "trusted.berth";

impl Hierarchy {
    /// Paths of the cgroups that carry the owner's mark, wherever they are.
    pub fn owned(&self) -> Vec<CgroupPath> {
        let mut found = Vec::new();
        self.collect_owned(Path::new(""), &mut found);
        found
    }

    fn collect_owned(&self, relative: &Path, found: &mut Vec<CgroupPath>) {
        let directory = self.0.root.join(relative);
        let Ok(entries) = fs::read_dir(&directory) else {
            return;
        };
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            let relative = relative.join(entry.file_name());
            if self.is_ours(&entry.path()) {
                found.extend(CgroupPath::parse(&relative.to_string_lossy()));
            }
            self.collect_owned(&relative, found);
        }
    }

    fn is_ours(&self, directory: &Path) -> bool {
        let mut value = vec![0; self.0.owner.len() + 1];
        let length = rustix::fs::getxattr(directory, OWNER, &mut value[..]);
        length.is_ok_and(|length| &value[..length] == self.0.owner.as_bytes())
    }

    /// Makes what is missing of a path, and hands the controllers down to it.
    ///
    /// Tries again when a directory on the way is removed meanwhile with its last cgroup.
    pub(super) fn make_directories(&self, path: &CgroupPath) -> Result<(), Error> {
        let mut attempts = 0;
        loop {
            match self.try_make_directories(path) {
                Err((_, error)) if is_gone(&error) && attempts < 16 => attempts += 1,
                Err((cgroup, error)) => return Err(cgroup.failed("make")(error)),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Makes the cgroup at `path` in one that has a single process, and moves that in: a cgroup
    /// with processes hands no controllers down, or makes those below it unusable (threaded).
    ///
    /// # Errors
    /// If the hierarchy refuses.
    pub fn make_room(&self, path: &CgroupPath, process: u32) -> Result<(), Error> {
        let directory = self.directory(path);
        self.make_directory(&directory).map_err(path.failed("make"))?;
        fs::write(directory.join("cgroup.procs"), process.to_string())
            .map_err(path.failed("move a process to"))
    }

    /// Makes one directory, and marks it as ours; one that is there is fine.
    fn make_directory(&self, directory: &Path) -> io::Result<()> {
        match fs::create_dir(directory) {
            Ok(()) => {
                let owner = self.0.owner.as_bytes();
                Ok(rustix::fs::setxattr(directory, OWNER, owner, XattrFlags::empty())?)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn try_make_directories(&self, path: &CgroupPath) -> Result<(), (CgroupPath, io::Error)> {
        let mut parent = self.0.root.clone();
        for ancestor in path.ancestry() {
            self.delegate(&parent);
            let directory = self.directory(&ancestor);
            self.make_directory(&directory).map_err(|error| (ancestor, error))?;
            parent = directory;
        }
        Ok(())
    }

    /// Enables all controllers for the children of a cgroup. Where one is refused, a limit that
    /// needs it says so when it is written.
    fn delegate(&self, directory: &Path) {
        let file = directory.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&file).unwrap_or_default();
        let enabled: BTreeSet<_> = enabled.split_whitespace().collect();
        for controller in self.controllers().filter(|controller| !enabled.contains(controller)) {
            let _ = fs::write(&file, format!("+{controller}"));
        }
    }

    /// Removes those above that were made for it and are empty now.
    pub(super) fn remove_above(&self, directory: &Path) {
        for above in directory.ancestors().skip(1).take_while(|above| self.is_ours(above)) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
    }
}

/// Removes a cgroup and those below it, the lowest first; one that is gone is fine.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if is_gone(&error) => return Ok(()),
        Ok(()) => return Ok(()),
        Err(_) => {}
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

/// PIDs in and below a cgroup; one that is gone has none.
pub(super) fn processes(directory: &Path) -> io::Result<Vec<i32>> {
    let text = match fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        text => text?,
    };
    let mut found: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(processes(&entry.path())?);
        }
    }
    Ok(found)
}
