//! What is kept of a request with the object that it made.
//!
//! The libraries keep it as bytes that mean nothing to them. It is protobuf,
//! as the request itself: fields of a newer kubelet that this version does not
//! know are lost on the way in, and only there.

use prost::Message;

use crate::api::runtime::{
    ContainerConfig, CreateContainerRequest, LinuxContainerResources, PodSandboxConfig,
    RunPodSandboxRequest,
};

/// What a sandbox was asked for with.
#[derive(Clone, PartialEq, Message)]
pub struct SandboxOrigin {
    /// The request.
    #[prost(message, optional, tag = "1")]
    pub request: Option<RunPodSandboxRequest>,
    /// The runtime handler that it got, which may be by default.
    #[prost(string, tag = "2")]
    pub handler: String,
}

/// What a container was asked for with.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerOrigin {
    /// The request.
    #[prost(message, optional, tag = "1")]
    pub request: Option<CreateContainerRequest>,
    /// Id of the image that it was made from.
    #[prost(string, tag = "2")]
    pub image_id: String,
    /// Its limits, once they were updated. Those of the request stay as they are, so that the
    /// same request is known again.
    #[prost(message, optional, tag = "3")]
    pub resources: Option<LinuxContainerResources>,
}

impl SandboxOrigin {
    /// Reads what a sandbox keeps. It was written here: what cannot be read is
    /// empty rather than an error of every later request.
    #[must_use]
    pub fn of(bytes: &[u8]) -> RunPodSandboxRequest {
        let origin = Self::decode(bytes).unwrap_or_default();
        origin.request.unwrap_or_default()
    }

    /// The runtime handler that the sandbox got; empty if it is older than the choice.
    #[must_use]
    pub fn handler(bytes: &[u8]) -> String {
        Self::decode(bytes).unwrap_or_default().handler
    }

    /// The configuration of the sandbox.
    #[must_use]
    pub fn config(bytes: &[u8]) -> PodSandboxConfig {
        Self::of(bytes).config.unwrap_or_default()
    }
}

impl ContainerOrigin {
    /// Reads what a container keeps; as [`SandboxOrigin::of`].
    #[must_use]
    pub fn of(bytes: &[u8]) -> (CreateContainerRequest, String) {
        let origin = Self::whole(bytes);
        (origin.request.unwrap_or_default(), origin.image_id)
    }

    /// All of what a container keeps.
    #[must_use]
    pub fn whole(bytes: &[u8]) -> Self {
        Self::decode(bytes).unwrap_or_default()
    }

    /// The limits that the container has.
    #[must_use]
    pub fn resources(&self) -> LinuxContainerResources {
        let config = self.request.as_ref().and_then(|request| request.config.as_ref());
        let first = || config.and_then(|config| config.linux.as_ref()?.resources.clone());
        self.resources.clone().or_else(first).unwrap_or_default()
    }

    /// The configuration of the container, and the id of its image.
    #[must_use]
    pub fn config(bytes: &[u8]) -> (ContainerConfig, String) {
        let (request, image_id) = Self::of(bytes);
        (request.config.unwrap_or_default(), image_id)
    }
}
