//! What a service manager is told (sd_notify(3)). Without one, nothing.

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::ops::Ops;

/// Clients can connect.
pub(super) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The way out has begun.
pub(super) fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Tells that berthd makes progress, three times per `WATCHDOG_USEC`. A ping
/// means that a worker ran this task and that the registry of operations
/// answered: neither the runtime nor the lock that all requests share hangs.
pub(super) async fn watchdog(ops: Ops) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    // The manager's clock is what this follows; no event tells it.
    let mut tick = interval(period / 3);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        tracing::trace!(running = ops.list().len(), "alive");
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "notify the service manager, ignoring");
    }
}
