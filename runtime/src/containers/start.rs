//! Starting a container, and settling what is left when its process has ended.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fail::fail_point;
use prost::Message;

use crate::client::{Ending, Watch};
use crate::error::{Error, StartFault, Storing as _};
use crate::plan::Handle;
use crate::protocol::{LogStreams, Start, Streams};
use crate::spec::{self, Blueprint, Surroundings};

use super::state::Exited;
use super::{Container, ContainerSpec, Containers, State, log};

impl Containers {
    /// Starts a container and waits until its program runs. Each step is told to `stage` as it
    /// begins.
    ///
    /// # Errors
    /// [`Error::WrongState`] unless it is created. [`Error::Start`] says which step failed and
    /// why; the container is exited then, with that message.
    pub async fn start(&self, id: &str, stage: impl Fn(&'static str)) -> Result<(), Error> {
        let container = self.get(id)?;
        if container.state() != State::Created {
            let state = container.state().name();
            return Err(Error::WrongState { id: id.to_owned(), state, verb: "start it" });
        }
        match self.launch(&container, &stage).await {
            Ok((state, ending)) => {
                stage("state");
                fail_point!("container.start.running");
                let recorded = self.set_state(&container, state);
                fail_point!("container.start.state");
                self.watch(container, ending);
                recorded
            }
            Err(error) => {
                self.give_up(&container, &error).await;
                Err(error)
            }
        }
    }

    async fn launch(
        &self,
        container: &Container,
        stage: impl Fn(&'static str),
    ) -> Result<(State, Watch), Error> {
        stage("plan");
        if let Some(runtime) = &container.spec.runtime {
            return self.launch_foreign(container, runtime).await;
        }
        let Blueprint { plan, pid_namespace, open } = self.blueprint(&container.spec)?;
        let start = Start { pid_namespace: Some(pid_namespace), ..Start::default() };
        stage("program");
        self.launch_as(container, start, &plan, open).await
    }

    /// Completes a request with the cgroup, the log and what is to be opened, and makes it.
    pub(super) async fn launch_as(
        &self,
        container: &Container,
        start: Start,
        plan: &impl Message,
        open: Vec<PathBuf>,
    ) -> Result<(State, Watch), Error> {
        let spec = &container.spec;
        let process = spec.oci.process().as_ref();
        let terminal = process.and_then(|process| process.terminal()).unwrap_or(false);
        let mut descriptors: Vec<OwnedFd> = Vec::with_capacity(open.len() + 2);
        for path in open {
            let file = File::open(&path).storing("open namespace", path)?;
            descriptors.push(file.into());
        }
        let mut pass = |fd: OwnedFd| {
            descriptors.push(fd);
            Handle::try_from(spec.members.len() + descriptors.len() - 1).unwrap_or(Handle::MAX)
        };
        let cgroup = pass(self.0.hierarchy.open_cgroup(&spec.cgroup)?);
        let file = match &spec.log {
            Some(place) => Some(pass(log::open(place)?)),
            None => None,
        };
        let max_line = self.0.settings.log_line_max;
        let start = Start {
            key: spec.id.clone(),
            cgroup,
            members: spec.members.iter().map(|member| member.key.clone()).collect(),
            streams: Some(Streams::Log(LogStreams { file, max_line, stdin: spec.stdin, terminal })),
            ..start
        };
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let within = self.0.settings.start_within;
        let running = container.shim.start(start, plan, &descriptors, within).await?;
        let started = running.started;
        let state = State::Running { pid: started.pid, started_at: started.at };
        Ok((state, running.ending))
    }

    pub(super) fn blueprint(&self, spec: &ContainerSpec) -> Result<Blueprint, Error> {
        let settings = &self.0.settings;
        let mut blueprint = spec::plan(
            &spec.oci,
            &Surroundings {
                rootfs: &spec.rootfs,
                attach: &settings.attach,
                bundle: None,
                no_pivot: false,
                members: &spec.members,
                env: &spec.env,
                oom_score_adj_best_effort: settings.oom_score_adj_best_effort,
                seccomp: spec.seccomp(&self.0.filters, None),
            },
        )?;
        if let Some(process) = &mut blueprint.plan.process {
            process.keyring = spec::session_keyring(&spec.id);
        }
        Ok(blueprint)
    }

    /// Leaves a container whose start was cut off, and failed, as one that has ended.
    pub(super) async fn give_up_start(&self, container: &Container, error: Error) {
        let error = match container.spec.runtime {
            Some(_) => self.in_words_of_create(container, error).await,
            None => error,
        };
        tracing::warn!(container = container.spec.id, %error, "a start that was cut off failed");
        self.give_up(container, &error).await;
    }

    /// Leaves a container that could not be started as one that has ended.
    async fn give_up(&self, container: &Container, error: &Error) {
        let code = match error.start_fault() {
            Some(StartFault::CommandNotFound) => 127,
            Some(StartFault::CommandNotExecutable) => 126,
            _ => 128,
        };
        let now = crate::clock::nanoseconds();
        let exited = Exited::not_started(code, error.to_string(), now);
        self.settle(container, exited).await;
    }

    /// Waits for the end of a container's process in the background.
    pub(super) fn watch(&self, container: Arc<Container>, ending: Watch) {
        let containers = self.clone();
        self.0.tasks.spawn(async move {
            let exited = match ending.await {
                Ok(Ending::Exited(exit)) => {
                    let before = container.oom_kills_before.load(Ordering::Relaxed);
                    Exited::from_exit(&exit, before, &container.spec.cgroup)
                }
                // A shim that died can be outlived by what it was the parent of; nobody would
                // log its output or see its end, so it ends now.
                Ok(Ending::Lost) | Err(_) => {
                    Exited::unknown(&container.state(), crate::clock::nanoseconds())
                }
            };
            containers.settle(&container, exited).await;
        });
    }

    /// Makes an end of it: nothing of the container runs any more, its cgroup goes, its state
    /// is on record.
    pub(super) async fn settle(&self, container: &Container, exited: Exited) {
        let spec = &container.spec;
        let report = |result: Result<(), Error>, what: &str| {
            if let Err(error) = result {
                let id = &spec.id;
                tracing::warn!(container = id, error = %chain(&error), "{what}, ignoring");
            }
        };
        // In a shared PID namespace the children of the first process outlive it.
        report(self.0.hierarchy.kill(&spec.cgroup), "kill what is left of a container");
        fail_point!("container.end.killed");
        report(self.set_state(container, State::Exited(exited)), "record the end of a container");
        fail_point!("container.end.state");
        report(self.remove_bundle(spec).await, "have a foreign runtime forget a container");
        // What does not go now (a process that sleeps in the kernel) goes when it is removed.
        report(self.0.hierarchy.remove(&spec.cgroup).await, "remove the cgroup of a container");
    }
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
