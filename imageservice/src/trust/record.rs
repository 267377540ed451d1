//! What was good about an image when it was pulled: its signature, and how its registry described
//! it. A file for each manifest, written anew by a later pull.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cosign::Signed;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// See the module. One that is damaged counts as none: the next pull writes another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// One that was good, if one was asked for.
    pub(super) signatures: Vec<Signed>,
    pub(super) description: Description,
}

/// What a registry said of the manifest or index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Description {
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

impl Record {
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Replaces the file, if it says something else. Not synced: at worst it is gone after a power cut, and the image has to
    /// be pulled again.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let storage = |step| move |error: io::Error| Error::storage(step, path, error);
        if Self::read(path).as_ref() == Some(self) {
            return Ok(());
        }
        let text = serde_json::to_vec(self).map_err(io::Error::from).map_err(storage("encode"))?;
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(storage("make the directory of"))?;
        }
        let draft = path.with_extension("draft");
        std::fs::write(&draft, text).map_err(storage("write"))?;
        std::fs::rename(&draft, path).map_err(storage("publish"))
    }
}

/// Removes the records of all other images, and drafts that a crash has left.
pub(super) fn prune(directory: &Path, live: &HashSet<Digest>) -> Result<()> {
    let names: HashSet<String> =
        live.iter().map(|digest| format!("{}.json", digest.hex())).collect();
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| Error::storage("read", directory, error))?,
    };
    let is_stray = |path: &PathBuf| {
        path.file_name().is_none_or(|name| !names.contains(name.to_string_lossy().as_ref()))
    };
    remove(entries.flatten().map(|entry| entry.path()).filter(is_stray).collect())
}

/// Removes records; those that are not there are removed already.
pub(super) fn remove(paths: Vec<PathBuf>) -> Result<()> {
    for path in paths {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::storage("remove", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}
