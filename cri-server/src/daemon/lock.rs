//! One berthd per directory: a lock that the kernel takes back when its
//! holder dies, however it dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::Directories;
use crate::error::Error;

const FILE: &str = "berthd.lock";

/// Locks held by this process until they are dropped.
#[derive(Debug)]
pub(super) struct Locks(#[expect(dead_code, reason = "an open file is the lock")] Vec<File>);

/// Locks the state and the root directory.
pub(super) fn take(dirs: &Directories) -> Result<Locks, Error> {
    let mut files = vec![lock(&dirs.state)?];
    // The state is on another file system, except where someone tries things.
    if dirs.root != dirs.state {
        files.push(lock(&dirs.root)?);
    }
    Ok(Locks(files))
}

fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(FILE);
    let failed = |source| Error::directory(directory, source);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(source)) => return Err(failed(source)),
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).ok();
            let pid = holder.and_then(|holder| holder.trim().parse().ok());
            return Err(Error::AlreadyRunning { directory: directory.to_owned(), pid });
        }
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once_until_its_holder_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let holder = lock(directory.path()).unwrap();

        let refused = lock(directory.path()).unwrap_err();

        let (pid, path) = (std::process::id(), directory.path().display());
        assert_eq!(
            refused.to_string(),
            format!("another berthd (pid {pid}) already runs on {path}")
        );
        drop(holder);
        lock(directory.path()).unwrap();
    }

    #[test]
    fn one_directory_for_both_is_locked_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();

        take(&Directories { root: path.clone(), state: path }).unwrap();
    }
}
