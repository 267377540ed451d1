//! Network namespaces, pinned by a bind mount so that they outlive every process in them.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use tokio::sync::oneshot;

use crate::error::{Error, Storing as _};

/// Kernel parameters that a new namespace gets: a pod takes no routes from its neighbours
/// (CVE-2020-10749). Kernels without IPv6 do not have them.
const SAFE: [(&str, &str); 4] = [
    ("/proc/sys/net/ipv6/conf/all/accept_ra", "0"),
    ("/proc/sys/net/ipv6/conf/default/accept_ra", "0"),
    ("/proc/sys/net/ipv6/conf/all/accept_redirects", "0"),
    ("/proc/sys/net/ipv6/conf/default/accept_redirects", "0"),
];

/// Where a network namespace comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// It is made, and belongs to the host's users.
    New,
    /// It is the one that the process behind this pidfd has made for itself.
    Of(OwnedFd),
}

/// Pins a network namespace at `path`, with `lo` up.
///
/// A thread enters the namespace and ends in it: no thread of the runtime ever leaves the
/// host's. Closing the last process and removing the pin destroys the namespace.
pub(crate) async fn create(path: PathBuf, origin: Origin) -> Result<(), Error> {
    let (sender, receiver) = oneshot::channel();
    let name = "netns".to_owned();
    let target = path.clone();
    thread::Builder::new()
        .name(name)
        .spawn(move || {
            // Nobody waits any more if the daemon is shutting down.
            let _ = sender.send(create_here(&target, &origin));
        })
        .storing("start a thread for network namespace", &path)?;
    let created = receiver.await.map_err(io::Error::other);
    created.and_then(|created| created).storing("make network namespace", path)
}

fn create_here(path: &Path, origin: &Origin) -> io::Result<()> {
    match origin {
        Origin::New => unshare(CloneFlags::CLONE_NEWNET)?,
        Origin::Of(process) => setns(process, CloneFlags::CLONE_NEWNET)?,
    }
    berth_cni::loopback_up().map_err(io::Error::other)?;
    for (parameter, value) in SAFE {
        match fs::write(parameter, value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    File::create_new(path)?;
    let pinned = mount_bind("/proc/thread-self/ns/net", path);
    if pinned.is_err() {
        let _ = fs::remove_file(path);
    }
    Ok(pinned?)
}

/// Removes the pin at `path`; one that is gone, or half there, is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    loop {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Somebody may have bound it a second time.
            Ok(()) => {}
            // Not there, or a plain file: what is left of a create that was cut off.
            Err(Errno::NOENT | Errno::INVAL) => break,
            Err(error) => return Err(error).storing("unpin network namespace", path),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).storing("remove network namespace", path)
        }
        _ => Ok(()),
    }
}
