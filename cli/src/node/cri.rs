//! What is asked over the CRI socket. One method per RPC, named like it.

use tonic::transport::Channel;

use super::{Line, Refused};
use crate::api::runtime::image_service_client::ImageServiceClient;
use crate::api::runtime::runtime_service_client::RuntimeServiceClient;
use crate::api::runtime::*;

/// The largest answer: an ExecSync brings 16 MiB of each stream.
const MESSAGE_MAX: usize = 64 << 20;

/// A connection to the CRI socket.
#[derive(Debug, Clone)]
pub(crate) struct Cri {
    channel: Channel,
    line: Line,
}

impl Cri {
    pub(super) fn new(channel: Channel, line: Line) -> Self {
        Self { channel, line }
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Who answers.
    pub(crate) async fn version(&self) -> Result<VersionResponse, Refused> {
        self.line.question(self.runtime().version(VersionRequest::default())).await
    }

    /// All pods.
    pub(crate) async fn list_pods(&self) -> Result<Vec<PodSandbox>, Refused> {
        let request = ListPodSandboxRequest { filter: None };
        Ok(self.line.question(self.runtime().list_pod_sandbox(request)).await?.items)
    }

    /// How a pod is; with `verbose`, everything that the daemon can tell of it.
    pub(crate) async fn pod_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<PodSandboxStatusResponse, Refused> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose };
        self.line.question(self.runtime().pod_sandbox_status(request)).await
    }

    /// Makes a pod, and answers its id.
    pub(crate) async fn run_pod(&self, config: PodSandboxConfig) -> Result<String, Refused> {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        Ok(self.line.action(self.runtime().run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    /// Ends a pod's containers at once and takes its network down.
    pub(crate) async fn stop_pod(&self, id: &str) -> Result<(), Refused> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.line.action(self.runtime().stop_pod_sandbox(request)).await.map(drop)
    }

    /// Removes a pod and all that is in it.
    pub(crate) async fn remove_pod(&self, id: &str) -> Result<(), Refused> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.line.action(self.runtime().remove_pod_sandbox(request)).await.map(drop)
    }

    /// All containers, also those that have ended.
    pub(crate) async fn list_containers(&self) -> Result<Vec<Container>, Refused> {
        let request = ListContainersRequest { filter: None };
        Ok(self.line.question(self.runtime().list_containers(request)).await?.containers)
    }

    /// How a container is; with `verbose`, everything that the daemon can tell of it.
    pub(crate) async fn container_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<ContainerStatusResponse, Refused> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose };
        self.line.question(self.runtime().container_status(request)).await
    }

    /// Makes a container, and answers its id.
    pub(crate) async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Result<String, Refused> {
        Ok(self.line.action(self.runtime().create_container(request)).await?.container_id)
    }

    /// Starts a container that was made.
    pub(crate) async fn start_container(&self, id: &str) -> Result<(), Refused> {
        let request = StartContainerRequest { container_id: id.to_owned() };
        self.line.action(self.runtime().start_container(request)).await.map(drop)
    }

    /// Asks a container to end, and kills it after `grace` seconds.
    pub(crate) async fn stop_container(&self, id: &str, grace: u32) -> Result<(), Refused> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: grace.into() };
        self.line.action(self.runtime().stop_container(request)).await.map(drop)
    }

    /// Kills a container that runs, and removes it.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), Refused> {
        let request = RemoveContainerRequest { container_id: id.to_owned() };
        self.line.action(self.runtime().remove_container(request)).await.map(drop)
    }

    /// Runs a command in a container, for `--timeout` at most.
    pub(crate) async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
    ) -> Result<ExecSyncResponse, Refused> {
        // Whole seconds are all that the request knows, and zero means that there is no limit.
        let limit = self.line.timeout.map_or(0, |limit| limit.as_millis().div_ceil(1000));
        let timeout = i64::try_from(limit).unwrap_or(i64::MAX);
        let request = ExecSyncRequest { container_id: id.to_owned(), cmd: command, timeout };
        self.line.limited_there(self.runtime().exec_sync(request)).await
    }

    /// What containers use, one entry for each that runs.
    pub(crate) async fn list_container_stats(&self) -> Result<Vec<ContainerStats>, Refused> {
        let request = ListContainerStatsRequest { filter: None };
        Ok(self.line.question(self.runtime().list_container_stats(request)).await?.stats)
    }

    /// All images.
    pub(crate) async fn list_images(&self) -> Result<Vec<Image>, Refused> {
        let request = ListImagesRequest { filter: None };
        Ok(self.line.question(self.images().list_images(request)).await?.images)
    }

    /// An image that is on the node, by name or id; with `verbose`, everything that the daemon
    /// can tell of it.
    pub(crate) async fn image_status(
        &self,
        image: &str,
        verbose: bool,
    ) -> Result<ImageStatusResponse, Refused> {
        let request = ImageStatusRequest { image: Some(image_spec(image)), verbose };
        self.line.question(self.images().image_status(request)).await
    }
}

fn image_spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.to_owned(), ..Default::default() }
}
