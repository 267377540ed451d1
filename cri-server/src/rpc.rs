//! The Container Runtime Interface: which RPC is served by which function.
//!
//! One RPC, one file: a handler parses its request, asks the [`Node`] and
//! translates the answer. What every request passes is in `edge`.
//!
//! [`Node`]: crate::node::Node

mod container_stats;
mod container_status;
mod create_container;
pub(crate) mod edge;
mod exec_sync;
mod filter;
pub mod identity;
mod image_fs_info;
mod image_status;
mod list_container_stats;
mod list_containers;
mod list_images;
mod list_pod_sandbox;
pub(crate) mod lookup;
mod pod_sandbox_status;
pub(crate) mod pull_image;
mod remove_container;
mod remove_image;
mod remove_pod_sandbox;
mod reopen_container_log;
mod run_pod_sandbox;
mod runtime_config;
mod start_container;
pub(crate) mod status;
mod stop_container;
mod stop_pod_sandbox;
pub(crate) mod table;
mod update_container_resources;
mod version;
mod view;

pub use edge::{Call, Peer};

use table::service;

use crate::api::runtime::image_service_server::ImageService;
use crate::api::runtime::runtime_service_server::RuntimeService;
use crate::api::runtime::*;

service! {
    RuntimeService;
    unary {
        Version version(VersionRequest) -> VersionResponse;
        RunPodSandbox run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
        StopPodSandbox stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
        RemovePodSandbox remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
        PodSandboxStatus pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
        ListPodSandbox list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
        CreateContainer create_container(CreateContainerRequest) -> CreateContainerResponse;
        StartContainer start_container(StartContainerRequest) -> StartContainerResponse;
        StopContainer stop_container(StopContainerRequest) -> StopContainerResponse;
        RemoveContainer remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
        ListContainers list_containers(ListContainersRequest) -> ListContainersResponse;
        ContainerStatus container_status(ContainerStatusRequest) -> ContainerStatusResponse;
        ReopenContainerLog reopen_container_log(ReopenContainerLogRequest)
            -> ReopenContainerLogResponse;
        UpdateContainerResources update_container_resources(UpdateContainerResourcesRequest)
            -> UpdateContainerResourcesResponse;
        ExecSync exec_sync(ExecSyncRequest) -> ExecSyncResponse;
        ContainerStats container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
        ListContainerStats list_container_stats(ListContainerStatsRequest)
            -> ListContainerStatsResponse;
        Status status(StatusRequest) -> StatusResponse;
        RuntimeConfig runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
    }
    streams {}
    later {
        Exec exec(ExecRequest) -> ExecResponse;
        Attach attach(AttachRequest) -> AttachResponse;
        PortForward port_forward(PortForwardRequest) -> PortForwardResponse;
        PodSandboxStats pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
        ListPodSandboxStats list_pod_sandbox_stats(ListPodSandboxStatsRequest)
            -> ListPodSandboxStatsResponse;
        UpdateRuntimeConfig update_runtime_config(UpdateRuntimeConfigRequest)
            -> UpdateRuntimeConfigResponse;
        CheckpointContainer checkpoint_container(CheckpointContainerRequest)
            -> CheckpointContainerResponse;
        CheckpointPod checkpoint_pod(CheckpointPodRequest) -> CheckpointPodResponse;
        RestorePod restore_pod(RestorePodRequest) -> RestorePodResponse;
        ListMetricDescriptors list_metric_descriptors(ListMetricDescriptorsRequest)
            -> ListMetricDescriptorsResponse;
        ListPodSandboxMetrics list_pod_sandbox_metrics(ListPodSandboxMetricsRequest)
            -> ListPodSandboxMetricsResponse;
        UpdatePodSandboxResources update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest)
            -> UpdatePodSandboxResourcesResponse;
    }
    streams_later {
        StreamPodSandboxes stream_pod_sandboxes(StreamPodSandboxesRequest)
            -> StreamPodSandboxesResponse as StreamPodSandboxesStream;
        StreamContainers stream_containers(StreamContainersRequest)
            -> StreamContainersResponse as StreamContainersStream;
        StreamContainerStats stream_container_stats(StreamContainerStatsRequest)
            -> StreamContainerStatsResponse as StreamContainerStatsStream;
        StreamPodSandboxStats stream_pod_sandbox_stats(StreamPodSandboxStatsRequest)
            -> StreamPodSandboxStatsResponse as StreamPodSandboxStatsStream;
        GetContainerEvents get_container_events(GetEventsRequest)
            -> ContainerEventResponse as GetContainerEventsStream;
        StreamPodSandboxMetrics stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest)
            -> StreamPodSandboxMetricsResponse as StreamPodSandboxMetricsStream;
    }
}

service! {
    ImageService;
    unary {
        ListImages list_images(ListImagesRequest) -> ListImagesResponse;
        ImageStatus image_status(ImageStatusRequest) -> ImageStatusResponse;
        PullImage pull_image(PullImageRequest) -> PullImageResponse;
        RemoveImage remove_image(RemoveImageRequest) -> RemoveImageResponse;
        ImageFsInfo image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
    }
    streams {}
    later {
    }
    streams_later {
        StreamImages stream_images(StreamImagesRequest)
            -> StreamImagesResponse as StreamImagesStream;
    }
}
