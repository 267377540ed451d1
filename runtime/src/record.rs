//! What is on disk about a thing that exists: one JSON file per object.
//!
//! A record is written to a temporary file and renamed, so it is there whole or not at all, and
//! nobody waits for the disk: a background task syncs what has changed within a second. What a
//! power cut takes from that second is found again by the audit. Each file says which boot it
//! was written in, because what a record says of processes ends with that boot.
//!
//! A file that cannot be read is moved to `quarantine/` beside it, and reported: one damaged
//! record costs one object, not the start of the daemon.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Storing as _};

/// Version of the envelope.
const VERSION: u32 = 1;

/// Longest time that a change stays unsynced.
const SYNC_WITHIN: Duration = Duration::from_millis(800);

/// What surrounds a record in its file.
#[derive(Debug, Deserialize, Serialize)]
struct Envelope<T> {
    version: u32,
    boot: String,
    record: T,
}

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The object's id, which is the file's name.
    pub id: String,
    /// What is recorded.
    pub record: T,
    /// Whether it was written since the machine was booted.
    pub this_boot: bool,
}

/// The records of one kind of object.
#[derive(Debug)]
pub struct Store<T> {
    directory: PathBuf,
    boot: Arc<str>,
    syncer: Syncer,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self {
            directory: self.directory.clone(),
            boot: Arc::clone(&self.boot),
            syncer: self.syncer.clone(),
            kind: self.kind,
        }
    }
}

impl<T: Serialize + DeserializeOwned> Store<T> {
    /// Keeps records in `directory`, which is made if it is missing.
    ///
    /// # Errors
    /// If the directory cannot be made, or the kernel does not tell the boot's id.
    pub fn open(directory: impl Into<PathBuf>, syncer: &Syncer) -> Result<Self, Error> {
        let directory = directory.into();
        make_private_directory(&directory)?;
        let source = "/proc/sys/kernel/random/boot_id";
        let boot = fs::read_to_string(source).storing("read", source)?;
        Ok(Self {
            directory,
            boot: boot.trim().into(),
            syncer: syncer.clone(),
            kind: std::marker::PhantomData,
        })
    }

    /// Writes the record of `id`, which must be a plain file name, in place of an earlier one.
    ///
    /// # Errors
    /// If the file system refuses; the earlier record is then still there.
    pub fn write(&self, id: &str, record: &T) -> Result<(), Error> {
        let path = self.path(id);
        let temporary = self.directory.join(format!(".{id}.tmp"));
        let envelope = Envelope { version: VERSION, boot: self.boot.to_string(), record };
        let bytes = serde_json::to_vec(&envelope).map_err(std::io::Error::from);
        let bytes = bytes.storing("encode", &path)?;
        let written = write_file(&temporary, &bytes).and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            // Best effort: an error of its own would hide the one that matters.
            let _ = fs::remove_file(&temporary);
        }
        written.storing("write record", &path)?;
        self.syncer.changed(path);
        Ok(())
    }

    /// Removes the record of `id`; one that is gone is fine.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn remove(&self, id: &str) -> Result<(), Error> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).storing("remove record", path)
            }
            _ => {
                self.syncer.changed(self.directory.clone());
                Ok(())
            }
        }
    }

    /// The record of `id`, if there is one that can be read.
    pub fn get(&self, id: &str) -> Option<T> {
        self.read(&self.path(id)).map(|envelope| envelope.record)
    }

    /// Reads all records. Those that make no sense are set aside and returned as the second
    /// value, by path.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn load(&self) -> Result<(Vec<Found<T>>, Vec<PathBuf>), Error> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.directory).storing("read", &self.directory)? {
            let path = entry.storing("read", &self.directory)?.path();
            let Some(id) = id_of(&path) else {
                // Left by a crash in the middle of a write: the record proper is untouched.
                if path.extension().is_some_and(|extension| extension == "tmp") {
                    fs::remove_file(&path).storing("remove", &path)?;
                }
                continue;
            };
            match self.read(&path) {
                Some(envelope) => found.push(Found {
                    id,
                    record: envelope.record,
                    this_boot: envelope.boot == *self.boot,
                }),
                None => damaged.push(self.quarantine(&path)?),
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((found, damaged))
    }

    fn read(&self, path: &Path) -> Option<Envelope<T>> {
        let bytes = fs::read(path).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|found: &Envelope<T>| found.version == VERSION)
    }

    fn quarantine(&self, path: &Path) -> Result<PathBuf, Error> {
        let directory = self.directory.join("quarantine");
        make_private_directory(&directory)?;
        let target = directory.join(path.file_name().unwrap_or_default());
        fs::rename(path, &target).storing("set aside", path)?;
        tracing::warn!(path = %target.display(), "set aside a record that cannot be read");
        Ok(target)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }
}

