//! One berthd per directory: a lock that the kernel takes back when its
//! holder dies, however it dies.
//!
//! It is of the kind that belongs to a process (fcntl(2), "Advisory record
//! locking"). One that belongs to an open file would outlive a berthd that is
//! killed while it starts a program: until its execve(2), a child has a copy
//! of every descriptor, and the next berthd would be refused.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use crate::config::Directories;
use crate::error::Error;

const FILE: &str = "berthd.lock";

/// Locks held by this process until they are dropped.
#[derive(Debug)]
pub(super) struct Locks(#[expect(dead_code, reason = "an open file is the lock")] [File; 2]);

/// Locks the state and the root directory.
pub(super) fn take(dirs: &Directories) -> Result<Locks, Error> {
    Ok(Locks([lock(&dirs.state)?, lock(&dirs.root)?]))
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
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        // fcntl(2): either may be said.
        Err(Errno::AGAIN | Errno::ACCESS) => {
            let holder = fs::read_to_string(&path).ok();
            let pid = holder.and_then(|holder| holder.trim().parse().ok());
            return Err(Error::AlreadyRunning { directory: directory.to_owned(), pid });
        }
        Err(error) => return Err(failed(error.into())),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}
