//! `features`: what this runtime can do, as the OCI runtime specification has it (`features.md`).

use serde_json::{Value, json};

use crate::hooks::Kind;
use crate::{seccomp, spec};

/// What can be said before any container is there.
pub fn features() -> Value {
    let seccomp = seccomp::known();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": Kind::ALL.map(|kind| kind.to_string()),
        "mountOptions": spec::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": spec::known_capabilities(),
            "cgroup": {
                "v1": false,
                "v2": true,
                "systemd": true,
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
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": {
                "modes": [
                    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE",
                ],
                "flags": [
                    "MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES",
                ],
            },
            "netDevices": { "enabled": true },
            "mountExtensions": { "idmap": { "enabled": true } },
        },
        "annotations": { "org.berth.version": env!("CARGO_PKG_VERSION") },
    })
}
