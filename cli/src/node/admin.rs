//! What is asked over the admin socket. One method per RPC, named like it.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{Line, Refused};
use crate::api::admin::admin_client::AdminClient;
use crate::api::admin::*;

/// A connection to the admin socket.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    channel: Channel,
    line: Line,
}

impl Admin {
    pub(super) fn new(channel: Channel, line: Line) -> Self {
        Self { channel, line }
    }

    fn client(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    /// The build, its configuration, what it found on this node.
    pub(crate) async fn info(&self) -> Result<InfoResponse, Refused> {
        self.line.question(self.client().info(InfoRequest {})).await
    }

    /// Operations in flight, oldest first.
    pub(crate) async fn operations(&self, object: String) -> Result<Vec<Operation>, Refused> {
        let request = OperationsRequest { object };
        Ok(self.line.question(self.client().operations(request)).await?.operations)
    }

    /// Compares berthd's records with the kernel and the disk.
    pub(crate) async fn audit(&self) -> Result<Answers<AuditResponse>, Refused> {
        self.stream(self.client().audit(AuditRequest {})).await
    }

    /// Pulls an image, which goes on when we leave.
    pub(crate) async fn pull(
        &self,
        image: &str,
        credentials: Option<Credentials>,
    ) -> Result<Answers<PullResponse>, Refused> {
        let request = PullRequest { image: image.to_owned(), credentials };
        self.stream(self.client().pull(request)).await
    }

    /// Pulls in flight.
    pub(crate) async fn pulls(&self) -> Result<Vec<PullInFlight>, Refused> {
        Ok(self.line.question(self.client().pulls(PullsRequest {})).await?.pulls)
    }

    /// All that is known of an image.
    pub(crate) async fn inspect(&self, image: &str) -> Result<InspectResponse, Refused> {
        let request = InspectRequest { image: image.to_owned() };
        self.line.question(self.client().inspect(request)).await
    }

    /// Gives an image one more name.
    pub(crate) async fn tag(&self, image: &str, name: &str) -> Result<TagResponse, Refused> {
        let request = TagRequest { image: image.to_owned(), name: name.to_owned() };
        self.line.action(self.client().tag(request)).await
    }

    /// Takes a name from an image, or removes the image.
    pub(crate) async fn remove(&self, image: &str, force: bool) -> Result<Removal, Refused> {
        let request = RemoveRequest { image: image.to_owned(), force };
        let removed = self.line.action(self.client().remove(request)).await?;
        Ok(removed.removal.unwrap_or_default())
    }

    /// Removes images that nobody needs.
    pub(crate) async fn prune(&self, all: bool) -> Result<Vec<Removal>, Refused> {
        Ok(self.line.action(self.client().prune(PruneRequest { all })).await?.removals)
    }

    /// Reads all images again.
    pub(crate) async fn scrub(&self, repair: bool) -> Result<Vec<Finding>, Refused> {
        let answer = self.line.patiently(self.client().scrub(ScrubRequest { repair })).await?;
        Ok(answer.findings)
    }

    /// Imports an archive. The end of `parts` is the archive's end.
    pub(crate) async fn import(
        &self,
        parts: mpsc::Receiver<ImportRequest>,
    ) -> Result<ImportResponse, Refused> {
        self.line.patiently(self.client().import(ReceiverStream::new(parts))).await
    }

    /// Pushes an image, which goes on when we leave.
    pub(crate) async fn push(
        &self,
        request: PushRequest,
    ) -> Result<Answers<PushResponse>, Refused> {
        self.stream(self.client().push(request)).await
    }

    /// Whether a registry takes credentials; answers its name in normal form.
    pub(crate) async fn login(
        &self,
        server: &str,
        credentials: Credentials,
    ) -> Result<String, Refused> {
        let request = LoginRequest { server: server.to_owned(), credentials: Some(credentials) };
        Ok(self.line.action(self.client().login(request)).await?.server)
    }

    /// Compares an image with its digests; answers how many bytes were read.
    pub(crate) async fn verify(&self, image: &str) -> Result<u64, Refused> {
        let request = VerifyRequest { image: image.to_owned() };
        Ok(self.line.patiently(self.client().verify(request)).await?.bytes)
    }

    /// Exports images as an archive.
    pub(crate) async fn export(
        &self,
        request: ExportRequest,
    ) -> Result<Answers<ExportResponse>, Refused> {
        self.stream(self.client().export(request)).await
    }

    /// Waits until a container has exited.
    pub(crate) async fn wait(&self, container: &str) -> Result<WaitResponse, Refused> {
        let request = WaitRequest { container_id: container.to_owned() };
        self.line.patiently(self.client().wait(request)).await
    }

    /// Reads a container's log.
    pub(crate) async fn logs(
        &self,
        request: LogsRequest,
    ) -> Result<Answers<LogsResponse>, Refused> {
        self.stream(self.client().logs(request)).await
    }

    /// Answers come as they come: no limit of time fits them.
    async fn stream<T>(
        &self,
        answer: impl Future<Output = Result<tonic::Response<Streaming<T>>, tonic::Status>>,
    ) -> Result<Answers<T>, Refused> {
        let stream = self.line.patiently(answer).await?;
        Ok(Answers { stream, line: self.line.clone() })
    }
}

/// Answers of one request, one after another.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    stream: Streaming<T>,
    line: Line,
}

impl<T> Answers<T> {
    /// The next answer; nothing after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Refused> {
        self.stream.message().await.map_err(|status| self.line.refused(&status))
    }
}
