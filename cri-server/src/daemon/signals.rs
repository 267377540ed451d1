//! Signals that berthd listens to.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

/// The signals, from the moment that this exists.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::set_up("signals"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to stop, and returns its name.
    pub(super) async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                // Its default action would end the daemon with a terminal.
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP: the configuration is read at start only, ignoring");
                }
            }
        }
    }
}
