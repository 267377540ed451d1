//! The answers.

use futures_util::stream::{self, StreamExt};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::State;
use super::admin::*;
use super::runtime::*;

#[tonic::async_trait]
impl runtime_service_server::RuntimeService for State {
    async fn list_pod_sandbox(
        &self,
        _: Request<ListPodSandboxRequest>,
    ) -> Result<Response<ListPodSandboxResponse>, Status> {
        Ok(Response::new(ListPodSandboxResponse { items: self.script.pods.clone() }))
    }

    async fn pod_sandbox_status(
        &self,
        _: Request<PodSandboxStatusRequest>,
    ) -> Result<Response<PodSandboxStatusResponse>, Status> {
        Ok(Response::new(PodSandboxStatusResponse::default()))
    }

    async fn list_containers(
        &self,
        _: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        let containers = self.script.containers.clone();
        Ok(Response::new(ListContainersResponse { containers }))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<RunPodSandboxRequest>,
    ) -> Result<Response<RunPodSandboxResponse>, Status> {
        let metadata = request.into_inner().config.unwrap().metadata.unwrap();
        self.asked(format!("RunPodSandbox {}/{}", metadata.namespace, metadata.name));
        Ok(Response::new(RunPodSandboxResponse { pod_sandbox_id: "pod-1".into() }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Result<Response<StopPodSandboxResponse>, Status> {
        self.asked(format!("StopPodSandbox {}", request.into_inner().pod_sandbox_id));
        Ok(Response::new(StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Result<Response<RemovePodSandboxResponse>, Status> {
        self.asked(format!("RemovePodSandbox {}", request.into_inner().pod_sandbox_id));
        Ok(Response::new(RemovePodSandboxResponse {}))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Result<Response<CreateContainerResponse>, Status> {
        let config = request.into_inner().config.unwrap();
        let words = [vec![config.image.unwrap().image], config.args].concat();
        self.asked(format!("CreateContainer {}", words.join(" ")));
        Ok(Response::new(CreateContainerResponse { container_id: "container-1".into() }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Result<Response<StartContainerResponse>, Status> {
        self.asked(format!("StartContainer {}", request.into_inner().container_id));
        self.may_start().await;
        match self.script.start_fails {
            Some(why) => Err(Status::unknown(why)),
            None => Ok(Response::new(StartContainerResponse {})),
        }
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Result<Response<StopContainerResponse>, Status> {
        let StopContainerRequest { container_id, timeout } = request.into_inner();
        self.asked(format!("StopContainer {container_id} {timeout}"));
        if timeout == 0 || !self.script.stubborn {
            self.ended.send_replace(true);
        }
        self.has_ended().await;
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn exec_sync(
        &self,
        request: Request<ExecSyncRequest>,
    ) -> Result<Response<ExecSyncResponse>, Status> {
        let ExecSyncRequest { container_id, cmd, .. } = request.into_inner();
        self.asked(format!("ExecSync {container_id} {}", cmd.join(" ")));
        Ok(Response::new(self.script.exec.clone()))
    }
}

#[tonic::async_trait]
impl image_service_server::ImageService for State {
    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let name = request.into_inner().image.unwrap().image;
        let image = Image { id: "sha256:1234".into(), ..Default::default() };
        let image = (name == "busybox").then_some(image);
        Ok(Response::new(ImageStatusResponse { image, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl admin_server::Admin for State {
    async fn audit(
        &self,
        _: Request<AuditRequest>,
    ) -> Result<Response<BoxStream<AuditResponse>>, Status> {
        let events = self.script.audit.clone().into_iter();
        let answers = events.map(|event| Ok(AuditResponse { event: Some(event) }));
        Ok(Response::new(Box::pin(stream::iter(answers))))
    }

    async fn pull(
        &self,
        request: Request<PullRequest>,
    ) -> Result<Response<BoxStream<PullResponse>>, Status> {
        let PullRequest { image, credentials } = request.into_inner();
        let user = credentials.map(|given| format!(" {}:{}", given.username, given.password));
        self.asked(format!("Pull {image}{}", user.unwrap_or_default()));
        let events = self.script.pull.clone().into_iter();
        let answers = events.map(|event| Ok(PullResponse { event: Some(event) }));
        Ok(Response::new(Box::pin(stream::iter(answers))))
    }

    /// The lines, then nothing until the container has ended.
    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<BoxStream<LogsResponse>>, Status> {
        self.asked(format!("Logs {}", request.into_inner().container_id));
        let lines = LogsResponse { lines: self.script.log.clone() };
        let ended = self.has_ended();
        let end = async move {
            ended.await;
            Ok(LogsResponse::default())
        };
        Ok(Response::new(Box::pin(stream::iter([Ok(lines)]).chain(stream::once(end)))))
    }

    async fn wait(&self, _: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        self.has_ended().await;
        let exit_code = self.script.exit_code;
        Ok(Response::new(WaitResponse { exit_code, ..Default::default() }))
    }

    async fn import(
        &self,
        request: Request<Streaming<ImportRequest>>,
    ) -> Result<Response<ImportResponse>, Status> {
        let mut parts = request.into_inner();
        let mut archive = Vec::new();
        while let Some(part) = parts.message().await? {
            match part.part {
                Some(import_request::Part::Start(start)) => {
                    self.asked(format!("Import {:?}, {} bytes", start.reference, start.size));
                }
                Some(import_request::Part::Chunk(chunk)) => archive.extend(chunk),
                None => {}
            }
        }
        *self.imported.lock().unwrap() = Some(archive);
        let references = vec!["localhost/app:1".into()];
        let image = ImportedImage { image_id: "sha256:1234".into(), references };
        Ok(Response::new(ImportResponse { images: vec![image] }))
    }
}
