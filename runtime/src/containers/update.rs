//! Changing the limits of a container.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use fail::fail_point;
use oci_spec::runtime::LinuxResources;

use crate::error::Error;

use super::{Container, ContainerSpec, Containers, State};

/// What of a container's specification has been changed since it was created.
#[derive(Debug, Default)]
pub(super) struct Changes(RwLock<Option<Arc<Change>>>);

#[derive(Debug)]
struct Change {
    resources: LinuxResources,
    origin: Vec<u8>,
}

impl Changes {
    fn get(&self) -> Option<Arc<Change>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, change: Change) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(change));
    }
}

impl Container {
    /// Its specification with all that was changed since.
    pub fn current_spec(&self) -> ContainerSpec {
        let spec = self.spec.clone();
        match self.changes.get() {
            Some(change) => with(spec, &change.resources, change.origin.clone()),
            None => spec,
        }
    }

    /// What the caller wanted to find again, as it was given last.
    pub fn origin(&self) -> Vec<u8> {
        let change = self.changes.get();
        change.map_or_else(|| self.spec.origin.clone(), |change| change.origin.clone())
    }
}

impl Containers {
    /// Gives a container other limits, all of them or none, and `origin` to find again.
    ///
    /// `resources` are all limits that it is to have; devices are no part of that. The record is
    /// changed first, and back if the kernel refuses. A container that has ended has no cgroup
    /// any more: its record says what it would have.
    ///
    /// # Errors
    /// [`Error::NotFound`]; and as [`crate::cgroup::Hierarchy::update`].
    pub fn update(
        &self,
        id: &str,
        resources: &LinuxResources,
        origin: Vec<u8>,
    ) -> Result<(), Error> {
        let container = self.get(id)?;
        let before = container.current_spec();
        let after = with(before.clone(), resources, origin.clone());
        // What makes no sense is refused also where no kernel looks at it.
        crate::cgroup::limits::plan(resources)?;
        self.0.specs.write(id, &after)?;
        fail_point!("container.update.record");
        if !matches!(container.state(), State::Exited(_)) {
            let mut limits = resources.clone();
            limits.set_devices(None);
            if let Err(error) = self.0.hierarchy.update(&container.spec.cgroup, &limits)
                && !(is_gone(&error) && matches!(container.state(), State::Exited(_)))
            {
                self.0.specs.write(id, &before)?;
                return Err(error);
            }
        }
        fail_point!("container.update.limits");
        container.changes.set(Change { resources: resources.clone(), origin });
        Ok(())
    }
}

fn with(mut spec: ContainerSpec, resources: &LinuxResources, origin: Vec<u8>) -> ContainerSpec {
    if let Some(linux) = spec.oci.linux_mut() {
        let devices = linux.resources().as_ref().and_then(|old| old.devices().clone());
        let mut resources = resources.clone();
        resources.set_devices(devices);
        linux.set_resources(Some(resources));
    }
    spec.origin = origin;
    spec
}

/// Whether the cgroup went while it was changed, because the container has ended.
fn is_gone(error: &Error) -> bool {
    let source = match error {
        Error::Cgroup { source, .. } => source,
        Error::Limit(refused) => &refused.source,
        _ => return false,
    };
    source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV)
}
