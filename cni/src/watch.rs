//! Keeps the inventory of networks up to date.
//!
//! ```text
//!  inotify ──┐
//!  request ──┼──► arm watches, then look at all files ──► published inventory
//!  timer  ───┘         (always the whole, never a difference)
//! ```
//!
//! Nothing is latched: each look starts from the files. Each look first renews
//! the watches, so what happens after it is announced and what happened before
//! it is seen. The timer is a net for what inotify cannot tell, such as a
//! mount over the directory; without inotify (the instances of a user are few)
//! it ticks faster and is all there is.

mod route;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::route::Route;
use crate::load::{Inventory, configuration_files};

/// How often files are looked at when inotify should have told of any change.
const SLOW: Duration = Duration::from_secs(30);

/// How often files are looked at when nothing tells: half of the two seconds
/// in which a change must show.
const FAST: Duration = Duration::from_secs(1);

/// Files are looked at when no event has come for this long: an installer
/// writes several at once, and each in several steps.
const QUIET: Duration = Duration::from_millis(20);

/// But they are looked at after this long, if events come without a pause.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often watches are renewed in one look if paths change meanwhile. The
/// timer finds what a path that never rests might hide.
const ARM_ATTEMPTS: usize = 5;

const CHANGES: WatchMask = WatchMask::CREATE
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::DELETE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// Opens an inotify instance; tests pass one that fails.
pub(crate) type OpenInotify = fn() -> io::Result<Inotify>;

/// What the watcher publishes, and how it is asked to look again.
#[derive(Debug, Clone)]
pub(crate) struct Networks {
    published: watch::Receiver<Arc<Inventory>>,
    wanted: Arc<Notify>,
}

impl Networks {
    /// Looks once, then keeps watching on a task of the tracker until cancelled.
    pub(crate) fn watch(
        dirs: Vec<PathBuf>,
        open: OpenInotify,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> Self {
        let first = Inventory::take(&dirs);
        announce(&Inventory::default(), &first);
        let (publish, published) = watch::channel(Arc::new(first));
        let wanted = Arc::new(Notify::new());
        let watcher =
            Watcher { dirs, open, publish, wanted: wanted.clone(), tracker: tracker.clone() };
        tracker.spawn(async move { cancel.run_until_cancelled(watcher.run()).await });
        Self { published, wanted }
    }

    /// The latest inventory, from memory.
    pub(crate) fn latest(&self) -> Arc<Inventory> {
        self.published.borrow().clone()
    }

    /// An inventory with a network in it: the latest, or if that has none the
    /// next that has, up to the deadline. Has the files looked at at once.
    pub(crate) async fn with_network(&self, wait: Duration) -> Arc<Inventory> {
        let latest = self.latest();
        if latest.default_network().is_some() {
            return latest;
        }
        self.wanted.notify_one();
        let mut published = self.published.clone();
        let found = published.wait_for(|inventory| inventory.default_network().is_some());
        // Late or shutting down: the latest inventory tells what is lacking.
        let found = timeout(wait, found).await.is_ok_and(|found| found.is_ok());
        tracing::debug!(found, "waited for a network");
        self.latest()
    }
}

struct Watcher {
    dirs: Vec<PathBuf>,
    open: OpenInotify,
    publish: watch::Sender<Arc<Inventory>>,
    wanted: Arc<Notify>,
    tracker: TaskTracker,
}

/// Which events matter: any in a configuration directory, those of one name in
/// a directory on the way to it.
type Interests = BTreeMap<WatchDescriptor, Interest>;

#[derive(Debug, Default)]
struct Interest {
    everything: bool,
    names: BTreeSet<OsString>,
}

/// A running inotify instance.
struct Events {
    stream: EventStream<[u8; 4096]>,
    interests: Interests,
}

impl Watcher {
    async fn run(self) {
        let open = self.open_events();
        let mut events = open
            .inspect_err(|error| tracing::warn!(%error, "no inotify, looking every second instead"))
            .ok();
        loop {
            events = events.or_else(|| self.open_events().ok());
            let complete = self.look(events.as_mut()).await;
            let period = if complete { SLOW } else { FAST };
            tokio::select! {
                lost = next_change(events.as_mut()) => if lost { events = None },
                () = self.wanted.notified() => {}
                // The timer is the net described at the top of this file.
                () = sleep(period) => {}
            }
        }
    }

    fn open_events(&self) -> io::Result<Events> {
        let stream = (self.open)()?.into_event_stream([0; 4096])?;
        Ok(Events { stream, interests: Interests::new() })
    }

