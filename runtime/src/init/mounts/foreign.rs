//! Mounts of the host and of the pod.

use std::io;
use std::os::fd::OwnedFd;

use crate::newborn::Nest;
use crate::plan::{Mount, MountSource, Plan, Shared};
use crate::protocol::Step;

use super::super::namespaces::inside_mounts_of;
use super::super::{Attempt, Fault, Inheritance};
use super::dress::{self, Known};
use super::{clone_tree, filesystem, processes};

/// Opens the mounts that come from the host or from another process, index for index, and gives
/// them all that takes the host's privileges.
pub(in crate::init) fn open_foreign(
    plan: &Plan,
    given: &Inheritance<'_>,
    users: Option<&OwnedFd>,
) -> Result<Vec<Option<OwnedFd>>, Fault> {
    let mut known = Known::default();
    let trees = plan.mounts.iter().enumerate().map(|(index, mount)| {
        if let (Some(MountSource::New(fs)), Nest::Of(others)) = (&mount.source, given.nest)
            && fs.kind == "proc"
        {
            let made = processes::make(fs, mount, others, given);
            let attempt = || format!("mounts[{index}]: mount {}", super::describe(mount));
            return made.attempt(Step::Mount, attempt).map(Some);
        }
        if users.is_some()
            && let Some(MountSource::New(fs)) = &mount.source
            && is_of_others(&fs.kind, plan)
        {
            let made = filesystem::make(fs, mount, None);
            let attempt = || format!("mounts[{index}]: mount {}", super::describe(mount));
            return made.attempt(Step::Mount, attempt).map(Some);
        }
        let Some(tree) = open(index, mount, given)? else {
            return Ok(None);
        };
        dress::dress(&tree, mount)
            .attempt(Step::Mount, || format!("mounts[{index}].options: set the attributes"))?;
        dress::map(&tree, mount, users, &mut known).attempt(Step::Mount, || {
            format!("mounts[{index}]: map the owners of {}", name(mount))
        })?;
        Ok(Some(tree))
    });
    trees.collect()
}

/// File systems that show a namespace, and belong to whom it belongs to.
const OF_NAMESPACES: [(&str, i32); 4] = [
    ("cgroup2", libc::CLONE_NEWCGROUP),
    ("mqueue", libc::CLONE_NEWIPC),
    ("proc", libc::CLONE_NEWPID),
    ("sysfs", libc::CLONE_NEWNET),
];

/// Whether a file system shows a namespace that is not the container's own, so that its user
/// namespace may not mount it.
fn is_of_others(kind: &str, plan: &Plan) -> bool {
    let own = plan.unshare | plan.rebirth.unwrap_or(0);
    OF_NAMESPACES.iter().any(|(name, bit)| *name == kind && own & *bit as u64 == 0)
}

fn open(index: usize, mount: &Mount, given: &Inheritance<'_>) -> Result<Option<OwnedFd>, Fault> {
    let tree: io::Result<_> = match &mount.source {
        Some(MountSource::Bind(bind)) => clone_tree(&bind.path, bind.recursive),
        Some(MountSource::Shared(shared)) => clone_shared(shared, given),
        _ => return Ok(None),
    };
    let attempt =
        || format!("mounts[{index}].source: open {} for {}", name(mount), mount.destination);
    tree.attempt(Step::Mount, attempt).map(Some)
}

/// A detached clone of a mount of another process.
pub(in crate::init) fn open_shared(
    shared: &Shared,
    given: &Inheritance<'_>,
) -> Result<OwnedFd, Fault> {
    clone_shared(shared, given).attempt(Step::Mount, || format!("open the pod's {}", shared.path))
}

fn clone_shared(shared: &Shared, given: &Inheritance<'_>) -> io::Result<OwnedFd> {
    let pidfd = given.handle(shared.of)?;
    inside_mounts_of(pidfd, || clone_tree(&shared.path, false))
}

fn name(mount: &Mount) -> String {
    match &mount.source {
        Some(MountSource::Bind(bind)) => bind.path.clone(),
        Some(MountSource::Shared(shared)) => format!("the pod's {}", shared.path),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_a_namespace_of_others_is_mounted_with_the_hosts_privileges() {
        let plan = Plan {
            unshare: libc::CLONE_NEWNET as u64,
            rebirth: Some(libc::CLONE_NEWPID as u64),
            ..Plan::default()
        };
        for (kind, others) in [
            ("sysfs", false),
            ("proc", false),
            ("mqueue", true),
            ("cgroup2", true),
            ("tmpfs", false),
        ] {
            assert_eq!(is_of_others(kind, &plan), others, "{kind}");
        }
    }
}
