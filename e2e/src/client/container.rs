//! Containers: what one is to be, and what can be done with one.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_cri::v1::{
    ContainerConfig, ContainerFilter, ContainerMetadata, ContainerState, ContainerStats,
    ContainerStatsRequest, ContainerStatus, ContainerStatusRequest, CreateContainerRequest,
    ImageSpec, KeyValue, LinuxContainerResources, LinuxContainerSecurityContext,
    ListContainersRequest, Mount, RemoveContainerRequest, ReopenContainerLogRequest,
    SecurityProfile, StartContainerRequest, StopContainerRequest, UpdateContainerResourcesRequest,
};
use serde_json::Value;
use tonic::Status;

use super::{Client, ImageMount, LogLine, Pod, parse_logs};
use crate::wait;

/// How long a container may take to get into a state that a test waits for. Generous, because a
/// guest is slow; a test that means to bound a time measures it.
const STATE: Duration = Duration::from_secs(60);

/// What a container is to be.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// What the daemon is sent; free for a test to change, also to nonsense.
    pub config: ContainerConfig,
    images: Vec<ImageMount>,
}

/// A container called `name`, which logs to `NAME.log`.
pub fn container(name: &str) -> ContainerSpec {
    let metadata = ContainerMetadata { name: name.to_owned(), attempt: 0 };
    let config = ContainerConfig {
        metadata: Some(metadata),
        log_path: format!("{name}.log"),
        linux: Some(Default::default()),
        ..Default::default()
    };
    ContainerSpec { config, images: Vec::new() }
}

impl ContainerSpec {
    /// Changes any part of what is sent.
    pub fn with(mut self, change: impl FnOnce(&mut ContainerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes resource limits.
    pub fn resources(self, change: impl FnOnce(&mut LinuxContainerResources)) -> Self {
        self.with(|config| {
            change(config.linux.get_or_insert_default().resources.get_or_insert_default());
        })
    }

    /// Changes the security context.
    pub fn security(self, change: impl FnOnce(&mut LinuxContainerSecurityContext)) -> Self {
        self.with(|config| {
            change(config.linux.get_or_insert_default().security_context.get_or_insert_default());
        })
    }

    /// Names the image.
    pub fn image(self, reference: &str) -> Self {
        let image = ImageSpec { image: reference.to_owned(), ..Default::default() };
        self.with(|config| config.image = Some(image))
    }

    /// Replaces the image's entry point, as `command` of a Kubernetes container does.
    pub fn cmd<const N: usize>(self, words: [&str; N]) -> Self {
        self.with(|config| config.command = words.map(str::to_owned).into())
    }

    /// Replaces the image's command, as `args` of a Kubernetes container does.
    pub fn args<const N: usize>(self, words: [&str; N]) -> Self {
        self.with(|config| config.args = words.map(str::to_owned).into())
    }

    /// Runs a shell script.
    pub fn script(self, text: &str) -> Self {
        self.cmd(["/bin/sh", "-c", text])
    }

    /// Sets an environment variable.
    pub fn env(self, key: &str, value: &str) -> Self {
        let pair = KeyValue { key: key.to_owned(), value: value.to_owned() };
        self.with(|config| config.envs.push(pair))
    }

    /// Mounts a path of the node.
    pub fn mount(self, host: &str, container: &str, readonly: bool) -> Self {
        let mount = Mount {
            host_path: host.to_owned(),
            container_path: container.to_owned(),
            readonly,
            ..Default::default()
        };
        self.with(|config| config.mounts.push(mount))
    }

    /// Mounts an image.
    pub fn image_mount(mut self, mount: ImageMount) -> Self {
        self.images.push(mount);
        self
    }

    /// Limits memory, in bytes.
    pub fn memory(self, bytes: i64) -> Self {
        self.resources(|resources| resources.memory_limit_in_bytes = bytes)
    }

    /// Gives it a terminal.
    pub fn tty(self) -> Self {
        self.with(|config| config.tty = true)
    }

    /// Filters system calls by the daemon's default profile, as most kubelets ask.
    pub fn seccomp_default(self) -> Self {
        self.security(|security| security.seccomp = Some(SecurityProfile::default()))
    }

    /// Makes it privileged.
    pub fn privileged(self) -> Self {
        self.security(|security| security.privileged = true)
    }
}

/// A container that a daemon has. Dropping it does nothing to the container.
#[derive(Debug, Clone)]
pub struct Container {
    pub(super) client: Client,
    /// The id that the daemon gave it.
    pub id: String,
    log: PathBuf,
}

impl Pod {
    /// `CreateContainer`. A container that says nothing of namespaces shares what its pod has,
    /// as the kubelet has it.
    pub async fn create(&self, spec: ContainerSpec) -> Result<Container, Status> {
        let log = self.log_dir().join(&spec.config.log_path);
        let of_pod = self.config.linux.clone().unwrap_or_default().security_context;
        let of_pod = of_pod.unwrap_or_default().namespace_options;
        let spec = spec.security(|security| {
            security.namespace_options = security.namespace_options.take().or(of_pod);
        });
        let images = spec.images;
        let request = CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(spec.config),
            sandbox_config: Some(self.config.clone()),
        };
        let answer = match images.is_empty() {
            true => self.client.runtime().create_container(request).await?.into_inner(),
            false => self.client.create_with_images(&request, images).await?,
        };
        Ok(Container { client: self.client.clone(), id: answer.container_id, log })
    }

    /// `CreateContainer`, then `StartContainer`.
    pub async fn run(&self, spec: ContainerSpec) -> Result<Container, Status> {
        let container = self.create(spec).await?;
        container.start().await?;
        Ok(container)
    }
}

impl Client {
    /// `ListContainers`, all of them.
    pub async fn containers(&self) -> Result<Vec<k8s_cri::v1::Container>, Status> {
        let request = ListContainersRequest { filter: None };
        Ok(self.runtime().list_containers(request).await?.into_inner().containers)
    }

