//! The socket on which a daemon says that it is ready (sd_notify(3)).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::net::UnixDatagram;

#[derive(Debug)]
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    /// Takes the place of a socket of an earlier start.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        // There is none at the first start.
        let _ = std::fs::remove_file(path);
        let socket = UnixDatagram::bind(path).with_context(|| format!("bind {}", path.display()));
        Ok(Self { socket: socket?, path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for `READY=1`.
    pub(super) async fn ready(&self) -> Result<()> {
        let mut message = [0; 4096];
        loop {
            let length = self.socket.recv(&mut message).await.context("read a notification")?;
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok(());
            }
        }
    }
}
