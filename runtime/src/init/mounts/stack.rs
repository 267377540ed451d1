//! Directories of the host, one over the other, read-only: what is in an image.

use std::os::fd::OwnedFd;

use crate::plan::{MountSource, Plan};
use crate::protocol::Step;

use super::super::root::{self, Workshop};
use super::super::{Attempt, Fault};
use super::dress::{self, Known};

/// Makes the stacks among the mounts of the plan, detached, into `trees`, index for index.
pub(in crate::init) fn make_stacks(
    plan: &Plan,
    workshop: Option<&Workshop>,
    users: Option<&OwnedFd>,
    trees: &mut [Option<OwnedFd>],
) -> Result<(), Fault> {
    let mut known = Known::default();
    let is_stack = |source: &Option<_>| matches!(source, Some(MountSource::Stack(_)));
    if !plan.mounts.iter().any(|mount| is_stack(&mount.source)) {
        return Ok(());
    }
    for (index, (mount, tree)) in plan.mounts.iter().zip(trees).enumerate() {
        let Some(MountSource::Stack(layers)) = &mount.source else { continue };
        let mut make = || {
            let mapping = dress::mapping(mount, users, &mut known)?;
            let made = root::stack(layers, workshop, mapping)?;
            dress::dress(&made, mount)?;
            Ok::<_, std::io::Error>(made)
        };
        let attempt = || format!("mounts[{index}]: mount {}", super::describe(mount));
        *tree = Some(make().attempt(Step::Mount, attempt)?);
    }
    // The layers' directory is nobody's to stand in.
    let leave = rustix::process::chdir("/");
    leave.attempt(Step::Mount, || "leave the layers")
}
