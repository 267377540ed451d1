//! An image as a volume: which directories of its layers, one over the other, are what is at a path
//! in it.
//!
//! Nothing is mounted to find out. Layers do not change, and a path that goes through directories
//! only is, in the image, the stack of what each layer has there: until one hides what is below. So a
//! sub path is resolved here, when the container is made, and whoever mounts the directories cannot
//! be led astray by a symbolic link that was swapped in, or that leads to the node (CVE-2024-0132 was
//! of that kind).

use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::overlay;

/// Why there is no directory at a path of an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// What was asked for cannot be had.
    #[error("{0}")]
    Path(&'static str),
    /// A layer cannot be read.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// The directories that make up `path` in the stack of `layers`, top first.
///
/// # Errors
/// A path that is absolute, leaves the image, or leads through or to anything but directories.
pub(crate) fn directories(layers: Vec<PathBuf>, path: &str) -> Result<Vec<PathBuf>, Fault> {
    let mut here = layers;
    for name in names(path)? {
        here = step(&here, &name)?;
    }
    Ok(here)
}

/// The names that lead to a place, none of them out of it.
fn names(path: &str) -> Result<Vec<PathBuf>, Fault> {
    if path.contains('\0') {
        return Err(Fault::Path("it has a NUL in it"));
    }
    let parts = Path::new(path).components().filter(|part| *part != Component::CurDir);
    parts
        .map(|part| match part {
            Component::Normal(name) => Ok(PathBuf::from(name)),
            Component::ParentDir => {
                Err(Fault::Path("path escapes from parent: it has \"..\" in it"))
            }
            _ => Err(Fault::Path("path escapes from parent: it is absolute")),
        })
        .collect()
}

fn step(here: &[PathBuf], name: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut found = Vec::new();
    for layer in here {
        let path = layer.join(name);
        let stat = match fs::statat(fs::CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(Errno::NAMETOOLONG) => return Err(Fault::Path("it is longer than a path may be")),
            Err(error) => return Err(Fault::Disk(error.into())),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let open = fs::open(&path, flags, Mode::empty()).map_err(io::Error::from)?;
                found.push(path);
                if overlay::is_opaque(&open)? {
                    break;
                }
            }
            _ if overlay::is_whiteout(&stat) || !found.is_empty() => break,
            FileType::Symlink => {
                return Err(Fault::Path("it leads through a symbolic link"));
            }
            _ => return Err(Fault::Path("only directory subpath is supported")),
        }
    }
    match found.is_empty() {
        true => Err(Fault::Path("no such file or directory in it")),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths(root: &Path, names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| root.join(name)).collect()
    }

    /// Two layers: the upper one replaces `file` by a directory, and removes `gone`.
    fn layers(root: &Path) -> Vec<PathBuf> {
        for directory in ["low/both/deep", "low/gone", "low/once", "top/both/deep", "top/file"] {
            create_dir_all(root.join(directory)).unwrap();
        }
        write(root.join("low/file"), "").unwrap();
        write(root.join("low/plain"), "").unwrap();
        symlink("both", root.join("top/link")).unwrap();
        symlink("/", root.join("low/once/up")).unwrap();
        let top = fs::open(root.join("top"), OFlags::RDONLY, Mode::empty()).unwrap();
        overlay::make_whiteout(&top, b"gone").unwrap();
        paths(root, &["top", "low"])
    }

    #[test]
    fn a_directory_is_what_all_layers_have_of_it() {
        let root = tempfile::tempdir().unwrap();
        let layers = layers(root.path());
        for (path, expected) in [
            ("", &["top", "low"][..]),
            ("./both//deep/", &["top/both/deep", "low/both/deep"]),
            ("once", &["low/once"]),
            ("file", &["top/file"]),
        ] {
            let found = directories(layers.clone(), path).unwrap();
            assert_eq!(found, paths(root.path(), expected), "{path:?}");
        }
    }

    /// T-ROOT-4.
    #[test]
    fn a_path_that_is_no_directory_of_the_image_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let layers = layers(root.path());
        for (path, words) in [
            ("/both", "path escapes from parent: it is absolute"),
            ("both/../../..", "path escapes from parent"),
            ("..", "path escapes from parent"),
            ("link", "symbolic link"),
            ("link/deep", "symbolic link"),
            ("once/up/etc", "symbolic link"),
            ("plain", "only directory subpath is supported"),
            ("plain/x", "only directory subpath is supported"),
            ("gone", "no such file or directory"),
            ("missing/x", "no such file or directory"),
            ("bo\0th", "NUL"),
        ] {
            let refused = directories(layers.clone(), path).unwrap_err().to_string();
            assert!(refused.contains(words), "{path:?}: {refused}");
        }
    }
}
