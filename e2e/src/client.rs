//! The CRI client: what a test says to a daemon, short. It is built on `k8s-cri`, whose types
//! somebody else generated from somebody else's proto, so that our own reading of CRI is not
//! proved by itself.
//!
//! Every call answers the daemon's own [`Status`] when it is refused; waiting and log reading
//! answer `anyhow` errors.

mod container;
mod exec;
mod images;
mod logs;
mod pod;
mod volume;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{StatusRequest, StatusResponse, VersionRequest, VersionResponse};
use tonic::transport::{Channel, Endpoint};
pub use tonic::{Code, Status};

pub use container::{Container, ContainerSpec, container};
pub use exec::Output;
pub use k8s_cri::v1 as cri;
pub use logs::{LogLine, parse_logs};
pub use pod::{Pod, PodSpec, pod};
pub use volume::{ImageMount, image_mount};

/// Largest message that is accepted, in bytes; the kubelet's own limit.
const MESSAGE: usize = 16 << 20;
/// The kubelet gives RunPodSandbox this long, the longest of its deadlines.
const DEADLINE: Duration = Duration::from_secs(240);

/// The time as CRI tells it, in nanoseconds since the epoch.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// A connection to a daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    logs: PathBuf,
}

impl Client {
    /// Connects to `endpoint`, `unix:///path`. Pods of this client log below `logs`.
    pub async fn connect(endpoint: &str, logs: &Path) -> Result<Self> {
        let channel = Endpoint::from_shared(endpoint.to_owned())
            .with_context(|| format!("parse {endpoint}"))?
            .timeout(DEADLINE)
            .connect()
            .await
            .with_context(|| format!("connect to {endpoint}"))?;
        Ok(Self { channel, logs: logs.to_owned() })
    }

    /// The generated client of the runtime service, for what has no wrapper.
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE)
    }

    /// The generated client of the image service, for what has no wrapper.
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE)
    }

    /// `Version`.
    pub async fn version(&self) -> Result<VersionResponse, Status> {
        let request = VersionRequest { version: "v1".to_owned() };
        Ok(self.runtime().version(request).await?.into_inner())
    }

    /// `Status`, with its verbose part.
    pub async fn status(&self) -> Result<StatusResponse, Status> {
        let request = StatusRequest { verbose: true };
        Ok(self.runtime().status(request).await?.into_inner())
    }

    /// True if the condition `name` of `Status` holds: `RuntimeReady`, `NetworkReady`.
    pub async fn condition(&self, name: &str) -> Result<bool, Status> {
        let status = self.status().await?.status.unwrap_or_default();
        Ok(status.conditions.iter().any(|condition| condition.r#type == name && condition.status))
    }
}

/// The refusal that a test expects: fails the test unless `result` is an error with `code` whose
/// message contains each of `words`. Answers the message.
///
/// # Panics
/// If the call was not refused, or refused otherwise.
#[track_caller]
pub fn assert_refused<T>(result: Result<T, Status>, code: Code, words: &[&str]) -> String {
    let status = match result {
        Ok(_) => panic!("expected {code:?}, but the call succeeded"),
        Err(status) => status,
    };
    assert_eq!(status.code(), code, "refused otherwise: {}", status.message());
    for word in words {
        assert!(status.message().contains(word), "no {word:?} in {:?}", status.message());
    }
    status.message().to_owned()
}
