//! The pause process: the plan of the small world that it holds.
//!
//! Its root is an empty tmpfs in a mount namespace of its own, so that it keeps no mount of the
//! host busy; `/shm` in it is the `/dev/shm` of the pod, which containers take from there.

use berth_runtime::plan::{
    Capabilities, Enter, FileSystem, Mount, MountSource, Plan, Process, Program, Root, RootSource,
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

/// Plans the pause process. Handle 0 is the network namespace, unless the pod is on the host's.
pub(crate) fn plan(spec: &SandboxSpec, attach: &str) -> Result<Plan, Error> {
    let on_host = spec.network == NetworkMode::Host;
    let network = Enter { of: 0, kinds: libc_flag(libc::CLONE_NEWNET) };
    let mut unshare = libc_flag(libc::CLONE_NEWNS);
    if spec.own_ipc {
        unshare |= libc_flag(libc::CLONE_NEWIPC);
    }
    if !on_host {
        unshare |= libc_flag(libc::CLONE_NEWUTS);
    }
    let sysctls = spec.sysctls.iter().map(|(name, value)| sysctl(name, value));
    Ok(Plan {
        enter: if on_host { Vec::new() } else { vec![network] },
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
        })),
        ..Mount::default()
    }
}

/// `CLONE_NEW*` as the plan has them.
fn libc_flag(flag: i32) -> u64 {
    u64::from(flag.unsigned_abs())
}
