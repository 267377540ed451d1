//! CreateContainer: all of a container but its process.

use std::sync::Arc;

use berth_imageservice::{Image, ImageId, Images, VolumeRequest};
use berth_runtime::containers::{Containers, State};
use berth_runtime::spec::Member;
use berth_sandbox::Sandbox;
use fail::fail_point;
use tonic::Status;

use super::{Call, identity, lookup};
use crate::api::runtime::{CreateContainerRequest, CreateContainerResponse, NamespaceMode};
use crate::node::{ContainerOrigin, Node, SandboxOrigin, new_id, now, snapshot_key};
use crate::ops::{Handle, Operation};
use crate::status;
use crate::translate::container::{self, Translated};
use crate::translate::mounts::ImageVolume;

pub(super) async fn create_container(
    node: &Node,
    _: Call,
    mut request: CreateContainerRequest,
) -> Result<CreateContainerResponse, Status> {
    let sandbox = lookup::sandbox(node, &request.pod_sandbox_id)?;
    request.pod_sandbox_id.clone_from(&sandbox.spec.id);
    let (key, fingerprint) = identity::of_container(&request)?;
    let home = sandbox.home().map_err(status::of)?;
    let image = image(node, &request)?;
    admit(node, &image, &request).await?;
    let id = new_id()?;
    let handler = node.handlers.of_pod(&SandboxOrigin::handler(&sandbox.spec.origin))?;
    let apparmor = node.apparmor_of(&request).await?;
    let capabilities: Vec<_> = node
        .loaded
        .config
        .runtime
        .default_capabilities
        .iter()
        .filter_map(|capability| capability.name().trim_start_matches("CAP_").parse().ok())
        .collect();
    let translated = container::translate(
        &request,
        &container::Context {
            id: &id,
            sandbox: &sandbox.spec,
            home: &home,
            pod: &SandboxOrigin::config(&sandbox.spec.origin),
            image: &image,
            handler,
            default_capabilities: &capabilities,
            seccomp_profile: node.loaded.config.runtime.seccomp_profile.as_deref(),
            apparmor,
            target: target(node, &request)?,
            now: now(),
        },
    )?;
    let source =
        Source { image: image.id().clone(), volumes: volumes(node, &translated.volumes).await? };
    let origin = ContainerOrigin {
        request: Some(request),
        image_id: image.id().to_string(),
        resources: None,
    };

    let deadline = node.loaded.config.timeouts.container_create.get();
    // In the queue of its pod: a pod that is being removed gets no new containers.
    let operation = Operation::new(key, deadline).fingerprint(fingerprint).on(&sandbox.spec.id);
    let maker = Maker { containers: node.containers.clone(), images: node.images.clone() };
    let making = node.making.begin(&id);
    let (undo, work_id) = (maker.clone(), id.clone());
    let work = async move |handle: Handle| {
        let _making = making;
        maker.make(&work_id, &source, translated, origin, &sandbox, &handle).await
    };
    let remove = move |id: String| {
        let undo = undo.clone();
        async move { undo.unmake(&id).await }
    };
    let container_id = node.ops.create(operation, id, work, remove).await?;
    Ok(CreateContainerResponse { container_id })
}

/// The images that a container is made of.
struct Source {
    image: ImageId,
    volumes: Vec<VolumeRequest>,
}

#[derive(Clone)]
struct Maker {
    containers: Containers,
    images: Images,
}

impl Maker {
    async fn make(
        &self,
        id: &str,
        source: &Source,
        translated: Translated,
        origin: ContainerOrigin,
        sandbox: &Sandbox,
        handle: &Handle,
    ) -> Result<(), Status> {
        let shim = sandbox.home().map_err(status::of)?.shim;
        handle.stage("snapshot");
        let key = snapshot_key(id)?;
        let prepared = self.images.prepare_with(&source.image, &key, &source.volumes).await;
        let prepared = prepared.map_err(of_volume)?;
        fail_point!("container.create.snapshot");
        handle.stage("container");
        let spec = translated.with_rootfs(&prepared, &origin);
        match self.containers.create(spec, shim).await {
            Ok(_) => Ok(()),
            Err(error) => {
                handle.stage("roll back");
                self.unmake(id).await?;
                Err(status::of(error))
            }
        }
    }

