//! The root file system: made as a detached mount, attached where nobody else looks, and
//! pivoted into.

mod over;
mod overlay;
mod workshop;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};

use crate::plan::{Mount, MountSource, Overlay, Plan, Root, RootOwners, RootSource};
use crate::protocol::Step;
use crate::sys::mount::{Attributes, map_owners, set_attributes};
use crate::sys::namespace;

use super::mounts::clone_tree;
use super::paths::RootDirectory;
use super::{Attempt, Fault};

pub(super) use workshop::Workshop;

const STEP: Step = Step::Root;

/// Opens a root that is a directory of the host, before the process is cut off from it: only so
/// can it stay a slave of what it was cloned from. Other roots are made later.
pub(super) fn open(root: &Root, users: Option<BorrowedFd<'_>>) -> Result<Option<OwnedFd>, Fault> {
    let Some(RootSource::Directory(path)) = &root.source else {
        return Ok(None);
    };
    let attempt = || format!("root.path: open {path}");
    let tree = clone_tree(path, true).attempt(STEP, attempt)?;
    let kind = rustix::fs::fstat(&tree).attempt(STEP, attempt)?;
    if rustix::fs::FileType::from_raw_mode(kind.st_mode) != rustix::fs::FileType::Directory {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR)).attempt(STEP, attempt);
    }
    let rec = libc::MS_REC;
    let (propagation, recursive) = match root.propagation {
        bits if bits & libc::MS_SLAVE != 0 => (libc::MS_SLAVE, bits & rec != 0),
        _ => (libc::MS_PRIVATE, true),
    };
    let propagation = Attributes { propagation, ..Attributes::default() };
    set_attributes(tree.as_fd(), propagation, recursive)
        .attempt(STEP, || "cut off the root's mounts")?;
    if let Some(users) = users {
        give_to(users, root.owners(), &tree, kind.st_uid)
            .attempt(STEP, || format!("root.path: map the owners in {path}"))?;
    }
    Ok(Some(tree))
}

/// Callers of the field map a root themselves, by owner; then its directory is not the host's
/// root's. A file system that cannot be mapped is left as it is, as it is there.
fn give_to(
    users: BorrowedFd<'_>,
    owners: RootOwners,
    tree: &OwnedFd,
    owner: u32,
) -> io::Result<()> {
    match owners {
        RootOwners::AsFound => Ok(()),
        RootOwners::MappedIfForeign if owner != 0 => Ok(()),
        RootOwners::MappedIfForeign => match map_owners(tree.as_fd(), users, false) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            mapped => mapped,
        },
        RootOwners::Mapped => map_owners(tree.as_fd(), users, false),
    }
}

/// Whether overlays of the plan can only be made in a [`Workshop`]: those of directories with long
/// names, and, on an old kernel, those that are attached later, and a root of so many layers that
/// all their names together are too long.
pub(super) fn needs_workshop(plan: &Plan, root: &Root) -> Result<bool, Fault> {
    let stacks: Vec<_> = plan.mounts.iter().filter_map(stack_of).collect();
    if stacks.iter().any(|layers| overlay::has_long_names(layers)) {
        return Ok(true);
    }
    let fits = match &root.source {
        Some(RootSource::Overlay(layers)) => overlay::fits(layers),
        _ => true,
    };
    if stacks.is_empty() && fits {
        return Ok(false);
    }
    overlay::is_old_kernel().attempt(STEP, || "look what overlayfs can do")
}

fn stack_of(mount: &Mount) -> Option<&Overlay> {
    match &mount.source {
        Some(MountSource::Stack(layers)) => Some(layers),
        _ => None,
    }
}

/// Makes an overlay without a writable layer, detached.
pub(super) fn stack(
    layers: &Overlay,
    workshop: Option<&Workshop>,
    users: Option<BorrowedFd<'_>>,
) -> io::Result<OwnedFd> {
    match workshop {
        Some(workshop) => workshop.stack(layers, users),
        None => overlay::make(layers)?.ok_or_else(|| io::ErrorKind::Unsupported.into()),
    }
}