fn id_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let id = name.strip_suffix(".json")?;
    (!id.starts_with('.')).then(|| id.to_owned())
}

fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    options.open(path)?.write_all(bytes)
}

/// Makes a directory, and its parents, that only root can enter.
///
/// # Errors
/// If the file system refuses.
pub fn make_private_directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).storing("make directory", path)
}

/// Syncs what has changed, in the background.
#[derive(Clone, Debug)]
pub struct Syncer {
    changes: mpsc::UnboundedSender<PathBuf>,
}

impl Syncer {
    /// Starts the task. It ends, with everything synced, when `stop` is cancelled or the last
    /// clone is gone.
    pub fn start(tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (changes, receiver) = mpsc::unbounded_channel();
        tasks.spawn(sync_all(receiver, stop));
        Self { changes }
    }

    fn changed(&self, path: PathBuf) {
        // After shutdown nobody listens, and the kernel writes back by itself.
        let _ = self.changes.send(path);
    }
}

async fn sync_all(mut changes: mpsc::UnboundedReceiver<PathBuf>, stop: CancellationToken) {
    loop {
        let first = tokio::select! {
            first = changes.recv() => first,
            () = stop.cancelled() => changes.try_recv().ok(),
        };
        let Some(first) = first else { return };
        // Not a wait for something to happen: changes come in bursts, and a burst is synced once.
        tokio::select! {
            () = tokio::time::sleep(SYNC_WITHIN) => {}
            () = stop.cancelled() => {}
        }
        let mut paths = BTreeSet::from([first]);
        while let Ok(path) = changes.try_recv() {
            paths.insert(path);
        }
        let synced = tokio::task::spawn_blocking(move || sync_paths(&paths)).await;
        if let Ok(Err(error)) = synced {
            tracing::warn!(%error, "records are not synced to disk, ignoring");
        }
    }
}

fn sync_paths(paths: &BTreeSet<PathBuf>) -> std::io::Result<()> {
    let mut directories = BTreeSet::new();
    for path in paths {
        if path.is_dir() {
            directories.insert(path.as_path());
            continue;
        }
        directories.extend(path.parent());
        match File::open(path) {
            Ok(file) => file.sync_data()?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    directories.into_iter().try_for_each(|directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(directory: &Path) -> Store<Vec<u32>> {
        let syncer = Syncer::start(&TaskTracker::new(), CancellationToken::new());
        Store::open(directory, &syncer).unwrap()
    }

    #[tokio::test]
    async fn a_record_is_what_was_written_last() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        store.write("a", &vec![1]).unwrap();
        store.write("a", &vec![1, 2]).unwrap();
        store.write("b", &vec![]).unwrap();
        store.remove("b").unwrap();
        store.remove("b").unwrap();
        let (found, damaged) = store.load().unwrap();
        let expected = Found { id: "a".to_owned(), record: vec![1, 2], this_boot: true };
        assert_eq!((found, damaged), (vec![expected], vec![]));
    }

    #[tokio::test]
    async fn a_damaged_record_is_set_aside_and_costs_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        store.write("good", &vec![7]).unwrap();
        fs::write(directory.path().join("bad.json"), "{\"version\":1,").unwrap();
        fs::write(directory.path().join(".half.tmp"), "{").unwrap();
        let (found, damaged) = store.load().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(damaged, [directory.path().join("quarantine/bad.json")]);
        assert!(damaged[0].exists());
        assert!(!directory.path().join(".half.tmp").exists());
        assert_eq!(store.load().unwrap().1, Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn a_record_of_another_boot_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let text = r#"{"version":1,"boot":"another","record":[3]}"#;
        fs::write(directory.path().join("old.json"), text).unwrap();
        assert!(!store.load().unwrap().0[0].this_boot);
    }
}
