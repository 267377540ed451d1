//! What has come of large layers that come slowly, so that a pull that ends in the middle, be it by
//! a kill of the daemon, is not in vain.
//!
//! ```text
//! ROOT/partial/sha256-HEX   the first bytes of the compressed layer of this digest
//! ```
//!
//! Layers are unpacked as they come, and no blob is kept: for most layers there is nothing here.
//! Only if getting a layer again would take longer than is worth it (`Config::keep_partial`, judged
//! by its first part) its bytes are written here too, for as long as the layer is not whole. The
//! next pull unpacks them from here and asks the registry for the rest, which is also where it is
//! seen that the client may have them at all: the last byte always comes from there. Nothing is
//! synced: what a power cut spoils is found out by the digest, and thrown away.

use std::collections::HashSet;
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{self, Read, Seek, Take, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::download::{FIRST_PART, LARGE};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// How long a part is kept that no pull has touched.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How many are kept; the oldest go.
const MOST: usize = 8;
/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// The directory of all parts.
#[derive(Debug)]
pub(crate) struct Partials {
    directory: PathBuf,
    /// How long it must take to get a layer again for its bytes to be kept.
    worth: Duration,
    claimed: Mutex<HashSet<PathBuf>>,
}

/// The right to read and write the part of one layer, while it is downloaded.
#[derive(Debug)]
pub(crate) struct Claim {
    partials: Arc<Partials>,
    path: PathBuf,
    size: u64,
    /// Bytes that were here at first.
    length: u64,
}

/// What passes bytes on to the unpacker: those that are here, then those that come, which it keeps
/// if that is worth it. Used from a blocking thread.
#[derive(Debug)]
pub(crate) struct Keeper {
    claim: Arc<Claim>,
    here: Option<Take<File>>,
    state: State,
    came: u64,
    waited: Duration,
}

#[derive(Debug)]
enum State {
    /// The first part, until it is known how slowly it comes.
    Weighing(Vec<Bytes>),
    Keeping(File),
    Passing,
}

impl Partials {
    /// Uses a directory that exists, and throws away what is too old. Blocks.
    pub(crate) fn open(directory: PathBuf, worth: Duration) -> Arc<Self> {
        let partials = Arc::new(Self { directory, worth, claimed: Mutex::default() });
        partials.sweep(MOST);
        partials
    }

    /// Claims the part of a layer, if it is large enough to have one and nobody else has. Blocks.
    pub(crate) fn claim(self: &Arc<Self>, digest: &Digest, size: u64) -> Option<Arc<Claim>> {
        if size < LARGE {
            return None;
        }
        self.sweep(MOST - 1);
        let path = self.directory.join(digest.as_str().replace(':', "-"));
        if !self.locked().insert(path.clone()) {
            return None;
        }
        let mut claim = Claim { partials: Arc::clone(self), path, size, length: 0 };
        let length = claim.path.symlink_metadata().map_or(0, |file| file.len());
        claim.length = length.min(size - 1);
        if length > claim.length && claim.open().and_then(|it| it.set_len(size - 1)).is_err() {
            claim.discard();
            claim.length = 0;
        }
        Some(Arc::new(claim))
    }

    /// Throws away what nobody uses: all but the newest `keep`, and what is too old.
    fn sweep(&self, keep: usize) {
        let claimed = self.locked();
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let age = |entry: &DirEntry| {
            let modified = entry.metadata().and_then(|file| file.modified());
            modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok())
        };
        let mut unused: Vec<_> = entries
            .map(|entry| (age(&entry).unwrap_or_default(), entry.path()))
            .filter(|(_, path)| !claimed.contains(path))
            .collect();
        unused.sort();
        for (number, (age, path)) in unused.into_iter().enumerate() {
            if number >= keep || age > LIFETIME {
                remove(&path);
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// How many of the layer's bytes are here.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The layer is there, or it failed with this error: decides about what is here. Blocks.
    pub(crate) fn settle(&self, error: Option<&Error>) {
        match error {
            // The disk is needed for something better.
            Some(Error::NoSpace { .. }) => {
                self.discard();
                self.partials.sweep(0);
            }
            Some(Error::Storage { .. }) | None => self.discard(),
            Some(error) if error.blames_content() => self.discard(),
            Some(_) => {}
        }
    }

    /// What passes its bytes on.
    ///
    /// # Errors
    /// `Storage` if what is here cannot be read.
    pub(crate) fn keeper(self: &Arc<Self>) -> Result<Keeper> {
        let (mut here, mut state) = (None, State::Weighing(Vec::new()));
        if self.length > 0 {
            let opened = self.open().and_then(|file| {
                let mut to = file.try_clone()?;
                here = Some(file.take(self.length));
                // Both have one position: what is read through is where writing begins.
                to.rewind()?;
                Ok(to)
            });
            state = State::Keeping(opened.map_err(|e| self.unusable("open", e))?);
        }
        let claim = Arc::clone(self);
        Ok(Keeper { claim, here, state, came: 0, waited: Duration::ZERO })
    }

    fn open(&self) -> io::Result<File> {
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.mode(0o600).custom_flags(nofollow).open(&self.path)
    }

    /// Whether twice the layer fits beside all that is here.
    fn has_room(&self) -> bool {
        let free = rustix::fs::statvfs(&self.partials.directory);
        free.is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) / 2 > self.size)
    }

    fn discard(&self) {
        remove(&self.path);
    }

    fn unusable(&self, step: &'static str, error: io::Error) -> Error {
        Error::storage(step, &self.path, error)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.partials.locked().remove(&self.path);
    }
}

impl Keeper {
    /// The next bytes: those that are here, then whatever `receive` brings.
    pub(crate) fn next(
        &mut self,
        receive: impl FnOnce() -> Result<Option<Bytes>>,
    ) -> Result<Option<Bytes>> {
        if let Some(here) = &mut self.here {
            let mut chunk = vec![0; CHUNK];
            let read = here.read(&mut chunk).map_err(|e| self.claim.unusable("read", e))?;
            if read > 0 {
                chunk.truncate(read);
                return Ok(Some(chunk.into()));
            }
            if here.limit() > 0 {
                let error = io::ErrorKind::UnexpectedEof.into();
                return Err(self.claim.unusable("read", error));
            }
            self.here = None;
        }
        let start = Instant::now();
        let chunk = receive()?;
        self.waited += start.elapsed();
        if let Some(chunk) = &chunk {
            self.keep(chunk);
        }
        Ok(chunk)
    }

    /// Keeps a chunk, or not. That it cannot be kept is no reason to stop.
    fn keep(&mut self, chunk: &Bytes) {
        let kept = match &mut self.state {
            State::Passing => return,
            State::Keeping(file) => file.write_all(chunk),
            State::Weighing(held) => {
                held.push(chunk.clone());
                self.came += chunk.len() as u64;
                if self.came < FIRST_PART {
                    return;
                }
                self.begin()
            }
        };
        if let Err(error) = kept {
            let path = self.claim.path.display();
            tracing::debug!(%path, %error, "cannot keep a partial download, ignoring");
            self.claim.discard();
            self.state = State::Passing;
        }
    }

    /// The first part is here: begins to keep, if that is worth it.
    fn begin(&mut self) -> io::Result<()> {
        let State::Weighing(held) = std::mem::replace(&mut self.state, State::Passing) else {
            return Ok(());
        };
        let again = repeated(self.waited, self.came, self.claim.size);
        if again < self.claim.partials.worth || !self.claim.has_room() {
            return Ok(());
        }
        let mut file = self.claim.open()?;
        for chunk in held {
            file.write_all(&chunk)?;
        }
        self.state = State::Keeping(file);
        Ok(())
    }
}

/// How long all of a layer takes of which `came` bytes took `waited`.
fn repeated(waited: Duration, came: u64, size: u64) -> Duration {
    // Exact enough for a guess.
    let share = size as f64 / (came as f64).max(1.0);
    Duration::try_from_secs_f64(waited.as_secs_f64() * share).unwrap_or(Duration::MAX)
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a partial download, ignoring");
    }
}
