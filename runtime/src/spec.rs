//! From an OCI runtime specification to a [`Plan`]: all decisions, no effects.
//!
//! What this version cannot do is refused here, by name, rather than left out: a container that
//! starts has what its specification says.

mod filesystem;
mod options;
mod process;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxResources, Spec};

use crate::error::Error;
use crate::plan::{Enter, Handle, Plan};
use crate::protocol::PidNamespace;
use crate::seccomp;

pub use options::mount_options;
pub(crate) use process::bounding_set;
pub use process::{all_capabilities, exec, known_capabilities, sysctl};

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// An overlay of layers.
    Overlay {
        /// Read-only layers, the topmost first.
        lowers: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Scratch space of the kernel.
        work: PathBuf,
    },
    /// A directory.
    Directory(PathBuf),
}

/// A process of the pod that the specification may refer to.
///
/// Where the specification names a namespace or a mount below `/proc/PID`, and the PID is that
/// of a member, the shim's own descriptor of that process is used: a PID that has been given to
/// another process in the meantime is never entered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// Its key in the shim.
    pub key: String,
    /// Its PID.
    pub pid: i32,
}

/// What surrounds the specification.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// The root file system.
    pub rootfs: &'a Rootfs,
    /// An existing directory where roots are attached, each in its own mount namespace.
    pub attach: &'a Path,
    /// Processes of the pod, in the order of their handles.
    pub members: &'a [Member],
    /// The environment, byte for byte; it takes the place of the specification's.
    pub env: &'a [Vec<u8>],
    /// Whether a host that cannot lower `oom_score_adj` is put up with.
    pub oom_score_adj_best_effort: bool,
    /// What a filter of system calls is for.
    pub seccomp: seccomp::Context<'a>,
}

/// A plan, and what the request for it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// What the child executes.
    pub plan: Plan,
    /// Which PID namespace it is born in.
    pub pid_namespace: PidNamespace,
    /// Namespace files to open; their handles follow those of the members, in this order.
    pub open: Vec<PathBuf>,
}

/// Plans a container's first process.
///
/// # Errors
/// [`Error::Spec`] if the specification is contradictory or asks for what is not supported.
pub fn plan(spec: &Spec, around: &Surroundings<'_>) -> Result<Blueprint, Error> {
    refuse_unsupported(spec)?;
    let linux = spec.linux().as_ref().ok_or_else(|| refuse("it has no \"linux\" section"))?;
    let mut blueprint = plan_namespaces(linux, around.members)?;
    let plan = &mut blueprint.plan;
    plan.hostname = spec.hostname().clone().unwrap_or_default();
    plan.sysctls = process::sysctls(linux)?;
    plan.root = Some(filesystem::root(spec, linux, around)?);
    plan.mounts = filesystem::mounts(spec, around.members)?;
    plan.devices = filesystem::devices(linux)?;
    plan.links = filesystem::links();
    plan.masked = linux.masked_paths().clone().unwrap_or_default();
    plan.read_only = linux.readonly_paths().clone().unwrap_or_default();
    plan.process = Some(process::process(spec, around)?);
    Ok(blueprint)
}

/// The resources of a container's cgroup: those of the specification, and the devices that
/// every container may use.
pub fn resources(spec: &Spec) -> LinuxResources {
    let linux = spec.linux().as_ref();
    let mut resources = linux.and_then(|linux| linux.resources().clone()).unwrap_or_default();
    if let Some(mut rules) = resources.devices().clone() {
        rules.extend(filesystem::default_device_rules());
        resources.set_devices(Some(rules));
    }
    resources
}

/// As [`resources`], for a specification that says nothing of devices too: it allows no others
/// than the default ones.
pub fn all_resources(spec: &Spec) -> LinuxResources {
    let mut resources = resources(spec);
    if resources.devices().is_none() {
        resources.set_devices(Some(filesystem::default_device_rules()));
    }
    resources
}

