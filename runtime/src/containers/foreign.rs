//! Containers whose processes a foreign runtime makes.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::client::{Running, Watch};
use crate::error::{Error, Storing as _};
use crate::foreign::Runtime;
use crate::foreign::bundle::{Bundle, Order};
use crate::foreign::command::{said, state_names};
use crate::host::Mounts;
use crate::protocol::{PidNamespace, Start, Step};

use super::exec::Asked;
use super::{Container, ContainerSpec, Containers, State};

impl Containers {
    pub(super) fn bundle(&self, spec: &ContainerSpec) -> Bundle {
        Bundle::of(&self.0.settings.bundles, &spec.id)
    }

    /// `oci` is the whole specification, with what is the daemon's to add.
    pub(super) fn order<'a>(&self, spec: &'a ContainerSpec, oci: &'a Spec) -> Order<'a> {
        let best_effort = self.0.settings.oom_score_adj_best_effort;
        Order {
            id: &spec.id,
            oci,
            env: &spec.env,
            rootfs: &spec.rootfs,
            cgroup: &spec.cgroup,
            members: &spec.members,
            lowest_oom_score: best_effort.then(own_oom_score).flatten(),
        }
    }

    /// Makes the bundle of a container, if it needs one.
    pub(super) fn make_bundle(&self, spec: &ContainerSpec) -> Result<(), Error> {
        let Some(runtime) = &spec.runtime else { return Ok(()) };
        let bundle = self.bundle(spec);
        bundle.make(&bundle.contents(&self.order(spec, &spec.complete()), runtime)?)
    }

    /// Has the runtime forget a container, and removes its bundle: also half of it, also twice.
    pub(super) async fn remove_bundle(&self, spec: &ContainerSpec) -> Result<(), Error> {
        let Some(runtime) = &spec.runtime else { return Ok(()) };
        let bundle = self.bundle(spec);
        // A runtime stops what it deletes, and waits for it: by then there is nothing to stop.
        self.0.hierarchy.kill(&spec.cgroup)?;
        runtime.delete(&spec.id, &bundle.log()).await?;
        bundle.remove()
    }

    /// Checks what a foreign runtime is to run.
    pub(super) fn check_bundle(
        &self,
        spec: &ContainerSpec,
        runtime: &Runtime,
    ) -> Result<(), Error> {
        self.bundle(spec).contents(&self.order(spec, &spec.complete()), runtime)?;
        self.cut_off(spec).map(drop)
    }

    /// The mount point that bundles are on, which an errand takes out of propagation: a volume
    /// on it could not pass anything on.
    fn cut_off(&self, spec: &ContainerSpec) -> Result<PathBuf, Error> {
        let bundles = &self.0.settings.bundles;
        let real = std::fs::canonicalize(bundles).storing("find", bundles)?;
        let mounts = Mounts::read()?;
        let point = mounts.point_of(&real);
        for mount in spec.oci.mounts().iter().flatten() {
            let mut options = mount.options().iter().flatten();
            let shared = options.any(|option| option == "shared" || option == "rshared");
            let source = mount.source().as_deref().filter(|_| shared);
            if source.is_some_and(|source| mounts.point_of(source) == point) {
                let (destination, point) = (mount.destination().display(), point.display());
                let why = "where bundles of other runtimes are: it cannot be shared with them";
                return Err(Error::Spec(format!("mount {destination}: is on {point}, {why}")));
            }
        }
        Ok(point)
    }

    pub(super) async fn launch_foreign(
        &self,
        container: &Container,
        runtime: &Runtime,
    ) -> Result<(State, Watch), Error> {
        let spec = &container.spec;
        let bundle = self.bundle(spec);
        let cut_off = self.cut_off(spec)?;
        let errand =
            bundle.contents(&self.order(spec, &spec.complete()), runtime)?.errand(&cut_off)?;
        runtime.prepare()?;
        // Half a start that nobody could conclude: the shim went, or berthd and it.
        runtime.delete(&spec.id, &bundle.log()).await?;
        let started = self.launch_as(container, foreign(), &errand, Vec::new()).await;
        match started {
            Err(error) => Err(self.in_words_of_create(container, error).await),
            started => started,
        }
    }

    /// What a failed start of a container is about, as its runtime has it.
    pub(super) async fn in_words_of_create(&self, container: &Container, error: Error) -> Error {
        let log = self.bundle(&container.spec).log();
        self.in_its_words(container, "create", &container.spec.id, error, &log).await
    }

    pub(super) async fn start_foreign_exec(
        &self,
        container: &Container,
        runtime: &Runtime,
        start: Start,
        asked: Asked<'_>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Running, Error> {
        let spec = &container.spec;
        let exec = self.bundle(spec).exec(
            &self.order(spec, &spec.complete()),
            runtime,
            asked.name,
            asked.args,
        )?;
        let start = Start { foreign: true, ..start };
        let key = start.key.clone();
        let started = container.shim.start(start, &exec.errand, descriptors, asked.within).await;
        let started = match started {
            Err(error) => Err(self.in_its_words(container, "exec", &key, error, &exec.log).await),
            started => started,
        };
        exec.clean();
        started
    }

    /// What a failed start is about, as the runtime has it; one that hangs is killed.
    async fn in_its_words(
        &self,
        container: &Container,
        verb: &'static str,
        key: &str,
        error: Error,
        log: &Path,
    ) -> Error {
        match (&error, &container.spec.runtime) {
            (Error::Start(failure), Some(runtime)) if failure.step() == Step::Runtime => {
                runtime.failed(verb, said(log).unwrap_or_else(|| failure.attempt.clone()))
            }
            (Error::Deadline { .. }, _) => {
                if let Err(error) = container.shim.signal(key, libc::SIGKILL).await {
                    tracing::debug!(%error, "kill a foreign runtime, ignoring");
                }
                error
            }
            _ => error,
        }
    }

    /// Bundles and states of foreign runtimes that belong to no container. `roots` are the
    /// directories in which runtimes keep states of ours only.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub fn foreign_strays(&self, roots: &[&Path]) -> Result<Vec<String>, Error> {
        let known = self.ids();
        let mut strays = Vec::new();
        for directory in roots.iter().copied().chain([self.0.settings.bundles.as_path()]) {
            let names = state_names(directory).storing("read", directory)?;
            let stray = names.iter().filter(|name| !known.iter().any(|id| name.starts_with(id)));
            strays.extend(stray.map(|name| directory.join(name).display().to_string()));
        }
        Ok(strays)
    }
}

/// The process is born by an errand, in the shim's PID namespace; which one it gets the bundle
/// says.
fn foreign() -> Start {
    Start { foreign: true, pid_namespace: Some(PidNamespace::Host(true)), ..Start::default() }
}

/// The score of berthd: a lower one it cannot give without `CAP_SYS_RESOURCE`.
fn own_oom_score() -> Option<i32> {
    std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()
}
