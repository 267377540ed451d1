//! Ctrl-C, and what else asks a program to end.

use std::future::Future;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output::note;

/// Signals that ask us to end, which from now on are ours to handle.
#[derive(Debug)]
pub(super) struct Interrupts {
    signals: [Signal; 3],
    /// One came and has not been answered yet.
    pending: bool,
}

impl Interrupts {
    /// Takes the signals over from the kernel's default, which is to end at once.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen to signals");
        let signals = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ];
        Ok(Self { signals, pending: false })
    }

    /// Whether one came while something was finished.
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Waits for one, unless one is pending.
    pub(super) async fn next(&mut self) {
        if std::mem::take(&mut self.pending) {
            return;
        }
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }

    /// Finishes work that would leave something behind. Who interrupts it twice gets away
    /// nevertheless; berthd finishes it then.
    pub(super) async fn outlast<T>(&mut self, work: impl Future<Output = T>) -> anyhow::Result<T> {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return Ok(done),
            () = self.next() => note("berth: finishing the start first"),
        }
        tokio::select! {
            done = work => {
                self.pending = true;
                Ok(done)
            }
            () = self.next() => bail!("interrupted; `berth pods` shows what was started"),
        }
    }
}
