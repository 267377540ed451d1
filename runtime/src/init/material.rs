//! What the host is needed for, made before the child lets go of it.

use std::os::fd::{AsFd as _, OwnedFd};

use crate::plan::{Plan, Root, RootOwners, RootSource};

use super::{Fault, Inheritance, devices, mounts, root, users};

/// What has to be made of the host, with the host's privileges, before the process is cut off
/// from it.
#[derive(Debug, Default)]
pub(super) struct Material {
    /// The user namespace.
    pub(super) users: Option<OwnedFd>,
    /// The root, unless it is made in the container's own mount namespace.
    pub(super) root: Option<OwnedFd>,
    /// What is mounted into it, by mount.
    pub(super) mounts: Vec<Option<OwnedFd>>,
    /// Who maps owners of mounts that are made later.
    pub(super) mapper: Option<mounts::Mapper>,
    /// Device nodes to mount, by device.
    pub(super) devices: Vec<Option<OwnedFd>>,
}

impl Material {
    /// Makes all of it.
    pub(super) fn gather(plan: &Plan, given: &Inheritance<'_>) -> Result<Self, Fault> {
        let Some(root) = &plan.root else {
            return Ok(Self::default());
        };
        let users = users::find(plan, given)?;
        let mounts = mounts::open_foreign(plan, given, users.as_ref())?;
        let directory = root::open(root, users.as_ref().map(OwnedFd::as_fd))?;
        let mut material = Self { root: directory, mounts, ..Self::default() };
        if users.is_some() || root::needs_workshop(plan, root)? {
            // It may take the place of the root's own directory.
            let workshop = root::Workshop::open(&root.attach)?;
            material.make_in(&workshop, plan, root, users.as_ref())?;
            workshop.close()?;
        } else {
            mounts::make_stacks(plan, None, None, &mut material.mounts)?;
        }
        if let Some(users) = &users {
            material.mapper = mounts::Mapper::start(&plan.mounts, users)?;
        }
        material.users = users;
        Ok(material)
    }

    fn make_in(
        &mut self,
        workshop: &root::Workshop,
        plan: &Plan,
        root: &Root,
        users: Option<&OwnedFd>,
    ) -> Result<(), Fault> {
        if let Some(RootSource::Overlay(layers)) = &root.source {
            let owner = match (root.owners(), users) {
                (RootOwners::AsFound, _) | (_, None) => None,
                (_, Some(users)) => Some((users.as_fd(), users::root_of(plan, users.as_fd())?)),
            };
            self.root = Some(workshop.overlay(layers, owner)?);
        }
        mounts::make_stacks(plan, Some(workshop), users, &mut self.mounts)?;
        if let Some(users) = users {
            self.devices = devices::make_nodes(workshop, &plan.devices, users.as_fd())?;
        }
        Ok(())
    }
}
