//! The two directories of berthd, and the modes of what is made in them.
//!
//! What lies below is root's: others may pass through to a path that they know
//! (0711: the socket, a container's root file system) and list nothing.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Mode;

use crate::config::Directories;
use crate::error::Error;

const PASS_THROUGH: u32 = 0o711;

/// Write permission of group and others.
const FOREIGN_WRITE: u32 = 0o022;

/// Makes the directories, or tightens the modes of those that are there.
pub(super) fn prepare(dirs: &Directories) -> Result<(), Error> {
    // Modes are what the code says, whatever shell started this process.
    rustix::process::umask(Mode::from_raw_mode(FOREIGN_WRITE));
    prepare_one(&dirs.state)?;
    prepare_one(&dirs.root)
}

fn prepare_one(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::directory(path, source);
    DirBuilder::new().recursive(true).mode(PASS_THROUGH).create(path).map_err(failed)?;
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & FOREIGN_WRITE != 0 {
        return Err(Error::UnsafeDirectory { path: path.to_owned(), mode });
    }
    if mode & !PASS_THROUGH != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode & PASS_THROUGH)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_missing_directory_is_made_with_its_parents() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");

        prepare_one(&path).unwrap();

        assert_eq!(mode(&path), 0o711);
    }

    #[test]
    fn a_directory_that_others_may_list_is_tightened_and_a_private_one_is_left() {
        let place = tempfile::tempdir().unwrap();
        for (before, after) in [(0o755, 0o711), (0o700, 0o700), (0o711, 0o711)] {
            fs::set_permissions(place.path(), Permissions::from_mode(before)).unwrap();
            prepare_one(place.path()).unwrap();
            assert_eq!(mode(place.path()), after);
        }
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o777)).unwrap();

        let error = prepare_one(place.path()).unwrap_err();

        assert!(error.to_string().contains("has mode 0777"), "{error}");
    }
}