/// Attaches the root, `made` already or made now: at its attachment point, or `over` the present
/// root, for who may not enter the directories on the way to the former.
pub(super) fn attach(
    root: &Root,
    made: Option<OwnedFd>,
    over: bool,
) -> Result<RootDirectory, Fault> {
    let at = if over { "/" } else { &root.attach };
    let tree = match (made, &root.source) {
        (Some(tree), _) => tree,
        (None, Some(RootSource::Overlay(overlay))) => {
            let attempt = || format!("mount overlay with upper layer {}", overlay.upper);
            match overlay::make(overlay).attempt(STEP, attempt)? {
                Some(tree) => tree,
                None => return overlay::mount_at_once(overlay, at).attempt(STEP, attempt),
            }
        }
        (None, Some(RootSource::Empty(bytes))) => {
            make_empty(*bytes).attempt(STEP, || "mount an empty root")?
        }
        _ => return Err(io::Error::other("no source")).attempt(STEP, || "mount the root"),
    };
    move_to(tree.as_fd(), at).attempt(STEP, || format!("attach the root at {at}"))?;
    Ok(RootDirectory::new(tree))
}

/// Enters the directory of the root, which is not yet the root directory: there the hooks of the
/// container run, as with other runtimes.
pub(super) fn enter(directory: &RootDirectory) -> Result<(), Fault> {
    rustix::process::fchdir(directory).attempt(STEP, || "enter the root")
}

/// Goes back to the mount namespace `home` and takes the finished root along.
///
/// It is cloned as a tree of its own that no mount namespace has. Such a tree is unmounted at once
/// when its descriptor is closed, which leaves it whole for who has its root in it, and for nobody
/// else: nothing can be mounted in it or found through it, and it ends with its last process.
pub(super) fn take_out(home: BorrowedFd<'_>) -> Result<(), Fault> {
    let tree = clone_tree("/", true).attempt(STEP, || "take out the root")?;
    namespace::enter(home, libc::CLONE_NEWNS as u64)
        .attempt(Step::Namespaces, || "go back to the mount namespace of the host")?;
    use_as_root(tree.as_fd()).attempt(STEP, || "enter the root")
}

/// Makes an open directory the root of this process.
pub(super) fn use_as_root(directory: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(directory)?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// Moves into the finished root and lets go of the host's.
pub(super) fn finish(root: &Root, directory: &RootDirectory, over: bool) -> Result<(), Fault> {
    if root.read_only {
        let read_only = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
        let set = set_attributes(directory.as_fd(), read_only, false);
        set.attempt(STEP, || "make the root read-only")?;
    }
    if root.no_pivot {
        let at = if over { None } else { Some(root.attach.as_str()) };
        over::move_over(directory.as_fd(), at).attempt(STEP, || "move the root over the host's")?;
    } else {
        pivot(directory.as_fd()).attempt(STEP, || "pivot into the root")?;
    }
    // It is private or a slave from its first moment on; what reaches out waits until now.
    if let Some(propagation) = propagation(root.propagation) {
        mount_change("/", propagation).attempt(STEP, || "set the root's propagation")?;
    }
    rustix::process::chdir("/").attempt(STEP, || "enter the root")
}

/// `pivot_root(".", ".")`: the old root ends up on top of the new one and is detached from
/// there, so that no directory for it has to exist in the image (`pivot_root(2)`, NOTES).
pub(super) fn pivot(root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(())
}

fn propagation(bits: u64) -> Option<MountPropagationFlags> {
    let late = libc::MS_SHARED | libc::MS_UNBINDABLE;
    let bits = u32::try_from(bits).ok().filter(|_| bits & late != 0)?;
    MountPropagationFlags::from_bits(bits)
}

pub(super) fn make_empty(bytes: u64) -> io::Result<OwnedFd> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(fs.as_fd(), "size", bytes.to_string())?;
    fsconfig_set_string(fs.as_fd(), "mode", "0755")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    made(&fs, attributes)
}

/// The mount of a file system that has been described.
fn made(fs: &OwnedFd, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    fsconfig_create(fs.as_fd())?;
    Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Moves a mount to a path of the host.
pub(super) fn move_to(mount: BorrowedFd<'_>, at: &str) -> io::Result<()> {
    move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// Opens a directory of the host.
fn open_directory(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
