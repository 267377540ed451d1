//! Accepting connections, also when the process has no descriptor left.
//!
//! accept(2) fails with EMFILE then and the connection stays in the backlog:
//! its client waits for nothing, and the listener stays readable, so that a
//! naive loop spins. So one descriptor is kept in reserve. It is given up to
//! accept the connection and to close it at once, which tells the client.

use std::fs::File;
use std::time::Duration;

use futures_util::{FutureExt, Stream, stream};
use tokio::io;
use tokio::net::{UnixListener, UnixStream};

/// The connections of a listener. Never ends and never fails.
pub(super) fn connections(listener: UnixListener) -> impl Stream<Item = io::Result<UnixStream>> {
    stream::unfold(Acceptor::new(listener), async |mut acceptor| {
        let connection = acceptor.accept().await;
        Some((Ok(connection), acceptor))
    })
}

struct Acceptor {
    listener: UnixListener,
    reserve: Option<File>,
}

impl Acceptor {
    fn new(listener: UnixListener) -> Self {
        Self { listener, reserve: reserve() }
    }

    async fn accept(&mut self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((connection, _)) => return connection,
                Err(error) if is_exhaustion(&error) => self.turn_away(&error).await,
                // The client left before it was accepted.
                Err(error) => tracing::debug!(%error, "accept, ignoring"),
            }
        }
    }

    async fn turn_away(&mut self, why: &io::Error) {
        if self.reserve.take().is_some() {
            let turned_away = self.listener.accept().now_or_never();
            if matches!(turned_away, Some(Ok(_))) {
                tracing::warn!(error = %why, "a client was turned away");
            }
        } else {
            // Somebody else took the descriptor, and nothing tells when one is
            // free again: look in a while.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.reserve = reserve();
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Whether there is no descriptor, or no memory for a socket, to be had.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
