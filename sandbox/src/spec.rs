//! What a sandbox is to be.

use std::collections::BTreeMap;

use berth_cni::Capabilities;
use berth_runtime::cgroup::CgroupPath;
use berth_runtime::plan::{IdMaps, IdRange};
use serde::{Deserialize, Serialize};

/// A sandbox to run, and what is recorded of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// The pod that it is for.
    pub pod: PodName,
    /// Host name; ignored on the host's network, whose UTS namespace the pod shares.
    pub hostname: String,
    /// Which network it is on.
    pub network: NetworkMode,
    /// The user namespace that owns its other namespaces; the host's if absent.
    #[serde(default)]
    pub users: Option<PodUsers>,
    /// Whether it has an IPC namespace of its own.
    pub own_ipc: bool,
    /// Whether its pause process has a PID namespace of its own.
    pub own_pid: bool,
    /// Cgroup of the pause process, in the pod's.
    pub cgroup: CgroupPath,
    /// What `/etc/resolv.conf` says; a copy of the host's if absent.
    pub dns: Option<Dns>,
    /// Kernel parameters of its namespaces, by their dotted names.
    pub sysctls: BTreeMap<String, String>,
    /// Size of `/dev/shm` in bytes.
    pub shm_bytes: u64,
    /// What the pod wants of its network: port mappings, bandwidth and so on.
    pub capabilities: Capabilities,
    /// When it was created, in nanoseconds since the epoch.
    pub created_at: i64,
    /// Whatever the caller wants to find again.
    #[serde(with = "origin")]
    pub origin: Vec<u8>,
}

/// Whom of the host the users and the groups are of a pod with a user namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodUsers {
    /// Users.
    pub users: HostIds,
    /// Groups.
    pub groups: HostIds,
}

/// A range of the host's ids, which are those from 0 on in the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostIds {
    /// The pod's 0.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl PodUsers {
    /// As plans have it.
    pub fn maps(self) -> IdMaps {
        let ranges = |ids: HostIds| vec![IdRange { inside: 0, host: ids.first, size: ids.count }];
        IdMaps { users: ranges(self.users), groups: ranges(self.groups) }
    }
}

/// The pod that a sandbox is for, as network plugins know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Unique id of the pod.
    pub uid: String,
}

/// Which network a sandbox is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A network namespace of its own, on the node's pod network.
    Pod,
    /// The host's.
    Host,
}

/// Settings of the resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options, as in `resolv.conf(5)`.
    pub options: Vec<String>,
}

/// Bytes as base64, so that a record stays text.
mod origin {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}
