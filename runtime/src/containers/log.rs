//! Opening log files where the caller says, and nowhere else.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};

use crate::error::Error;

use super::{Containers, LogPlace, State};

impl Containers {
    /// Has a container's log go on in a new file, after the old one was moved away.
    ///
    /// # Errors
    /// [`Error::WrongState`] unless it runs; [`Error::Log`] if the file cannot be opened.
    pub async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let container = self.get(id)?;
        let state = container.state();
        if !matches!(state, State::Running { .. }) {
            let (id, state) = (id.to_owned(), state.name());
            return Err(Error::WrongState { id, state, verb: "reopen its log" });
        }
        let Some(place) = &container.spec.log else { return Ok(()) };
        let file = open(place)?;
        container.shim.reopen_log(id, file.as_fd()).await
    }
}

/// Opens a log file for appending, and makes it (mode 0640) and its directories if missing.
///
/// The path is resolved beneath the directory without following links, so that neither `..`
/// nor a link that somebody has put there leads a log elsewhere.
pub(super) fn open(place: &LogPlace) -> Result<OwnedFd, Error> {
    open_beneath(&place.directory, &place.path)
        .map_err(|source| Error::Log { path: place.directory.join(&place.path), source })
}

fn open_beneath(directory: &Path, path: &Path) -> io::Result<OwnedFd> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut parent = rustix::fs::open(directory, flags, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    for name in path.parent().into_iter().flat_map(Path::components) {
        let name = name.as_os_str();
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        parent = openat2(&parent, name, flags, Mode::empty(), resolve)?;
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    // Non-blocking only for the open, which would wait for the other end of a fifo.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o640);
    let file = openat2(&parent, name, flags | OFlags::NONBLOCK, mode, resolve)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn opened(directory: &Path, path: &str) -> Result<OwnedFd, Error> {
        open(&LogPlace { directory: directory.to_owned(), path: path.into() })
    }

    #[test]
    fn makes_the_file_and_its_directories() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("pod");
        opened(&logs, "container/0.log").unwrap();
        let mode = fs::metadata(logs.join("container/0.log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0);
        opened(&logs, "container/0.log").unwrap();
    }

    #[test]
    fn leads_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let (logs, other) = (directory.path().join("logs"), directory.path().join("other"));
        fs::create_dir(&logs).unwrap();
        fs::write(&other, "").unwrap();
        symlink(&other, logs.join("link")).unwrap();
        symlink(directory.path(), logs.join("up")).unwrap();
        for path in ["../other", "/etc/passwd", "link", "up/other", "..", ""] {
            assert!(opened(&logs, path).is_err(), "{path:?}");
        }
        assert_eq!(fs::read(&other).unwrap(), b"");
    }

    #[test]
    fn is_a_regular_file() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
        fs::create_dir(directory.path().join("directory")).unwrap();
        assert!(opened(directory.path(), "fifo").is_err());
        assert!(opened(directory.path(), "directory").is_err());
    }
}
