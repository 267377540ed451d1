//! The pause process: the plan of the small world that it holds.
//!
//! Its root is an empty tmpfs in a mount namespace of its own, so that it keeps no mount of the
//! host busy; `/shm` in it is the `/dev/shm` of the pod, which containers take from there.
//!
//! A pod with a user namespace has all of its namespaces in there: the network's too, which the
//! process makes itself then, so that it is root of the pod who may set up its own network.

use berth_runtime::plan::{
    Capabilities, Enter, FileSystem, Mount, MountSource, Plan, Process, Program, Root, RootSource,
    UserNamespace, Users,
};
use berth_runtime::spec::sysctl;

use crate::error::{Error, InStep as _, Step};
use crate::spec::{NetworkMode, SandboxSpec};

/// Path of the pod's shared memory in the root of its pause process.
pub(crate) const SHM: &str = "/shm";

/// User and group of the process: nobody that an image is likely to know.
const NOBODY: u32 = 65_535;

/// Size of the root: a directory and nothing in it.
const ROOT_BYTES: u64 = 16 << 10;

/// Score of what must not be killed before the pod's own processes.
const OOM_SCORE: i32 = -998;

/// Whether the network namespace is there before the process, and entered by it.
pub(crate) fn enters_network(spec: &SandboxSpec) -> bool {
    spec.network == NetworkMode::Pod && spec.users.is_none()
}

/// Plans the pause process. Handle 0 is the network namespace, if that [is there
/// already](enters_network).
pub(crate) fn plan(spec: &SandboxSpec, attach: &str) -> Result<Plan, Error> {
    let on_host = spec.network == NetworkMode::Host;
    let network = Enter { of: 0, kinds: libc_flag(libc::CLONE_NEWNET) };
    let mut unshare = libc_flag(libc::CLONE_NEWNS);
    if !on_host && !enters_network(spec) {
        unshare |= libc_flag(libc::CLONE_NEWNET);
    }
    if spec.own_ipc {
        unshare |= libc_flag(libc::CLONE_NEWIPC);
    }
    if !on_host {
        unshare |= libc_flag(libc::CLONE_NEWUTS);
    }
    let sysctls = spec.sysctls.iter().map(|(name, value)| sysctl(name, value));
    Ok(Plan {
        enter: if enters_network(spec) { vec![network] } else { Vec::new() },
        unshare,
        hostname: if on_host { String::new() } else { spec.hostname.clone() },
        sysctls: sysctls.collect::<Result<_, _>>().in_step(Step::Pause, &spec.id)?,
        root: Some(Root {
            attach: attach.to_owned(),
            read_only: true,
            source: Some(RootSource::Empty(ROOT_BYTES)),
            ..Root::default()
        }),
        mounts: if spec.own_ipc { vec![shared_memory(spec.shm_bytes)] } else { Vec::new() },
        process: Some(Process {
            uid: NOBODY,
            gid: NOBODY,
            capabilities: Some(Capabilities::default()),
            no_new_privileges: true,
            oom_score_adj: Some(OOM_SCORE),
            oom_score_adj_best_effort: true,
            program: Program::Pause.into(),
            ..Process::default()
        }),
        user: spec.users.map(|users| UserNamespace { users: Some(Users::New(users.maps())) }),
        // Only who is born into it is in a PID namespace that a user namespace owns.
        rebirth: spec.users.map(|_| libc_flag(libc::CLONE_NEWPID)),
        ..Plan::default()
    })
}

fn shared_memory(bytes: u64) -> Mount {
    let options = vec!["mode=1777".to_owned(), format!("size={bytes}")];
    Mount {
        destination: SHM.to_owned(),
        set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC,
        source: Some(MountSource::New(FileSystem {
            kind: "tmpfs".to_owned(),
            source: "shm".to_owned(),
            options,
            label: String::new(),
        })),
        ..Mount::default()
    }
}

/// `CLONE_NEW*` as the plan has them.
fn libc_flag(flag: i32) -> u64 {
    u64::from(flag.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{HostIds, PodName, PodUsers};

    fn spec(network: NetworkMode, users: Option<PodUsers>) -> SandboxSpec {
        SandboxSpec {
            id: "s1".into(),
            pod: PodName { namespace: "n".into(), name: "p".into(), uid: "u".into() },
            hostname: "web".into(),
            network,
            users,
            own_ipc: true,
            own_pid: true,
            cgroup: berth_runtime::cgroup::CgroupPath::parse("/p/s1").unwrap(),
            dns: None,
            sysctls: std::collections::BTreeMap::default(),
            shm_bytes: 1 << 20,
            capabilities: berth_cni::Capabilities::default(),
            created_at: 0,
            origin: Vec::new(),
        }
    }

    #[test]
    fn the_namespaces_of_a_pod_with_users_are_made_in_its_user_namespace() {
        let ids = |first| HostIds { first, count: 65_536 };
        let users = Some(PodUsers { users: ids(131_072), groups: ids(262_144) });
        let network = libc_flag(libc::CLONE_NEWNET);

        let host_users = plan(&spec(NetworkMode::Pod, None), "/a").unwrap();
        assert_eq!((host_users.user, host_users.rebirth), (None, None));
        assert_eq!(host_users.enter, [Enter { of: 0, kinds: network }]);
        assert_eq!(host_users.unshare & network, 0);

        let own = plan(&spec(NetworkMode::Pod, users), "/a").unwrap();
        let Some(Users::New(maps)) = own.user.unwrap().users else { panic!("not new") };
        assert_eq!((maps.users[0].inside, maps.users[0].host), (0, 131_072));
        assert_eq!((maps.groups[0].inside, maps.groups[0].host), (0, 262_144));
        assert_eq!(own.rebirth, Some(libc_flag(libc::CLONE_NEWPID)));
        assert!(own.enter.is_empty());
        assert_eq!(own.unshare & network, network);

        let on_host = plan(&spec(NetworkMode::Host, users), "/a").unwrap();
        assert_eq!(on_host.unshare & network, 0);
        assert!(on_host.user.is_some() && on_host.enter.is_empty());
    }
}
