//! Objects as CRI shows them.

use berth_imageservice::Images;
use berth_runtime::containers::{Container, State};
use berth_sandbox::Sandbox;

use crate::api::runtime::{
    Container as CriContainer, ContainerResources, ContainerState, ContainerStatus, ContainerUser,
    LinuxContainerUser, LinuxPodSandboxStatus, Namespace, PodIp, PodSandbox,
    PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus,
};
use crate::node::{ContainerOrigin, SandboxOrigin};
use crate::translate::signal;

/// State of a sandbox.
pub(crate) fn sandbox_state(sandbox: &Sandbox) -> PodSandboxState {
    if sandbox.state().ready {
        PodSandboxState::SandboxReady
    } else {
        PodSandboxState::SandboxNotready
    }
}

/// A sandbox in a list.
pub(crate) fn sandbox(sandbox: &Sandbox) -> PodSandbox {
    let request = SandboxOrigin::of(&sandbox.spec.origin);
    let config = request.config.unwrap_or_default();
    PodSandbox {
        id: sandbox.spec.id.clone(),
        metadata: config.metadata,
        state: sandbox_state(sandbox).into(),
        created_at: sandbox.spec.created_at,
        labels: config.labels,
        annotations: config.annotations,
        runtime_handler: request.runtime_handler,
    }
}

/// A sandbox by itself.
pub(crate) fn sandbox_status(sandbox: &Sandbox) -> PodSandboxStatus {
    let request = SandboxOrigin::of(&sandbox.spec.origin);
    let config = request.config.unwrap_or_default();
    let security = config.linux.and_then(|linux| linux.security_context);
    let options = security.and_then(|security| security.namespace_options).unwrap_or_default();
    let mut ips = sandbox.state().ips.into_iter().map(|ip| ip.to_string());
    let network = PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| PodIp { ip }).collect(),
    };
    PodSandboxStatus {
        id: sandbox.spec.id.clone(),
        metadata: config.metadata,
        state: sandbox_state(sandbox).into(),
        created_at: sandbox.spec.created_at,
        network: Some(network),
        linux: Some(LinuxPodSandboxStatus {
            namespaces: Some(Namespace { options: Some(options) }),
        }),
        labels: config.labels,
        annotations: config.annotations,
        runtime_handler: request.runtime_handler,
    }
}

/// State of a container.
pub(crate) fn container_state(container: &Container) -> ContainerState {
    match container.state() {
        State::Created => ContainerState::ContainerCreated,
        State::Running { .. } => ContainerState::ContainerRunning,
        State::Exited(_) => ContainerState::ContainerExited,
    }
}

/// A container in a list.
pub(crate) fn container(container: &Container) -> CriContainer {
    let (config, image_id) = ContainerOrigin::config(&container.spec.origin);
    CriContainer {
        id: container.spec.id.clone(),
        pod_sandbox_id: container.spec.sandbox.clone(),
        metadata: config.metadata,
        image: config.image,
        image_ref: image_id.clone(),
        state: container_state(container).into(),
        created_at: container.spec.created_at,
        labels: config.labels,
        annotations: config.annotations,
        image_id,
    }
}

/// A container by itself.
///
/// People read `image` and `image_ref` as those of the pod's status: a name and a digest that
/// they can pull by, also where the kubelet has created the container by the image's id.
pub(crate) fn container_status(container: &Container, images: &Images) -> ContainerStatus {
    let (config, image_id) = ContainerOrigin::config(&container.spec.origin);
    // Its names may be gone, also while containers run from it.
    let known = images.find(&image_id).ok().flatten();
    let digest = known.as_ref().and_then(|image| image.repo_digests().first().cloned());
    let tag = known.as_ref().and_then(|image| image.repo_tags().first().cloned());
    let mut image = config.image.unwrap_or_default();
    if let Some(tag) = tag.filter(|_| image.image == image_id) {
        image.image = tag;
    }
    let spec = &container.spec;
    let log_path = spec.log.as_ref().map(|log| log.directory.join(&log.path));
    let updated = ContainerOrigin::whole(&container.origin()).resources;
    let linux = updated.or_else(|| config.linux.and_then(|linux| linux.resources));
    let mut status = ContainerStatus {
        id: spec.id.clone(),
        metadata: config.metadata,
        state: container_state(container).into(),
        created_at: spec.created_at,
        image: Some(image),
        image_ref: digest.unwrap_or_else(|| image_id.clone()),
        labels: config.labels,
        annotations: config.annotations,
        mounts: config.mounts,
        log_path: log_path.map(|path| path.display().to_string()).unwrap_or_default(),
        resources: linux.map(|linux| ContainerResources { linux: Some(linux), windows: None }),
        image_id,
        user: user(container),
        stop_signal: signal::to_cri(spec.stop_signal).into(),
        ..ContainerStatus::default()
    };
    match container.state() {
        State::Created => {}
        State::Running { started_at, .. } => status.started_at = started_at,
        State::Exited(exited) => {
            status.started_at = exited.started_at;
            status.finished_at = exited.finished_at;
            status.exit_code = exited.code;
            status.reason = exited.reason().to_owned();
            status.message = exited.message;
        }
    }
    status
}

fn user(container: &Container) -> Option<ContainerUser> {
    let process = container.spec.oci.process().as_ref()?;
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().map(|gid| i64::from(*gid));
    Some(ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: i64::from(user.uid()),
            gid: i64::from(user.gid()),
            supplemental_groups: groups.collect(),
        }),
    })
}