    /// The teardown of a container and of any half of one.
    async fn unmake(&self, id: &str) -> Result<(), Status> {
        self.containers.remove(id).await.map_err(status::of)?;
        self.images.release(&snapshot_key(id)?).await.map_err(status::of)
    }
}

fn image(node: &Node, request: &CreateContainerRequest) -> Result<Arc<Image>, Status> {
    let spec = request.config.as_ref().and_then(|config| config.image.as_ref());
    let name = spec.map_or("", |spec| &spec.image);
    if name.is_empty() {
        return Err(Status::invalid_argument("config.image.image is missing"));
    }
    let found = node.images.find(name).map_err(status::of)?;
    let found = found
        .ok_or_else(|| Status::not_found(format!("image {name:?} not found: pull it first")))?;
    if found.is_artifact() {
        let why = format!("{name:?} is an artifact, which has no root file system");
        return Err(Status::failed_precondition(why));
    }
    Ok(found)
}

/// What begins a message about an image volume: the kubelet looks for it.
const VOLUME: &str = "ImageVolumeMountFailed";

async fn volumes(node: &Node, asked: &[ImageVolume]) -> Result<Vec<VolumeRequest>, Status> {
    let mut requests = Vec::new();
    for ImageVolume { image: name, sub_path, .. } in asked {
        let missing = || {
            let why = format!("{VOLUME}: image {name:?} not found: pull it first");
            Status::not_found(why)
        };
        let image = node.images.find(name).map_err(of_volume)?.ok_or_else(missing)?;
        node.images.admit(&image, &[name]).await.map_err(status::of)?;
        requests.push(VolumeRequest { image: image.id().clone(), sub_path: sub_path.clone() });
    }
    Ok(requests)
}

/// What is wrong with a snapshot; with what begins, if it is a volume.
fn of_volume(error: berth_imageservice::Error) -> Status {
    let is_path = matches!(error, berth_imageservice::Error::BadSubPath { .. });
    let status = status::of(error);
    match is_path {
        true => Status::new(status.code(), format!("{VOLUME}: {}", status.message())),
        false => status,
    }
}

/// The policy may have changed since the image was pulled.
async fn admit(node: &Node, image: &Image, request: &CreateContainerRequest) -> Result<(), Status> {
    let spec = request.config.as_ref().and_then(|config| config.image.clone()).unwrap_or_default();
    let asked = [spec.user_specified_image.as_str(), &spec.image];
    node.images.admit(image, &asked).await.map_err(status::of)
}

/// The container whose processes the new one wants to see.
fn target(node: &Node, request: &CreateContainerRequest) -> Result<Option<Member>, Status> {
    let linux = request.config.as_ref().and_then(|config| config.linux.as_ref());
    let security = linux.and_then(|linux| linux.security_context.as_ref());
    let options = security.and_then(|security| security.namespace_options.as_ref());
    let Some(options) = options.filter(|options| options.pid() == NamespaceMode::Target) else {
        return Ok(None);
    };
    let target = lookup::container(node, &options.target_id)?;
    if target.spec.sandbox != request.pod_sandbox_id {
        return Err(Status::invalid_argument(format!(
            "target container {} is in another pod",
            target.spec.id
        )));
    }
    match target.state() {
        State::Running { pid, .. } => Ok(Some(Member { key: target.spec.id.clone(), pid })),
        state => Err(Status::failed_precondition(format!(
            "target container {} is {}",
            target.spec.id,
            state.name()
        ))),
    }
}
