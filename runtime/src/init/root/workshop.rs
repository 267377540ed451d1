//! Where mounts are made for a container that lives in a user namespace: a small tmpfs in a mount
//! namespace of its own, with the host's privileges, which is gone when the container starts. Old
//! kernels need it for long overlays, too: here layers have names so short that the options of a
//! mount, which are a page, hold as many as overlayfs takes (500).
//!
//! Layers of images are the host's. An overlay has no mapped owners of its own, but takes its layers
//! from mounts that have them: so each layer is cloned, mapped, and mounted here under a short
//! name, and another container with other mappings can have the same layers. The writable one is
//! the container's alone, and given to its root: the kernel works in it with the ids of who mounted
//! the overlay, which a mapped mount would not know.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, Uid, chown, mkdirat, symlinkat};
use rustix::mount::{UnmountFlags, unmount};

use crate::plan::Overlay;
use crate::sys::mount::map_owners;

use super::super::mounts::{attach, clone_of, clone_tree, explain_mapping};
use super::super::namespaces::withdraw;
use super::super::paths::RootDirectory;
use super::super::users::Owner;
use super::{Attempt, Fault, STEP, move_to, open_directory, overlay};

/// Size of the tmpfs: directories with nothing in them, and links.
const BYTES: u64 = 4 << 20;

/// The place, while it exists.
#[derive(Debug)]
pub(in crate::init) struct Workshop {
    path: String,
    directory: OwnedFd,
    /// How many names have been given away in it.
    names: Cell<u32>,
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
        Ok(Self { path: path.to_owned(), directory, names: Cell::new(0) })
    }

    /// Its directory.
    pub(in crate::init) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Makes an overlay, with owners as `users` has them.
    pub(in crate::init) fn overlay(
        &self,
        layers: &Overlay,
        users: Option<(BorrowedFd<'_>, Owner)>,
    ) -> Result<OwnedFd, Fault> {
        match users {
            Some((users, root)) => self.mapped_overlay(layers, users, root),
            None => self.finish(layers),
        }
        .attempt(STEP, || format!("mount overlay with upper layer {}", layers.upper))
    }

    fn mapped_overlay(
        &self,
        layers: &Overlay,
        users: BorrowedFd<'_>,
        (uid, gid): Owner,
    ) -> io::Result<OwnedFd> {
        let mapped = self.map_layers(layers, users)?;
        chown(layers.upper.as_str(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        self.finish(&mapped)
    }

    /// Makes an overlay without a writable layer, with owners as `users` has them.
    pub(in crate::init) fn stack(
        &self,
        layers: &Overlay,
        users: Option<BorrowedFd<'_>>,
    ) -> io::Result<OwnedFd> {
        match users {
            Some(users) => self.finish(&self.map_layers(layers, users)?),
            None => self.finish(layers),
        }
    }

    /// The same layers by the names of their mapped clones.
    fn map_layers(&self, layers: &Overlay, users: BorrowedFd<'_>) -> io::Result<Overlay> {
        let base = Path::new(&layers.base);
        let map = |lower: &String| self.mapped(&text(&base.join(lower))?, users);
        let lowers = layers.lowers.iter().map(map).collect::<io::Result<_>>()?;
        Ok(Overlay { base: self.path.clone(), lowers, ..layers.clone() })
    }

    fn finish(&self, layers: &Overlay) -> io::Result<OwnedFd> {
        let is_long = overlay::has_long_names(layers) || !overlay::fits(layers);
        let short = if is_long { &self.shortened(layers)? } else { layers };
        if let Some(tree) = overlay::make(short)? {
            return Ok(tree);
        }
        let name = self.name();
        mkdirat(&self.directory, name.as_str(), Mode::from_raw_mode(0o700))?;
        let at = format!("{}/{name}", self.path);
        let root: RootDirectory = overlay::mount_at_once(short, &at)?;
        clone_of(root.as_fd(), false)
    }

    /// The same layers by the names of symbolic links to them.
    fn shortened(&self, layers: &Overlay) -> io::Result<Overlay> {
        let base = Path::new(&layers.base);
        let link = |lower: &String| -> io::Result<String> {
            let name = self.name();
            symlinkat(base.join(lower), &self.directory, name.as_str())?;
            Ok(name)
        };
        let lowers = layers.lowers.iter().map(link).collect::<io::Result<_>>()?;
        Ok(Overlay { base: self.path.clone(), lowers, ..layers.clone() })
    }

    /// A name that nothing in it has.
    fn name(&self) -> String {
        let number = self.names.get();
        self.names.set(number + 1);
        number.to_string()
    }

    /// Mounts a directory of the host under a name of its own, and tells it.
    fn mapped(&self, path: &str, users: BorrowedFd<'_>) -> io::Result<String> {
        let name = self.name();
        let tree = clone_tree(path, false)?;
        map_owners(tree.as_fd(), users, false).map_err(|error| explain_mapping(&tree, error))?;
        mkdirat(&self.directory, name.as_str(), Mode::from_raw_mode(0o700))?;
        let at = open_directory(&format!("{}/{name}", self.path))?;
        attach(tree.as_fd(), at.as_fd())?;
        Ok(name)
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, chown};
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::init::testing::in_own_mounts;

    /// Somebody in a user namespace whose ids are those of the host from 100000 on.
    fn somebody() -> (Child, File) {
        let mut command = Command::new("unshare");
        command.args(["--user", "sh", "-c", "echo; read end"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Once it has said something it is in there.
        let mut said = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        let directory = format!("/proc/{}", child.id());
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("{directory}/{map}"), "0 100000 65536\n").unwrap();
        }
        let users = File::open(format!("{directory}/ns/user")).unwrap();
        (child, users)
    }

    #[test]
    fn layers_of_the_host_are_the_containers_in_its_overlay() {
        in_own_mounts(|| {
            let place = tempfile::tempdir().unwrap();
            move_to(
                super::super::make_empty(BYTES).unwrap().as_fd(),
                place.path().to_str().unwrap(),
            )
            .unwrap();
            let path = |name: &str| format!("{}/{name}", place.path().display());
            for name in ["one", "two", "state/upper", "state/work", "attach", "root"] {
                fs::create_dir_all(path(name)).unwrap();
            }
            fs::write(path("one/low"), "low").unwrap();
            fs::write(path("two/mine"), "mine").unwrap();
            chown(path("two/mine"), Some(7), Some(8)).unwrap();
            let (mut child, users) = somebody();
            let layers = Overlay {
                base: path(""),
                lowers: vec!["two".to_owned(), "one".to_owned()],
                upper: path("state/upper"),
                work: path("state/work"),
                volatile: true,
                label: String::new(),
            };
            let workshop = Workshop::open(&path("attach")).unwrap();
            let root = (100_000, 100_000);
            let root = workshop.overlay(&layers, Some((users.as_fd(), root))).unwrap();
            workshop.close().unwrap();
            move_to(root.as_fd(), &path("root")).unwrap();
            let owner = |name: &str| {
                let about = fs::metadata(path(name)).unwrap();
                (about.uid(), about.gid())
            };
            assert_eq!(owner("root"), (100_000, 100_000));
            assert_eq!(owner("root/low"), (100_000, 100_000));
            assert_eq!(owner("root/mine"), (100_007, 100_008));
            chown(path("root/low"), Some(100_009), Some(100_009)).unwrap();
            assert_eq!(owner("state/upper/low"), (100_009, 100_009));
            assert_eq!(owner("one/low"), (0, 0));
            assert_eq!(fs::read_dir(path("attach")).unwrap().count(), 0);
            child.kill().unwrap();
            child.wait().unwrap();
        });
    }
}
