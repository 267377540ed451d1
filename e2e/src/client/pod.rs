//! Pods: what one is to be, and what can be done with one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_cri::v1::{
    IdMapping, ListPodSandboxRequest, NamespaceMode, NamespaceOption, PodSandbox, PodSandboxConfig,
    PodSandboxFilter, PodSandboxMetadata, PodSandboxState, PodSandboxStatus,
    PodSandboxStatusRequest, PortMapping, Protocol, RemovePodSandboxRequest, RunPodSandboxRequest,
    SecurityProfile, StopPodSandboxRequest, UserNamespace,
};
use serde_json::Value;
use tonic::Status;

use super::Client;
use crate::wait;

/// How long the state of a pod may take to show what has happened to it.
const STATE: Duration = Duration::from_secs(5);

/// What a pod is to be.
#[derive(Debug, Clone)]
pub struct PodSpec {
    /// What the daemon is sent; free for a test to change, also to nonsense.
    pub config: PodSandboxConfig,
    /// The runtime handler; empty for the daemon's default.
    pub handler: String,
}

/// A pod called `name`, with namespaces of its own and a uid that no other pod of this process
/// has.
pub fn pod(name: &str) -> PodSpec {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let metadata = PodSandboxMetadata {
        name: name.to_owned(),
        uid: format!("uid-{name}-{number}"),
        namespace: "e2e".to_owned(),
        attempt: 0,
    };
    let config = PodSandboxConfig {
        metadata: Some(metadata),
        hostname: name.to_owned(),
        linux: Some(Default::default()),
        ..Default::default()
    };
    PodSpec { config, handler: String::new() }.namespaces(|options| {
        options.pid = NamespaceMode::Container.into();
    })
}

