//! What is kept of a request with the object that it made.
//!
//! The libraries keep it as bytes that mean nothing to them. It is protobuf,
//! as the request itself: fields of a newer kubelet that this version does not
//! know are lost on the way in, and only there.

use prost::Message;

use crate::api::runtime::{
    ContainerConfig, CreateContainerRequest, PodSandboxConfig, RunPodSandboxRequest,
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
        let origin = Self::decode(bytes).unwrap_or_default();
        (origin.request.unwrap_or_default(), origin.image_id)
    }

    /// The configuration of the container, and the id of its image.
    #[must_use]
    pub fn config(bytes: &[u8]) -> (ContainerConfig, String) {
        let (request, image_id) = Self::of(bytes);
        (request.config.unwrap_or_default(), image_id)
    }
}
