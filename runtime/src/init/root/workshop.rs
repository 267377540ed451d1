//! Where mounts are made for a container that lives in a user namespace: a small tmpfs in a mount
//! namespace of its own, with the host's privileges, which is gone when the container starts.
//!
//! Layers of images are the host's. An overlay has no mapped owners of its own, but takes its layers
//! from mounts that have them: so each layer is cloned, mapped, and mounted here under a short
//! name. What the container's root writes is stored as the host's root's, and another container
//! with other mappings can have the same layers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, mkdirat};
use rustix::mount::{UnmountFlags, unmount};

use crate::plan::Overlay;
use crate::sys::mount::map_owners;

use super::super::mounts::{attach, clone_of, clone_tree, explain_mapping};
use super::super::namespaces::withdraw;
use super::super::paths::RootDirectory;
use super::{Attempt, Fault, STEP, move_to, open_directory, overlay};

/// Size of the tmpfs: directories, and nothing in them.
const BYTES: u64 = 1 << 20;

/// The place, while it exists.
#[derive(Debug)]
pub(in crate::init) struct Workshop {
    path: String,
    directory: OwnedFd,
}

impl Workshop {
    /// Opens it at `path`, an existing directory.
    pub(in crate::init) fn open(path: &str) -> Result<Self, Fault> {
        let open = || {
            withdraw()?;
            let tree = super::make_empty(BYTES)?;
            // Device nodes are made in it.
            let devices = crate::sys::mount::Attributes {
                clear: libc::MOUNT_ATTR_NODEV,
                ..crate::sys::mount::Attributes::default()
            };
            crate::sys::mount::set_attributes(tree.as_fd(), devices, false)?;
            move_to(tree.as_fd(), path)?;
            Ok::<_, io::Error>(tree)
        };
        let directory = open().attempt(STEP, || format!("prepare mounts in {path}"))?;
        Ok(Self { path: path.to_owned(), directory })
    }

    /// Its directory.
    pub(in crate::init) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Makes an overlay, with owners as `users` has them.
    pub(in crate::init) fn overlay(
        &self,
        layers: &Overlay,
        users: Option<BorrowedFd<'_>>,
    ) -> Result<OwnedFd, Fault> {
        match users {
            Some(users) => self.mapped_overlay(layers, users),
            None => self.finish(layers),
        }
        .attempt(STEP, || format!("mount overlay with upper layer {}", layers.upper))
    }

    fn mapped_overlay(&self, layers: &Overlay, users: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let base = Path::new(&layers.base);
        let mut lowers = Vec::with_capacity(layers.lowers.len());
        for (number, lower) in layers.lowers.iter().enumerate() {
            let name = number.to_string();
            self.mapped(&text(&base.join(lower))?, &name, users)?;
            lowers.push(name);
        }
        // Both must be on one mount.
        let (upper, work) = (Path::new(&layers.upper), Path::new(&layers.work));
        let both = upper.ancestors().find(|path| work.starts_with(path)).unwrap_or(upper);
        self.mapped(&text(both)?, "top", users)?;
        let below = |path: &Path| {
            text(&Path::new(&self.path).join("top").join(path.strip_prefix(both).unwrap_or(path)))
        };
        self.finish(&Overlay {
            base: self.path.clone(),
            lowers,
            upper: below(upper)?,
            work: below(work)?,
            volatile: layers.volatile,
        })
    }

    fn finish(&self, layers: &Overlay) -> io::Result<OwnedFd> {
        if let Some(tree) = overlay::make(layers)? {
            return Ok(tree);
        }
        mkdirat(&self.directory, "root", Mode::from_raw_mode(0o700))?;
        let at = format!("{}/root", self.path);
        let root: RootDirectory = overlay::mount_at_once(layers, &at)?;
        clone_of(root.as_fd(), false)
    }

    /// Mounts a directory of the host under a name of its own.
    fn mapped(&self, path: &str, name: &str, users: BorrowedFd<'_>) -> io::Result<()> {
        let tree = clone_tree(path, false)?;
        map_owners(tree.as_fd(), users, false).map_err(|error| explain_mapping(&tree, error))?;
        mkdirat(&self.directory, name, Mode::from_raw_mode(0o700))?;
        let at = open_directory(&format!("{}/{name}", self.path))?;
        attach(tree.as_fd(), at.as_fd())
    }

    /// Closes it; what was made in it stays.
    pub(in crate::init) fn close(self) -> Result<(), Fault> {
        rustix::process::chdir("/").attempt(STEP, || "leave the layers")?;
        unmount(self.path.as_str(), UnmountFlags::DETACH)
            .attempt(STEP, || format!("unmount {}", self.path))
    }
}

fn text(path: &Path) -> io::Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
