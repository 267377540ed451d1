//! Throwing away in the background: what is discarded is renamed to the trash, then deleted.
//!
//! One at a time: a mass deletion is the worst neighbour of a pull, which creates files in the same
//! block groups. What a crash leaves in the trash is found at the next start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};
use crate::scan;

/// The mailbox of the deleting task.
#[derive(Debug)]
pub(super) struct Janitor {
    bin: Arc<Bin>,
    mailbox: mpsc::UnboundedSender<PathBuf>,
    /// How many were thrown away.
    sent: AtomicU64,
    /// How many of these are gone.
    gone: watch::Sender<u64>,
}

/// The trash directory.
#[derive(Debug)]
struct Bin {
    trash: PathBuf,
    next: AtomicU64,
}

impl Janitor {
    pub(super) fn start(trash: PathBuf, tasks: &TaskTracker, cancel: CancellationToken) -> Self {
        let bin = Arc::new(Bin { trash, next: AtomicU64::new(0) });
        let (mailbox, mut mail) = mpsc::unbounded_channel();
        let gone = watch::Sender::new(0);
        let janitor =
            Self { bin: Arc::clone(&bin), mailbox, sent: AtomicU64::new(0), gone: gone.clone() };
        let blocking = tasks.clone();
        tasks.spawn(cancel.run_until_cancelled_owned(async move {
            while let Some(path) = mail.recv().await {
                let bin = Arc::clone(&bin);
                // A panic of the deletion must not end the janitor.
                let _ = blocking.spawn_blocking(move || bin.delete(&path)).await;
                gone.send_modify(|count| *count += 1);
            }
        }));
        janitor
    }

    /// Deletes a file or directory some time soon. It keeps its place until then; nobody may look.
    pub(super) fn discard(&self, path: PathBuf) {
        // Before it counts as gone.
        self.sent.fetch_add(1, Ordering::SeqCst);
        if self.mailbox.send(path).is_err() {
            self.gone.send_modify(|count| *count += 1);
        }
    }

    /// Empties a place now and deletes what was there some time soon. Nothing there is fine.
    pub(super) fn clear(&self, path: &Path) -> Result<()> {
        if let Some(trashed) =
            self.bin.take(path).map_err(|e| Error::storage("move to trash", path, e))?
        {
            self.discard(trashed);
        }
        Ok(())
    }

    /// Waits until all that has been thrown away is deleted, or the janitor was cancelled. What is
    /// thrown away meanwhile does not make it longer.
    pub(super) async fn settled(&self) {
        let sent = self.sent.load(Ordering::SeqCst);
        let mut gone = self.gone.subscribe();
        tokio::select! {
            _ = gone.wait_for(|count| *count >= sent) => {}
            () = self.mailbox.closed() => {}
        }
    }
}

impl Bin {
    fn delete(&self, path: &Path) {
        let deleted =
            self.take(path).and_then(|trashed| trashed.map_or(Ok(()), |path| scan::remove(&path)));
        if let Err(error) = deleted {
            tracing::warn!(path = %path.display(), %error, "cannot delete, ignoring until the next start");
        }
    }

    /// Moves something into the trash, if it is not there yet; `None` if it does not exist.
    fn take(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        if path.parent() == Some(&self.trash) {
            return Ok(Some(path.to_owned()));
        }
        loop {
            let trashed = self.trash.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
            match std::fs::rename(path, &trashed) {
                Ok(()) => return Ok(Some(trashed)),
                Err(error) => match error.kind() {
                    io::ErrorKind::NotFound => return Ok(None),
                    // Left from an earlier life.
                    io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::AlreadyExists => {}
                    _ => return Err(error),
                },
            }
        }
    }
}
