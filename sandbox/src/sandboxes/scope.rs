//! The scope of a pod, where systemd manages cgroups: see [`berth_runtime::cgroup::systemd`].

use berth_runtime::cgroup::systemd::{Unit, of_pod};
use berth_runtime::launcher::Holder;

use crate::error::{Error, InStep as _, Step};
use crate::spec::SandboxSpec;

use super::Sandboxes;

impl Sandboxes {
    /// Has systemd make the scope that a sandbox's cgroup is in, if it is in one. The scope lasts
    /// for as long as there is a process in it or below it: the one that
    /// is returned, at first.
    pub(super) async fn claim_scope(&self, spec: &SandboxSpec) -> Result<Option<Holder>, Error> {
        let Some(systemd) = &self.0.settings.systemd else { return Ok(None) };
        let Some(unit) = Unit::around(&spec.cgroup) else { return Ok(None) };
        let holder = self.0.launcher.hold().in_step(Step::Cgroup, &spec.id)?;
        let pod = &spec.pod;
        let description = format!("pod {}/{}", pod.namespace, pod.name);
        let started = systemd.start_scope(&unit, &description, holder.pid(), &of_pod()).await;
        started.in_step(Step::Cgroup, &spec.id)?;
        // The scope itself is to have cgroups below it, and so no process.
        let moved = self.0.hierarchy.make_room(&spec.cgroup, holder.pid());
        moved.in_step(Step::Cgroup, &spec.id)?;
        Ok(Some(holder))
    }

    /// Has systemd forget the scope of a sandbox; one that is gone is fine, and the rule.
    pub(super) async fn release_scope(&self, spec: &SandboxSpec) -> Result<(), Error> {
        match (&self.0.settings.systemd, Unit::around(&spec.cgroup)) {
            (Some(systemd), Some(unit)) => {
                systemd.stop(&unit).await.in_step(Step::Cgroup, &spec.id)
            }
            _ => Ok(()),
        }
    }
}
