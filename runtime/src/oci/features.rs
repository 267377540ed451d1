//! `features`: what this runtime can do, as the OCI runtime specification has it (`features.md`).

use serde_json::{Value, json};

use crate::{seccomp, spec};

/// What can be said before any container is there.
pub fn features() -> Value {
    let seccomp = seccomp::known();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": [],
        "mountOptions": spec::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
            "capabilities": spec::known_capabilities(),
            "cgroup": {
                "v1": false,
                "v2": true,
                "systemd": false,
                "systemdUser": false,
                "rdma": true,
            },
            "seccomp": {
                "enabled": true,
                "actions": seccomp.actions,
                "operators": seccomp.operators,
                "archs": seccomp.archs,
                "knownFlags": seccomp.flags,
                "supportedFlags": seccomp.flags,
            },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": false } },
        },
        "annotations": { "org.berth.version": env!("CARGO_PKG_VERSION") },
    })
}
