//! Private namespaces for tests: a thread of its own, which takes them with it when it ends.

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

/// Runs `test` in a thread with a mount namespace that nothing gets out of.
pub(crate) fn in_own_mounts(test: impl FnOnce() + Send + 'static) {
    in_own(CloneFlags::empty(), test);
}

/// As [`in_own_mounts`], with namespaces of the other `kinds` too.
pub(crate) fn in_own(kinds: CloneFlags, test: impl FnOnce() + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNS | kinds).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        test();
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}
