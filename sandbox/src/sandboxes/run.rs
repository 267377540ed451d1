//! Running a sandbox.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_cni::{Attached, Attachment};
use berth_runtime::client::{Ending, Running, ShimClient, Watch};
use berth_runtime::protocol::{PAUSE, PidNamespace, Start, Streams};
use fail::fail_point;
use oci_spec::runtime::LinuxResources;
use tokio::sync::watch;

use crate::error::{Error, InStep as _, Step, Storing as _};
use crate::files::Files;
use crate::netns::{self, Origin};
use crate::pause;
use crate::spec::{NetworkMode, SandboxSpec};

use super::{Sandbox, Sandboxes, State};

/// What came of running a sandbox, and where the time went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// Attaching it to the network.
    pub network: Duration,
    /// Starting its pause process.
    pub pause: Duration,
    /// What the pod asked of its network that no plugin of it does, for example `portMappings`.
    pub unserved: Vec<String>,
}

impl Sandboxes {
    /// Runs a sandbox; containers can be started in it when this returns.
    ///
    /// `stage` is told of each step before it begins. Any failure undoes what was done by then
    /// and returns the first error.
    ///
    /// # Errors
    /// By step, see [`Error`].
    pub async fn run(
        &self,
        spec: SandboxSpec,
        stage: impl Fn(&'static str),
    ) -> Result<RunReport, Error> {
        if self.find(&spec.id).is_some() {
            return Err(Error::Exists(spec.id));
        }
        stage("record");
        self.0.specs.write(&spec.id, &spec).in_step(Step::Record, &spec.id)?;
        fail_point!("sandbox.run.record");
        match self.make(&spec, &stage).await {
            Ok((sandbox, ending, report)) => {
                self.insert(Arc::clone(&sandbox));
                self.watch(sandbox, ending);
                Ok(report)
            }
            Err(error) => {
                stage("roll back");
                // What is left stays on record, and has been told: the first error counts.
                let _ = self.undo(spec).await;
                Err(error)
            }
        }
    }

    async fn make(
        &self,
        spec: &SandboxSpec,
        stage: &impl Fn(&'static str),
    ) -> Result<(Arc<Sandbox>, Watch, RunReport), Error> {
        let directory = self.directory(&spec.id);
        stage("cgroup");
        let holder = self.claim_scope(spec).await?;
        let none = LinuxResources::default();
        self.0.hierarchy.create(&spec.cgroup, &none).in_step(Step::Cgroup, &spec.id)?;
        fail_point!("sandbox.run.cgroup");
        stage("shim");
        // It gets ready while the network is set up.
        let shim = self.0.launcher.spawn(&directory).in_step(Step::Shim, &spec.id)?;
        fail_point!("sandbox.run.shim");
        let mut report = RunReport::default();
        // A network namespace that belongs to the pod's users is made by one of them.
        let mut early = None;
        if spec.users.is_some() {
            early = Some(self.start_pause(spec, &directory, &shim, stage, &mut report).await?);
        }
        let attached = match spec.network {
            NetworkMode::Host => None,
            NetworkMode::Pod => {
                let begun = Instant::now();
                let origin =
                    early.as_mut().map_or(Ok(Origin::New), |early| own_network(spec, early));
                let attached = self.set_up_network(spec, &directory, origin?, stage).await?;
                report.network = begun.elapsed();
                Some(attached)
            }
        };
        fail_point!("sandbox.run.network");
        let ips: Vec<IpAddr> = attached.iter().flat_map(addresses).collect();
        stage("files");
        Files::of(&directory).write(spec, &ips)?;
        fail_point!("sandbox.run.files");
        let running = match early {
            Some(running) => running,
            None => self.start_pause(spec, &directory, &shim, stage, &mut report).await?,
        };
        if let Some(holder) = holder {
            // A cgroup that has a process itself hands no controllers to those below.
            holder.let_go().await;
        }
        let state = State {
            ready: true,
            pause: Some(running.started.pid),
            ips,
            network: attached.as_ref().map(|attached| attached.raw.clone()),
            released: false,
            remains: false,
        };
        report.unserved = attached.map(|attached| attached.unserved).unwrap_or_default();
        self.0.states.write(&spec.id, &state).in_step(Step::Record, &spec.id)?;
        fail_point!("sandbox.run.state");
        let state = watch::Sender::new(state);
        let sandbox = Sandbox { spec: spec.clone(), directory, shim, state };
        Ok((Arc::new(sandbox), running.ending, report))
    }

    async fn set_up_network(
        &self,
        spec: &SandboxSpec,
        directory: &Path,
        origin: Origin,
        stage: &impl Fn(&'static str),
    ) -> Result<Attached, Error> {
        let cni = &self.0.cni;
        let failed =
            |source| Error::Network { id: spec.id.clone(), step: Step::NetworkAdd, source };
        stage("network configuration");
        let network = cni.network(self.0.settings.network_within).await.map_err(failed)?;
        stage("network namespace");
        let path = directory.join("netns");
        netns::create(path.clone(), origin).await?;
        fail_point!("sandbox.run.netns");
        stage("network add");
        let attachment = attachment(spec).and_then(|attachment| attachment.netns(&path));
        cni.add(&network, &attachment.map_err(failed)?).await.map_err(failed)
    }

    async fn start_pause(
        &self,
        spec: &SandboxSpec,
        directory: &Path,
        shim: &ShimClient,
        stage: &impl Fn(&'static str),
        report: &mut RunReport,
    ) -> Result<Running, Error> {
        stage("pause");
        let begun = Instant::now();
        let settings = &self.0.settings;
        let plan = pause::plan(spec, &settings.attach.to_string_lossy())?;
        let mut descriptors: Vec<OwnedFd> = Vec::with_capacity(2);
        if pause::enters_network(spec) {
            let path = directory.join("netns");
            descriptors.push(File::open(&path).storing("open network namespace", path)?.into());
        }
        let cgroup = self.0.hierarchy.open_cgroup(&spec.cgroup).in_step(Step::Cgroup, &spec.id)?;
        descriptors.push(cgroup);
        // In a user namespace it makes its own.
        let pid_namespace = if spec.own_pid && spec.users.is_none() {
            PidNamespace::New(true)
        } else {
            PidNamespace::Host(true)
        };
        let start = Start {
            key: PAUSE.to_owned(),
            cgroup: u32::from(descriptors.len() == 2),
            members: Vec::new(),
            pid_namespace: Some(pid_namespace),
            streams: Some(Streams::Null(true)),
            ..Start::default()
        };
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let started = shim.start(start, &plan, &descriptors, settings.start_within).await;
        let running = started.in_step(Step::Pause, &spec.id)?;
        report.pause = begun.elapsed();
        fail_point!("sandbox.run.pause");
        Ok(running)
    }

    /// Waits in the background for the end of a sandbox's pause process, which is the end of
    /// its readiness: its address stays its own until it is stopped.
    pub(super) fn watch(&self, sandbox: Arc<Sandbox>, ending: Watch) {
        let sandboxes = self.clone();
        self.0.tasks.spawn(async move {
            if !matches!(ending.await, Ok(Ending::Exited(_))) {
                sandboxes.end_abandoned(&sandbox);
            }
            let state = State { ready: false, pause: None, ..sandbox.state() };
            if sandbox.state().ready {
                tracing::warn!(sandbox = sandbox.spec.id, "its pause process has ended");
                if let Err(error) = sandboxes.set_state(&sandbox, state) {
                    tracing::warn!(sandbox = sandbox.spec.id, %error, "not recorded, ignoring");
                }
            } else {
                // It is being stopped, and whoever does that records it.
                sandbox.state.send_replace(state);
            }
        });
    }

    /// Kills a pause process whose shim has died: nobody is left to tell of its end.
    fn end_abandoned(&self, sandbox: &Sandbox) {
        if let Err(error) = self.0.hierarchy.kill(&sandbox.spec.cgroup) {
            tracing::warn!(sandbox = sandbox.spec.id, %error, "its pause process may live on");
        }
    }
}

/// The network namespace that a pause process has made.
fn own_network(spec: &SandboxSpec, pause: &mut Running) -> Result<Origin, Error> {
    let pidfd = pause.pidfd.take().ok_or_else(|| Error::NotReady(spec.id.clone()))?;
    Ok(Origin::Of(pidfd))
}

/// How network plugins know a sandbox.
pub(super) fn attachment(spec: &SandboxSpec) -> Result<Attachment, berth_cni::Error> {
    let pod = &spec.pod;
    let attachment = Attachment::new(&spec.id, "eth0")?.pod(&pod.namespace, &pod.name, &pod.uid)?;
    Ok(attachment.capabilities(spec.capabilities.clone()))
}

/// Addresses of the pod, in order. Those of interfaces on the host are not.
fn addresses(attached: &Attached) -> Vec<IpAddr> {
    let inside = |index: Option<usize>| {
        let interface = index.and_then(|index| attached.interfaces.get(index));
        interface.is_none_or(|interface| !interface.sandbox.is_empty())
    };
    let ips = attached.ips.iter().filter(|ip| inside(ip.interface));
    ips.map(|ip| ip.address.address).collect()
}
