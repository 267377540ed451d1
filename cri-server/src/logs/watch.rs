//! Waiting for a log to change.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};

/// How often a log is looked at where the kernel gives no more watches.
const BLIND: Duration = Duration::from_millis(250);

/// Tells of changes in a directory.
pub(super) struct Watch(Option<EventStream<[u8; 4096]>>);

impl Watch {
    /// Watches the directory that a log is in: a rotated log is another file in it. Without
    /// inotify instances left, looks again now and then instead.
    pub(super) fn of(directory: Option<&Path>) -> Self {
        let mask = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO;
        let watch = || {
            let inotify = Inotify::init().ok()?;
            inotify.watches().add(directory?, mask).ok()?;
            inotify.into_event_stream([0; 4096]).ok()
        };
        Self(watch())
    }

    /// Resolves when something may have changed.
    pub(super) async fn changed(&mut self) {
        match &mut self.0 {
            Some(events) => drop(events.next().await),
            None => tokio::time::sleep(BLIND).await,
        }
    }
}