fn plan_namespaces(linux: &Linux, members: &[Member]) -> Result<Blueprint, Error> {
    let mut blueprint = Blueprint {
        plan: Plan::default(),
        pid_namespace: PidNamespace::Host(true),
        open: Vec::new(),
    };
    for namespace in linux.namespaces().iter().flatten() {
        let kind = namespace.typ();
        let bit = kind as u64;
        match (kind, namespace.path()) {
            (LinuxNamespaceType::User | LinuxNamespaceType::Time, _) => {
                return Err(refuse(format!("{kind} namespaces are not supported by this version")));
            }
            (LinuxNamespaceType::Mount, Some(_)) => {
                return Err(refuse("a mount namespace cannot be shared"));
            }
            (LinuxNamespaceType::Pid, None) => blueprint.pid_namespace = PidNamespace::New(true),
            (_, None) => blueprint.plan.unshare |= bit,
            (LinuxNamespaceType::Pid, Some(path)) => {
                let handle = handle_of(path, members, &mut blueprint.open);
                blueprint.pid_namespace = PidNamespace::Of(handle);
            }
            (_, Some(path)) => {
                let of = handle_of(path, members, &mut blueprint.open);
                enter(&mut blueprint.plan.enter, of, bit);
            }
        }
    }
    if blueprint.plan.unshare & LinuxNamespaceType::Mount as u64 == 0 {
        return Err(refuse("a container needs a mount namespace of its own"));
    }
    Ok(blueprint)
}

/// Adds to what is entered; several namespaces of one process are entered in one call.
fn enter(list: &mut Vec<Enter>, of: Handle, bit: u64) {
    match list.iter_mut().find(|enter| enter.of == of) {
        Some(enter) => enter.kinds |= bit,
        None => list.push(Enter { of, kinds: bit }),
    }
}

/// The handle of the process or the file behind a namespace's path.
fn handle_of(path: &Path, members: &[Member], open: &mut Vec<PathBuf>) -> Handle {
    let index = member_of(path, "ns", members).map_or_else(
        || {
            open.push(path.to_owned());
            members.len() + open.len() - 1
        },
        |(index, _)| index,
    );
    Handle::try_from(index).unwrap_or(Handle::MAX)
}

/// Splits `/proc/PID/MIDDLE/REST` if the PID is a member's.
fn member_of<'p>(path: &'p Path, middle: &str, members: &[Member]) -> Option<(usize, &'p Path)> {
    let mut parts = path.strip_prefix("/proc").ok()?.components();
    let pid: i32 = parts.next()?.as_os_str().to_str()?.parse().ok()?;
    if parts.next()?.as_os_str() != middle {
        return None;
    }
    let index = members.iter().position(|member| member.pid == pid)?;
    Some((index, parts.as_path()))
}

fn refuse_unsupported(spec: &Spec) -> Result<(), Error> {
    let linux = spec.linux().as_ref();
    let process = spec.process().as_ref();
    let unsupported = [
        ("hooks", spec.hooks().is_some()),
        ("id mappings", linux.is_some_and(|linux| linux.uid_mappings().is_some())),
        ("net devices", linux.is_some_and(|linux| linux.net_devices().is_some())),
        ("intelRdt", linux.is_some_and(|linux| linux.intel_rdt().is_some())),
        ("memory policies", linux.is_some_and(|linux| linux.memory_policy().is_some())),
        ("personality", linux.is_some_and(|linux| linux.personality().is_some())),
        ("AppArmor profiles", process.is_some_and(|process| process.apparmor_profile().is_some())),
        ("SELinux labels", process.is_some_and(|process| process.selinux_label().is_some())),
        ("schedulers", process.is_some_and(|process| process.scheduler().is_some())),
        ("I/O priorities", process.is_some_and(|process| process.io_priority().is_some())),
    ];
    match unsupported.iter().find(|(_, present)| *present) {
        Some((what, _)) => Err(refuse(format!("{what} are not supported by this version"))),
        None => Ok(()),
    }
}