impl PodSpec {
    /// Changes any part of what is sent.
    pub fn with(mut self, change: impl FnOnce(&mut PodSandboxConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes which namespaces are shared.
    pub fn namespaces(self, change: impl FnOnce(&mut NamespaceOption)) -> Self {
        self.with(|config| {
            let security =
                config.linux.get_or_insert_default().security_context.get_or_insert_default();
            change(security.namespace_options.get_or_insert_default());
        })
    }

    /// Shares the node's network, and with it the node's host name: the kubelet then sends none.
    pub fn host_network(self) -> Self {
        self.with(|config| config.hostname.clear())
            .namespaces(|options| options.network = NamespaceMode::Node.into())
    }

    /// Has a user namespace of its own, whose ids are the host's from `first` on.
    pub fn users(self, first: u32) -> Self {
        let ids = || vec![IdMapping { host_id: first, container_id: 0, length: 65_536 }];
        let mode = NamespaceMode::Pod.into();
        self.namespaces(|options| {
            options.userns_options = Some(UserNamespace { mode, uids: ids(), gids: ids() });
        })
    }

    /// Shares one process namespace among the pod's containers.
    pub fn shared_pid(self) -> Self {
        self.namespaces(|options| options.pid = NamespaceMode::Pod.into())
    }

    /// Publishes a TCP port of the pod on the node.
    pub fn port(self, host: u16, container: u16) -> Self {
        self.with(|config| {
            config.port_mappings.push(PortMapping {
                protocol: Protocol::Tcp.into(),
                container_port: container.into(),
                host_port: host.into(),
                host_ip: String::new(),
            });
        })
    }

    /// Counts the tries of the pod; each is a sandbox of its own.
    pub fn attempt(self, attempt: u32) -> Self {
        self.with(|config| config.metadata.get_or_insert_default().attempt = attempt)
    }

    /// Adds a label.
    pub fn label(self, key: &str, value: &str) -> Self {
        self.with(|config| drop(config.labels.insert(key.to_owned(), value.to_owned())))
    }

    /// Adds an annotation.
    pub fn annotation(self, key: &str, value: &str) -> Self {
        self.with(|config| drop(config.annotations.insert(key.to_owned(), value.to_owned())))
    }

    /// Sets a sysctl.
    pub fn sysctl(self, key: &str, value: &str) -> Self {
        self.with(|config| {
            let sysctls = &mut config.linux.get_or_insert_default().sysctls;
            sysctls.insert(key.to_owned(), value.to_owned());
        })
    }

    /// Lets it have privileged containers.
    pub fn privileged(self) -> Self {
        self.with(|config| {
            let linux = config.linux.get_or_insert_default();
            linux.security_context.get_or_insert_default().privileged = true;
        })
    }

    /// Filters system calls by the daemon's default profile, as every kubelet asks.
    pub fn seccomp_default(self) -> Self {
        self.with(|config| {
            let linux = config.linux.get_or_insert_default();
            let security = linux.security_context.get_or_insert_default();
            security.seccomp = Some(SecurityProfile::default());
        })
    }

    /// Names the parent cgroup, as the kubelet does.
    pub fn cgroup_parent(self, path: &str) -> Self {
        self.with(|config| config.linux.get_or_insert_default().cgroup_parent = path.to_owned())
    }

    /// Asks for another runtime handler than the default.
    pub fn handler(mut self, handler: &str) -> Self {
        self.handler = handler.to_owned();
        self
    }
}

/// A pod that a daemon runs. Dropping it does nothing to the pod.
#[derive(Debug, Clone)]
pub struct Pod {
    pub(super) client: Client,
    /// The id that the daemon gave it.
    pub id: String,
    /// What was sent.
    pub config: PodSandboxConfig,
}

impl Client {
    /// `RunPodSandbox`. The pod's log directory is made first, as the kubelet does.
    pub async fn run_pod(&self, spec: PodSpec) -> Result<Pod, Status> {
        self.run_pod_within(Duration::MAX, spec).await
    }

    /// `RunPodSandbox`, for a client whose patience ends: the daemon is told by the deadline of
    /// the call.
    pub async fn run_pod_within(&self, patience: Duration, spec: PodSpec) -> Result<Pod, Status> {
        let PodSpec { mut config, handler } = spec;
        if config.log_directory.is_empty() {
            let uid = config.metadata.clone().unwrap_or_default().uid;
            let dir = self.logs.join(uid);
            std::fs::create_dir_all(&dir)?;
            config.log_directory = dir.to_string_lossy().into_owned();
        }
        let request =
            RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler };
        let mut request = tonic::Request::new(request);
        if patience < Duration::MAX {
            request.set_timeout(patience);
        }
        let id = self.runtime().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
        Ok(Pod { client: self.clone(), id, config })
    }

    /// `ListPodSandbox`, all of them.
    pub async fn pods(&self) -> Result<Vec<PodSandbox>, Status> {
        let request = ListPodSandboxRequest { filter: None };
        Ok(self.runtime().list_pod_sandbox(request).await?.into_inner().items)
    }

    /// `ListPodSandbox`, with a filter; answers the ids, in order.
    pub async fn pods_where(&self, filter: PodSandboxFilter) -> Result<Vec<String>, Status> {
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let items = self.runtime().list_pod_sandbox(request).await?.into_inner().items;
        let mut ids: Vec<_> = items.into_iter().map(|item| item.id).collect();
        ids.sort();
        Ok(ids)
    }

    /// A handle to the pod `id`, whether or not there is one.
    pub fn pod(&self, id: &str) -> Pod {
        Pod { client: self.clone(), id: id.to_owned(), config: PodSandboxConfig::default() }
    }
}

impl Pod {
    /// `PodSandboxStatus`.
    pub async fn status(&self) -> Result<PodSandboxStatus, Status> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: false };
        let answer = self.client.runtime().pod_sandbox_status(request).await?.into_inner();
        answer.status.ok_or_else(|| Status::internal("a status without a status"))
    }

    /// Its state now.
    pub async fn state(&self) -> Result<PodSandboxState, Status> {
        Ok(self.status().await?.state())
    }

    /// Waits until it is in `state`, for as long as a state may take to show.
    pub async fn wait_for(&self, state: PodSandboxState) -> Result<PodSandboxStatus> {
        let what = format!("pod {} is {state:?}", self.id);
        wait::until(&what, STATE, async || {
            let status = self.status().await.context("ask for the status")?;
            Ok((status.state() == state).then_some(status))
        })
        .await
    }

    /// What the daemon tells of it beyond the CRI.
    pub async fn info(&self) -> Result<Value> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: true };
        let answer = self.client.runtime().pod_sandbox_status(request).await?.into_inner();
        let info = answer.info.get("info").context("a verbose status without `info`")?;
        serde_json::from_str(info).context("parse the verbose status")
    }

    /// PID of its pause process.
    pub async fn pause(&self) -> Result<i32> {
        let pid = self.info().await?["pid"].as_i64().context("a pod without a pause process")?;
        i32::try_from(pid).context("a PID")
    }

    /// Its first address; empty on the host network.
    pub async fn ip(&self) -> Result<String, Status> {
        Ok(self.status().await?.network.unwrap_or_default().ip)
    }

    /// Where its containers log.
    pub fn log_dir(&self) -> PathBuf {
        PathBuf::from(&self.config.log_directory)
    }

    /// `StopPodSandbox`.
    pub async fn stop(&self) -> Result<(), Status> {
        let request = StopPodSandboxRequest { pod_sandbox_id: self.id.clone() };
        self.client.runtime().stop_pod_sandbox(request).await.map(drop)
    }

    /// `RemovePodSandbox`.
    pub async fn remove(&self) -> Result<(), Status> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() };
        self.client.runtime().remove_pod_sandbox(request).await.map(drop)
    }

    /// Stops, then removes.
    pub async fn delete(&self) -> Result<(), Status> {
        self.stop().await?;
        self.remove().await
    }
}
