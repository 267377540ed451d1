//! Where the logs of pods lie that `berth run` makes, and how they end.
//!
//! In the CRI a pod's log directory is its client's: the runtime writes there and never removes
//! anything. The kubelet cleans up after its pods, and we after ours.

use std::fs;
use std::io;
use std::path::{Component, Path};

use crate::api::runtime::{PodSandbox, PodSandboxMetadata};
use crate::output::note;

/// Where the kubelet has the logs of its pods, and log collectors look for them.
const LOGS: &str = "/var/log/pods";

/// The mark of pods whose logs are ours to remove.
pub(crate) fn label() -> (String, String) {
    ("created-by".to_owned(), "berth-run".to_owned())
}

/// Directory for the logs of a pod.
pub(crate) fn directory(metadata: &PodSandboxMetadata) -> String {
    let PodSandboxMetadata { name, uid, namespace, .. } = metadata;
    format!("{LOGS}/{namespace}_{name}_{uid}")
}

/// Removes the logs of a pod that is gone, if it was one of ours. Who may use the sockets may
/// still lack the right to remove logs; the pod is gone all the same.
pub(crate) fn remove(pod: &PodSandbox) {
    let (key, value) = label();
    let Some(metadata) = pod.metadata.as_ref().filter(|_| pod.labels.get(&key) == Some(&value))
    else {
        return;
    };
    let directory = directory(metadata);
    if !is_beneath_logs(&directory) {
        return;
    }
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            note(format!("berth: leaves the logs in {directory}: {error}"));
        }
        _ => {}
    }
}

/// Names of pods come from any client of the daemon: one with a slash names another place.
fn is_beneath_logs(directory: &str) -> bool {
    let below = Path::new(directory).strip_prefix(LOGS).map(|path| path.components());
    below.is_ok_and(|mut parts| {
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(name: &str) -> PodSandboxMetadata {
        PodSandboxMetadata {
            name: name.into(),
            uid: "u1".into(),
            namespace: "berth".into(),
            attempt: 0,
        }
    }

    #[test]
    fn logs_lie_where_the_kubelets_do() {
        assert_eq!(directory(&metadata("web")), "/var/log/pods/berth_web_u1");
    }

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        assert!(is_beneath_logs(&directory(&metadata("web"))));
        for name in ["x/../../../../etc/y", "/", "a/b"] {
            assert!(!is_beneath_logs(&directory(&metadata(name))), "{name:?}");
        }
    }
}