    /// Renews the watches, looks at the files, and publishes. Tells whether
    /// inotify watches all there is to watch.
    async fn look(&self, events: Option<&mut Events>) -> bool {
        let dirs = self.dirs.clone();
        let watches = events.as_ref().map(|events| events.stream.watches());
        let look = self.tracker.spawn_blocking(move || {
            let armed = watches.map(|watches| arm(watches, &dirs));
            (armed, Inventory::take(&dirs))
        });
        let Ok((armed, inventory)) = look.await else {
            return false;
        };
        self.publish.send_if_modified(|latest| {
            let changed = inventory != **latest;
            if changed {
                announce(latest, &inventory);
                *latest = Arc::new(inventory);
            }
            changed
        });
        match (events, armed) {
            (Some(events), Some((interests, complete))) => {
                events.renew(interests);
                complete
            }
            _ => false,
        }
    }
}

impl Events {
    /// Takes on new interests and stops watching what is of none any more.
    fn renew(&mut self, interests: Interests) {
        let old = std::mem::replace(&mut self.interests, interests);
        let mut watches = self.stream.watches();
        for wd in old.into_keys().filter(|wd| !self.interests.contains_key(wd)) {
            // Fails if the directory is gone, and its watch with it.
            let _ = watches.remove(wd);
        }
    }

    fn concern(&self, event: &EventOwned) -> bool {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return true;
        }
        let Some(interest) = self.interests.get(&event.wd) else {
            return false;
        };
        interest.everything || event.name.as_ref().is_none_or(|name| interest.names.contains(name))
    }

    /// Waits for the next event that concerns us.
    async fn next(&mut self) -> io::Result<()> {
        loop {
            let event = self.stream.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
            if self.concern(&event) {
                return Ok(());
            }
        }
    }
}

/// Waits for a change and for the quiet after it; forever without inotify.
/// Tells whether inotify failed and must be opened anew.
async fn next_change(events: Option<&mut Events>) -> bool {
    let Some(events) = events else {
        return std::future::pending().await;
    };
    if events.next().await.is_err() {
        return true;
    }
    let settle = async { while let Ok(Ok(())) = timeout(QUIET, events.next()).await {} };
    let _ = timeout(PATIENCE, settle).await;
    false
}

/// Watches the given directories and every directory on the way to them and to
/// files that are links. Tells whether all of them could be watched.
fn arm(mut watches: Watches, dirs: &[PathBuf]) -> (Interests, bool) {
    let mut seen = routes(dirs);
    let mut armed = watch_routes(&mut watches, &seen);
    for _ in 1..ARM_ATTEMPTS {
        // What changed before its watch stood is not announced.
        let now = routes(dirs);
        if now == seen {
            break;
        }
        armed = watch_routes(&mut watches, &now);
        seen = now;
    }
    armed
}

fn routes(dirs: &[PathBuf]) -> Vec<Route> {
    let mut routes = Vec::new();
    for dir in dirs {
        routes.push(Route::to(dir));
        // What cannot be listed is reported by the look that follows.
        let files = configuration_files(dir).unwrap_or_default();
        let links = files.iter().filter(|file| file.is_symlink());
        routes.extend(links.map(|file| Route::to(file)));
    }
    routes
}

fn watch_routes(watches: &mut Watches, routes: &[Route]) -> (Interests, bool) {
    let mut interests = Interests::new();
    let mut complete = true;
    for route in routes {
        for (dir, name) in &route.steps {
            match watches.add(dir, CHANGES) {
                Ok(wd) => {
                    interests.entry(wd).or_default().names.insert(name.clone());
                }
                Err(e) => complete &= has_vanished(&e),
            }
        }
        match route.end.as_ref().map(|end| watches.add(end, CHANGES)) {
            Some(Ok(wd)) => interests.entry(wd).or_default().everything = true,
            Some(Err(e)) => complete &= has_vanished(&e),
            None => {}
        }
    }
    (interests, complete)
}

fn has_vanished(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Says what became of the networks. The one place that logs: nobody called,
/// so there is nobody to return to.
fn announce(before: &Inventory, now: &Inventory) {
    for broken in now.broken.iter().filter(|broken| !before.broken.contains(broken)) {
        let (file, cause) = (broken.path.display(), &broken.cause);
        tracing::warn!(%file, %cause, "network configuration is not usable, ignoring");
    }
    let default = |inventory: &Inventory| inventory.default_network().cloned();
    match (default(before), default(now)) {
        (Some(old), None) => tracing::warn!(network = old.name(), "network is gone"),
        (old, Some(new)) if old.as_ref() != Some(&new) => {
            let file = new.file().unwrap_or("".as_ref()).display();
            tracing::info!(network = new.name(), %file, "network is ready");
        }
        _ => {}
    }
}
