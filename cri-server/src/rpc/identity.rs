//! When are two requests the same? Keys and fingerprints of creations.
//!
//! The kubelet repeats a request whose answer it did not get, and builds it
//! anew each time. Two parts of a CreateContainer come out differently then
//! although nothing was changed: the environment of services comes out of a
//! hash table, in any order, and the termination log gets a file with a random
//! name, created for this try. A retry must join nevertheless, so a
//! fingerprint does not see them.

use tonic::Status;

use crate::api::runtime::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, PodSandboxMetadata,
    RunPodSandboxRequest,
};
use crate::ops::{Fingerprint, Key};

/// Annotation that names the container's path of the termination log. After
/// the exit the kubelet finds the host's side by this path in the mounts that
/// ContainerStatus reports, so the file of the first try serves all.
const TERMINATION_LOG: &str = "io.kubernetes.container.terminationMessagePath";

/// Key of the RunPodSandbox that makes, or made, the sandbox.
#[must_use]
pub fn sandbox_key(metadata: &PodSandboxMetadata) -> Key {
    let PodSandboxMetadata { name, uid, namespace, attempt } = metadata;
    Key::new("RunPodSandbox", format!("{namespace}/{name} (uid {uid}, attempt {attempt})"))
}

/// Key of the CreateContainer that makes, or made, the container.
#[must_use]
pub fn container_key(sandbox_id: &str, metadata: &ContainerMetadata) -> Key {
    let ContainerMetadata { name, attempt } = metadata;
    Key::new("CreateContainer", format!("{name} in {sandbox_id} (attempt {attempt})"))
}

/// Key and fingerprint of a RunPodSandbox.
///
/// # Errors
/// `INVALID_ARGUMENT` when the request does not say who the pod is.
pub fn of_sandbox(request: &RunPodSandboxRequest) -> Result<(Key, Fingerprint), Status> {
    let metadata = request.config.as_ref().and_then(|config| config.metadata.as_ref());
    let metadata = metadata.ok_or_else(|| missing("config.metadata"))?;
    for (field, value) in [
        ("config.metadata.name", &metadata.name),
        ("config.metadata.uid", &metadata.uid),
        ("config.metadata.namespace", &metadata.namespace),
    ] {
        if value.is_empty() {
            return Err(missing(field));
        }
    }
    Ok((sandbox_key(metadata), Fingerprint::of(request)))
}

/// Key and fingerprint of a CreateContainer.
///
/// # Errors
/// `INVALID_ARGUMENT` when the request does not say which container it is.
pub fn of_container(request: &CreateContainerRequest) -> Result<(Key, Fingerprint), Status> {
    if request.pod_sandbox_id.is_empty() {
        return Err(missing("pod_sandbox_id"));
    }
    let config = request.config.as_ref().ok_or_else(|| missing("config"))?;
    let metadata = config.metadata.as_ref().filter(|metadata| !metadata.name.is_empty());
    let metadata = metadata.ok_or_else(|| missing("config.metadata.name"))?;
    // `sandbox_config` repeats what the sandbox was made with.
    let fingerprint = Fingerprint::of(&CreateContainerRequest {
        pod_sandbox_id: request.pod_sandbox_id.clone(),
        config: Some(as_intended(config.clone())),
        sandbox_config: None,
    });
    Ok((container_key(&request.pod_sandbox_id, metadata), fingerprint))
}

/// The configuration without what differs between two tries.
fn as_intended(mut config: ContainerConfig) -> ContainerConfig {
    // Stable: of two variables with one name the later one counts.
    config.envs.sort_by(|a, b| a.key.cmp(&b.key));
    if let Some(path) = config.annotations.get(TERMINATION_LOG) {
        for mount in config.mounts.iter_mut().filter(|mount| mount.container_path == *path) {
            mount.host_path.clear();
        }
    }
    config
}

fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("{field} is missing"))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::api::runtime::{KeyValue, Mount, PodSandboxConfig};

    fn sandbox() -> RunPodSandboxRequest {
        let metadata = PodSandboxMetadata {
            name: "web".into(),
            uid: "u-1".into(),
            namespace: "default".into(),
            attempt: 2,
        };
        let config = PodSandboxConfig { metadata: Some(metadata), ..Default::default() };
        RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() }
    }

    fn container(change: impl FnOnce(&mut ContainerConfig)) -> CreateContainerRequest {
        let env = |key: &str, value: &'static str| KeyValue {
            key: key.into(),
            value: value.as_bytes().into(),
        };
        let mount = |host: &str, container: &str| Mount {
            host_path: host.into(),
            container_path: container.into(),
            ..Default::default()
        };
        let mut config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "app".into(), attempt: 0 }),
            envs: vec![env("A", "1"), env("B", "2"), env("B", "3")],
            mounts: vec![mount("/data", "/data"), mount("/pods/1/app/0a", "/dev/termination-log")],
            ..Default::default()
        };
        config.annotations.insert(TERMINATION_LOG.into(), "/dev/termination-log".into());
        change(&mut config);
        CreateContainerRequest {
            pod_sandbox_id: "s1".into(),
            config: Some(config),
            sandbox_config: None,
        }
    }

    fn fingerprint(change: impl FnOnce(&mut ContainerConfig)) -> Fingerprint {
        of_container(&container(change)).unwrap().1
    }

    #[test]
    fn keys_name_the_object_as_a_person_knows_it() {
        assert_eq!(
            of_sandbox(&sandbox()).unwrap().0.to_string(),
            "RunPodSandbox default/web (uid u-1, attempt 2)"
        );
        assert_eq!(
            of_container(&container(|_| ())).unwrap().0.to_string(),
            "CreateContainer app in s1 (attempt 0)"
        );
    }

    #[test]
    fn a_request_that_the_kubelet_builds_anew_is_the_same() {
        let same = fingerprint(|_| ());

        assert_eq!(same, fingerprint(|config| config.envs.rotate_right(2)), "B=2, B=3, A=1");
        assert_eq!(
            same,
            fingerprint(|config| config.mounts[1].host_path = "/pods/1/app/0b".into())
        );
    }

    #[test]
    fn a_request_for_something_else_is_another() {
        let same = fingerprint(|_| ());

        assert_ne!(same, fingerprint(|config| config.command.push("sh".into())));
        assert_ne!(same, fingerprint(|config| config.mounts[0].host_path = "/other".into()));
        assert_ne!(same, fingerprint(|config| config.envs.swap(1, 2)), "B is 2 then");
    }

    #[test]
    fn a_request_without_a_name_is_refused_and_told_what_it_misses() {
        let mut request = sandbox();
        request.config.as_mut().unwrap().metadata.as_mut().unwrap().uid.clear();

        let status = of_sandbox(&request).unwrap_err();

        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "config.metadata.uid is missing");
        assert!(of_sandbox(&RunPodSandboxRequest::default()).is_err());
        assert!(of_container(&CreateContainerRequest::default()).is_err());
    }
}