    /// `ListContainers`, with a filter; answers the ids, in order.
    pub async fn containers_where(&self, filter: ContainerFilter) -> Result<Vec<String>, Status> {
        let request = ListContainersRequest { filter: Some(filter) };
        let items = self.runtime().list_containers(request).await?.into_inner().containers;
        let mut ids: Vec<_> = items.into_iter().map(|item| item.id).collect();
        ids.sort();
        Ok(ids)
    }

    /// A handle to the container `id`, whether or not there is one; its log is unknown.
    pub fn container(&self, id: &str) -> Container {
        Container { client: self.clone(), id: id.to_owned(), log: PathBuf::new() }
    }
}

impl Container {
    /// `StartContainer`.
    pub async fn start(&self) -> Result<(), Status> {
        let request = StartContainerRequest { container_id: self.id.clone() };
        self.client.runtime().start_container(request).await.map(drop)
    }

    /// `StopContainer`; `grace` is in seconds, between SIGTERM and SIGKILL.
    pub async fn stop(&self, grace: i64) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: self.id.clone(), timeout: grace };
        self.client.runtime().stop_container(request).await.map(drop)
    }

    /// `UpdateContainerResources`, with what `change` sets.
    pub async fn update(
        &self,
        change: impl FnOnce(&mut LinuxContainerResources),
    ) -> Result<(), Status> {
        let mut limits = LinuxContainerResources::default();
        change(&mut limits);
        let request = UpdateContainerResourcesRequest {
            container_id: self.id.clone(),
            linux: Some(limits),
            ..Default::default()
        };
        self.client.runtime().update_container_resources(request).await.map(drop)
    }

    /// `RemoveContainer`.
    pub async fn remove(&self) -> Result<(), Status> {
        let request = RemoveContainerRequest { container_id: self.id.clone() };
        self.client.runtime().remove_container(request).await.map(drop)
    }

    /// `ContainerStatus`.
    pub async fn status(&self) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
        let answer = self.client.runtime().container_status(request).await?.into_inner();
        answer.status.ok_or_else(|| Status::internal("a status without a status"))
    }

    /// `ContainerStats`.
    pub async fn stats(&self) -> Result<ContainerStats, Status> {
        let request = ContainerStatsRequest { container_id: self.id.clone() };
        let answer = self.client.runtime().container_stats(request).await?.into_inner();
        answer.stats.ok_or_else(|| Status::internal("statistics without statistics"))
    }

    /// What the daemon tells of it beyond the CRI.
    pub async fn info(&self) -> Result<Value> {
        let request = ContainerStatusRequest { container_id: self.id.clone(), verbose: true };
        let answer = self.client.runtime().container_status(request).await?.into_inner();
        let info = answer.info.get("info").context("a verbose status without `info`")?;
        serde_json::from_str(info).context("parse the verbose status")
    }

    /// What a file of its cgroup says, such as `memory.max`, as this place sees the hierarchy.
    pub async fn cgroup_says(&self, file: &str) -> Result<String> {
        let info = self.info().await?;
        let cgroup = info["cgroup"].as_str().context("a container without a cgroup")?;
        let path = format!("/sys/fs/cgroup{cgroup}/{file}");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        Ok(text.trim_end().to_owned())
    }

    /// PID of its first process, as the node sees it.
    pub async fn pid(&self) -> Result<i32> {
        let pid = self.info().await?["pid"].as_i64().context("a container without a process")?;
        i32::try_from(pid).context("a PID")
    }

    /// Its state now.
    pub async fn state(&self) -> Result<ContainerState, Status> {
        Ok(self.status().await?.state())
    }

    /// `ReopenContainerLog`.
    pub async fn reopen_log(&self) -> Result<(), Status> {
        let request = ReopenContainerLogRequest { container_id: self.id.clone() };
        self.client.runtime().reopen_container_log(request).await.map(drop)
    }

    /// Waits until it is in `state`, and answers its status then. A look-up now and then,
    /// because not every daemon of a test has container events.
    pub async fn wait_for(&self, state: ContainerState) -> Result<ContainerStatus> {
        let what = format!("container {} is {state:?}", self.id);
        wait::until(&what, STATE, async || {
            let status = self.status().await.context("ask for the status")?;
            Ok((status.state() == state).then_some(status))
        })
        .await
    }

    /// Waits until it has ended, and answers its status then.
    pub async fn wait_for_exit(&self) -> Result<ContainerStatus> {
        self.wait_for(ContainerState::ContainerExited).await
    }

    /// Where its log is.
    pub fn log_path(&self) -> &std::path::Path {
        &self.log
    }

    /// What it has logged, line by line.
    pub fn log(&self) -> Result<Vec<LogLine>> {
        let text = std::fs::read(&self.log).with_context(|| format!("read {}", self.log.display()));
        parse_logs(&text?)
    }

    /// What it has logged on both streams, without the frame of the log format.
    pub fn log_text(&self) -> Result<String> {
        Ok(self.log()?.iter().map(LogLine::content).collect())
    }

    /// Waits until its log contains `text`.
    pub async fn wait_for_log(&self, text: &str) -> Result<()> {
        wait::until(&format!("the log contains {text:?}"), STATE, async || {
            Ok(self.log_text()?.contains(text).then_some(()))
        })
        .await
    }
}
