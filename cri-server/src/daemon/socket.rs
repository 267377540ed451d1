//! A unix socket in the file system: its name, its owner, and its removal.
//!
//! The socket is bound under a temporary name, gets its mode and group, and is
//! renamed into place: at no moment can someone connect who later could not.
//! A socket that another process answers on is never replaced; one that nobody
//! answers on is what a killed berthd left.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::config::Mode;
use crate::error::Error;

/// Bytes of `sun_path` in unix(7), without the final zero.
const PATH_MAX: usize = 107;

const TEMPORARY: &str = ".new";

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

/// The name of a socket. Dropping it removes it, unless another socket has
/// the name by now.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Listens on `path`.
    pub(super) async fn bind(path: &Path, mode: Mode, gid: u32) -> Result<Self, Error> {
        let limit = PATH_MAX - TEMPORARY.len();
        if path.as_os_str().len() > limit {
            return Err(Error::SocketPath { path: path.to_owned(), limit });
        }
        refuse_to_replace(path).await?;

        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY);
        let temporary = PathBuf::from(temporary);
        let listen = || {
            remove(&temporary)?;
            let listener = UnixListener::bind(&temporary)?;
            if fs::metadata(&temporary)?.gid() != gid {
                chown(&temporary, None, Some(gid))?;
            }
            fs::set_permissions(&temporary, Permissions::from_mode(mode.bits()))?;
            let inode = fs::metadata(&temporary)?.ino();
            fs::rename(&temporary, path)?;
            Ok(Self { listener, file: SocketFile { path: path.to_owned(), inode } })
        };
        listen().map_err(|source| Error::listen(path, source))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if ours && let Err(error) = remove(&self.path) {
            tracing::warn!(socket = %self.path.display(), %error, "remove, ignoring");
        }
    }
}

async fn refuse_to_replace(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::listen(path, error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // Of a process that listens and is too busy to accept.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Error::SocketInUse { path: path.to_owned(), pid: None })
        }
        Err(error) => Err(Error::listen(path, error)),
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            Err(Error::SocketInUse { path: path.to_owned(), pid })
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A temporary directory, and the gid that files in it get.
    fn place() -> (tempfile::TempDir, PathBuf, u32) {
        let directory = tempfile::tempdir().unwrap();
        let gid = fs::metadata(directory.path()).unwrap().gid();
        let path = directory.path().join("test.sock");
        (directory, path, gid)
    }

    async fn bind(path: &Path, gid: u32) -> Result<Socket, Error> {
        Socket::bind(path, crate::config::Config::default().grpc.socket_mode, gid).await
    }

    #[tokio::test]
    async fn the_socket_has_its_mode_and_nothing_else_is_left_beside_it() {
        let (directory, path, gid) = place();

        let socket = bind(&path, gid).await.unwrap();

        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.mode() & 0o777, file.gid()), (0o660, gid));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        UnixStream::connect(&path).await.unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_is_answered_is_refused_by_pid_and_stays() {
        let (_directory, path, gid) = place();
        let _first = bind(&path, gid).await.unwrap();

        let error = bind(&path, gid).await.unwrap_err();

        let pid = std::process::id();
        assert_eq!(error.to_string(), format!("socket {} is in use (pid {pid})", path.display()));
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_and_a_half_made_one_are_replaced() {
        let (directory, path, gid) = place();
        drop(UnixListener::bind(&path).unwrap());
        drop(UnixListener::bind(directory.path().join("test.sock.new")).unwrap());

        let _socket = bind(&path, gid).await.unwrap();

        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_is_not_replaced() {
        let (_directory, path, gid) = place();
        fs::write(&path, "precious").unwrap();

        assert!(matches!(bind(&path, gid).await, Err(Error::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let (_directory, path, gid) = place();
        let first = bind(&path, gid).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _second = bind(&path, gid).await.unwrap();

        drop(first);

        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_path_that_no_address_holds_is_refused_with_the_limit() {
        let path = PathBuf::from(format!("/{}", "x".repeat(200)));

        let error = bind(&path, 0).await.unwrap_err();

        assert!(error.to_string().ends_with("at most 103 bytes fit"), "{error}");
        assert_eq!(error.exit_code(), 78);
    }
}
