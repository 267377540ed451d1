//! Small JSON files that are there whole or not at all.
//!
//! A record is written beside its place and renamed over it. Writing in two steps keeps a set of
//! records together: all are staged, which is where a full disk shows, before the first is
//! committed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The ending of files that were staged and not committed.
pub(super) const TEMPORARY: &str = "tmp";

/// Whether a record must be there after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Its content is synced; its directory is for [`sync_directory`].
    Synced,
    /// It survives a crash of the program only.
    Volatile,
}

/// A record that is written and not yet visible. Dropped, it was never there.
#[derive(Debug)]
pub(super) struct Staged {
    temporary: PathBuf,
    target: PathBuf,
    is_committed: bool,
}

/// Writes a record beside its place. There must be one writer per target.
pub(super) fn stage(
    target: &Path,
    value: &impl Serialize,
    durability: Durability,
) -> Result<Staged> {
    let temporary = target.with_extension(TEMPORARY);
    let staged = Staged { temporary, target: target.to_owned(), is_committed: false };
    let write = || -> io::Result<()> {
        let mut file = File::create(&staged.temporary)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        if durability == Durability::Synced { file.sync_all() } else { Ok(()) }
    };
    write().map_err(|e| Error::storage("write record", target, e))?;
    Ok(staged)
}

impl Staged {
    /// Makes the record visible, in the place of an older one.
    pub(super) fn commit(mut self) -> Result<()> {
        std::fs::rename(&self.temporary, &self.target)
            .map_err(|e| Error::storage("commit record", &self.target, e))?;
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_committed {
            // The next start removes it if this fails.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Reads a record.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Removes a record; one that is not there is removed already.
pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::storage("remove record", path, error))
        }
        _ => Ok(()),
    }
}

/// Makes renames and removals in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| Error::storage("sync directory", path, e))
}