fn refuse(why: impl Into<String>) -> Error {
    Error::Spec(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const CLONE_NEWNS: u64 = 0x0002_0000;
    const CLONE_NEWUTS: u64 = 0x0400_0000;
    const CLONE_NEWIPC: u64 = 0x0800_0000;
    const CLONE_NEWNET: u64 = 0x4000_0000;

    pub(super) fn planned(json: &str, members: &[Member]) -> Result<Blueprint, Error> {
        let spec: Spec = serde_json::from_str(json).unwrap();
        let rootfs = Rootfs::Overlay {
            lowers: vec!["/l/2/fs".into(), "/l/1/fs".into()],
            upper: "/s/upper".into(),
            work: "/s/work".into(),
        };
        let around = Surroundings {
            rootfs: &rootfs,
            attach: Path::new("/run/attach"),
            members,
            env: &[],
            oom_score_adj_best_effort: false,
            seccomp: seccomp::Context {
                filters: &seccomp::Filters::default(),
                by_default: false,
                id: "web",
                bundle: Path::new("/bundle"),
                first: None,
            },
        };
        plan(&spec, &around)
    }

    pub(super) fn json(linux: &str, rest: &str) -> String {
        format!(
            r#"{{"ociVersion": "1.3.0", "root": {{"path": "rootfs", "readonly": true}},
                "process": {{"user": {{"uid": 1, "gid": 2}}, "args": ["a"], "cwd": "/"}}{rest},
                "linux": {{"namespaces": [{{"type": "mount"}}]{linux}}}}}"#
        )
    }

    fn with_namespaces(list: &str, members: &[Member]) -> Result<Blueprint, Error> {
        let text = json("", "").replace(r#"{"type": "mount"}"#, list);
        planned(&text, members)
    }

    #[test]
    fn namespaces_of_a_member_are_entered_by_its_handle_at_once() {
        let pause = Member { key: "pause".to_owned(), pid: 42 };
        let list = r#"{"type": "mount"}, {"type": "ipc", "path": "/proc/42/ns/ipc"},
            {"type": "uts", "path": "/proc/42/ns/uts"}, {"type": "pid", "path": "/proc/42/ns/pid"},
            {"type": "network", "path": "/run/netns/x"}"#;
        let blueprint = with_namespaces(list, &[pause]).unwrap();
        assert_eq!(blueprint.plan.unshare, CLONE_NEWNS);
        let of_pause = Enter { of: 0, kinds: CLONE_NEWIPC | CLONE_NEWUTS };
        let of_file = Enter { of: 1, kinds: CLONE_NEWNET };
        assert_eq!(blueprint.plan.enter, [of_pause, of_file]);
        assert_eq!(blueprint.pid_namespace, PidNamespace::Of(0));
        assert_eq!(blueprint.open, [PathBuf::from("/run/netns/x")]);
    }

    #[test]
    fn a_pid_that_is_no_members_is_a_file_to_open() {
        let list = r#"{"type": "mount"}, {"type": "ipc", "path": "/proc/43/ns/ipc"}"#;
        let blueprint = with_namespaces(list, &[]).unwrap();
        assert_eq!(blueprint.open, [PathBuf::from("/proc/43/ns/ipc")]);
        assert_eq!(blueprint.plan.enter, [Enter { of: 0, kinds: CLONE_NEWIPC }]);
    }

    #[test]
    fn namespaces_without_a_path_are_new() {
        let list = r#"{"type": "mount"}, {"type": "pid"}, {"type": "network"}"#;
        let blueprint = with_namespaces(list, &[]).unwrap();
        assert_eq!(blueprint.plan.unshare, CLONE_NEWNS | CLONE_NEWNET);
        assert_eq!(blueprint.pid_namespace, PidNamespace::New(true));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (linux, rest, word) in
            [(r#", "intelRdt": {}"#, "", "intelRdt"), ("", r#", "hooks": {}"#, "hooks")]
        {
            let error = planned(&json(linux, rest), &[]).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let user = with_namespaces(r#"{"type": "mount"}, {"type": "user"}"#, &[]);
        assert!(user.unwrap_err().to_string().contains("user namespaces"));
        assert!(with_namespaces(r#"{"type": "pid"}"#, &[]).is_err());
    }
}
