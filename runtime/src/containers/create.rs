//! Creating a container: its records and its cgroup, no process yet.

use std::sync::Arc;

use fail::fail_point;

use crate::client::ShimClient;
use crate::error::Error;
use crate::spec;

use super::{Container, ContainerSpec, Containers, State};

impl Containers {
    /// Creates a container whose processes are going to be children of `shim`.
    ///
    /// Its record comes first: a crash at any point leaves either nothing, or a record without
    /// a state, which recovery tears down.
    ///
    /// # Errors
    /// [`Error::Spec`] for what cannot be run, or what the cgroup refuses; nothing is left then.
    pub async fn create(
        &self,
        spec: ContainerSpec,
        shim: ShimClient,
    ) -> Result<Arc<Container>, Error> {
        if self.find(&spec.id).is_some() {
            return Err(Error::Exists(spec.id));
        }
        // Refuses what start could not do, while there is nothing to undo.
        self.check(&spec)?;
        self.0.specs.write(&spec.id, &spec)?;
        fail_point!("container.create.record");
        let made = self.make(&spec);
        if let Err(error) = made {
            if let Err(left) = self.discard(&spec).await {
                tracing::warn!(container = spec.id, error = %left, "not all could be undone");
            }
            return Err(error);
        }
        let container = Container::new(spec, shim, State::Created);
        self.insert(Arc::clone(&container));
        Ok(container)
    }

    fn check(&self, spec: &ContainerSpec) -> Result<(), Error> {
        match &spec.runtime {
            Some(runtime) => self.check_bundle(spec, runtime),
            None => self.blueprint(spec).map(drop),
        }
    }

    fn make(&self, spec: &ContainerSpec) -> Result<(), Error> {
        self.0.hierarchy.create(&spec.cgroup, &spec::resources(&spec.oci))?;
        fail_point!("container.create.cgroup");
        self.make_bundle(spec)?;
        self.0.states.write(&spec.id, &State::Created)?;
        fail_point!("container.create.state");
        Ok(())
    }
}
