//! Connecting to a socket, and telling a person what to do when that fails.

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use anyhow::anyhow;
use tonic::transport::{Channel, Endpoint};

use super::Address;

/// Which of the node's sockets is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    /// For the kubelet, crictl and us.
    Cri,
    /// For us alone.
    Admin,
}

impl Socket {
    fn flag(self) -> &'static str {
        match self {
            Self::Cri => "--address or BERTH_ADDRESS",
            Self::Admin => "--admin-address or BERTH_ADMIN_ADDRESS",
        }
    }
}

/// Connects to one socket.
pub(super) async fn connect(address: &Address, socket: Socket) -> anyhow::Result<Channel> {
    let connected = Endpoint::from_shared(address.to_string())?.connect().await;
    connected.map_err(|error| anyhow!("{}", explain(address, socket, &error)))
}

/// What is wrong, and what a person can do about it.
fn explain(address: &Address, socket: Socket, error: &(dyn Error + 'static)) -> String {
    let path = address.path().display();
    let (flag, cause) = (socket.flag(), io_cause(error));
    let elsewhere = format!("if berthd listens elsewhere, name its socket with {flag}");
    let start = "start it with `systemctl start berth`, or run `berthd` as root";
    match cause.map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) => {
            format!("berthd is not running: there is no socket {path}; {start}; {elsewhere}")
        }
        Some(io::ErrorKind::ConnectionRefused) if is_socket(address) => format!(
            "berthd is not running: nobody listens on the socket {path} any more; {start}; \
             {elsewhere}"
        ),
        Some(io::ErrorKind::ConnectionRefused) => format!("{path} is no socket; {elsewhere}"),
        Some(io::ErrorKind::PermissionDenied) => format!(
            "permission denied on the socket {path}{}: run berth as root or as a member of the \
             socket's group",
            owner(address)
        ),
        _ => format!("connect to {address}: {}", innermost(error)),
    }
}

/// `connect(2)` answers `ECONNREFUSED` both for a socket without a listener and for a file.
fn is_socket(address: &Address) -> bool {
    fs::metadata(address.path()).is_ok_and(|data| data.file_type().is_socket())
}

fn owner(address: &Address) -> String {
    fs::metadata(address.path()).map_or(String::new(), |data| {
        let mode = data.permissions().mode() & 0o7777;
        format!(" (user {}, group {}, mode {mode:04o})", data.uid(), data.gid())
    })
}

fn io_cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

/// The last cause: what is around it only says that something failed.
pub(super) fn innermost<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::*;

    async fn refused(path: &Path) -> String {
        let address: Address = path.to_str().unwrap().parse().unwrap();
        connect(&address, Socket::Cri).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_says_how_to_start_berthd() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("berth.sock");

        let message = refused(&path).await;

        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(message.contains("not running"), "{message}");
        assert!(message.contains("systemctl start berth"), "{message}");
        assert!(message.contains("--address"), "{message}");
    }

    #[tokio::test]
    async fn a_left_over_socket_and_a_plain_file_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, file) = (directory.path().join("socket"), directory.path().join("file"));
        drop(UnixListener::bind(&socket).unwrap());
        fs::write(&file, "").unwrap();

        assert!(refused(&socket).await.contains("nobody listens"));
        assert!(refused(&file).await.contains("is no socket"));
    }

    #[test]
    fn a_socket_that_may_not_be_used_says_whose_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let address = path.to_str().unwrap().parse().unwrap();
        let error = io::Error::from(io::ErrorKind::PermissionDenied);

        let message = explain(&address, Socket::Admin, &error);

        assert!(message.starts_with("permission denied on the socket"), "{message}");
        assert!(message.contains("mode 0600"), "{message}");
    }
}
