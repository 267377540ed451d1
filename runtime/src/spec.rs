//! From an OCI runtime specification to a [`Plan`]: all decisions, no effects.
//!
//! What this version cannot do is refused here, by name, rather than left out: a container that
//! starts has what its specification says.

mod attributes;
mod devices;
mod hooks;
pub(crate) mod idmaps;
mod json;
mod label;
mod mounts;
mod namespaces;
mod netdevices;
mod numbers;
mod options;
mod process;
mod rdt;
mod root;
mod scheduler;
mod sysctl;
mod validate;

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxResources, Spec};

use crate::error::Error;
use crate::plan::Plan;
use crate::protocol::PidNamespace;
use crate::seccomp;

pub use attributes::initial_cpus;
pub use hooks::{Hooks, about, hooks};
pub use idmaps::parse as id_maps;
pub(crate) use json::drop_unsaid;
pub(crate) use mounts::may_be_below_proc;
pub use netdevices::net_devices;
pub use options::mount_options;
pub use process::{all_capabilities, exec, known_capabilities};
pub(crate) use process::{bounding_set, session_keyring};
pub use rdt::rdt;
pub(crate) use root::source as root_source;
pub(crate) use sysctl::owner as sysctl_owner;
pub use sysctl::sysctl;
pub use validate::{parse, parse_process};

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
    /// The directory that sources of bind mounts may be relative to.
    pub bundle: Option<&'a Path>,
    /// Whether the root is moved over the host's instead of pivoted into.
    pub no_pivot: bool,
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
    let linux = spec.linux().as_ref().ok_or_else(|| refuse("it has no \"linux\" section"))?;
    let mut blueprint = namespaces::plan(linux, around.members)?;
    let plan = &mut blueprint.plan;
    names(plan, spec, linux)?;
    plan.sysctls = sysctl::plan(spec, linux)?;
    plan.root = Some(root::root(spec, linux, around)?);
    plan.mounts = mounts::mounts(spec, linux, around)?;
    root::refuse_ties(plan)?;
    label::dress(plan, linux)?;
    if !mounts::brings_devices(&plan.mounts) {
        plan.devices = devices::devices(linux)?;
        plan.links = devices::links();
    }
    plan.masked = absolute("linux.maskedPaths", linux.masked_paths().as_deref())?;
    plan.read_only = absolute("linux.readonlyPaths", linux.readonly_paths().as_deref())?;
    plan.process = Some(process::process(spec, around)?);
    plan.hooks = hooks::plan(spec, around.env)?;
    idmaps::refuse_unmapped(plan)?;
    Ok(blueprint)
}

/// The resources of a container's cgroup: those of the specification, and the devices that
/// every container may use.
pub fn resources(spec: &Spec) -> LinuxResources {
    let linux = spec.linux().as_ref();
    let mut resources = linux.and_then(|linux| linux.resources().clone()).unwrap_or_default();
    if let Some(mut rules) = resources.devices().clone() {
        rules.extend(devices::default_rules());
        resources.set_devices(Some(rules));
    }
    resources
}

/// As [`resources`], for a specification that says nothing of devices too: it allows no others
/// than the default ones.
pub fn all_resources(spec: &Spec) -> LinuxResources {
    let mut resources = resources(spec);
    if resources.devices().is_none() {
        resources.set_devices(Some(devices::default_rules()));
    }
    resources
}

/// Splits `/proc/PID/MIDDLE/REST` if the PID is a member's.
pub(crate) fn member_of<'p>(
    path: &'p Path,
    middle: &str,
    members: &[Member],
) -> Option<(usize, &'p Path)> {
    let mut parts = path.strip_prefix("/proc").ok()?.components();
    let pid: i32 = parts.next()?.as_os_str().to_str()?.parse().ok()?;
    if parts.next()?.as_os_str() != middle {
        return None;
    }
    let index = members.iter().position(|member| member.pid == pid)?;
    Some((index, parts.as_path()))
}

/// The host's name and that of its NIS domain, which belong to a UTS namespace.
fn names(plan: &mut Plan, spec: &Spec, linux: &Linux) -> Result<(), Error> {
    /// `__NEW_UTS_LEN` of `linux/utsname.h`.
    const LONGEST: usize = 64;
    let own = has(linux, LinuxNamespaceType::Uts);
    for (field, name, planned) in [
        ("hostname", spec.hostname(), &mut plan.hostname),
        ("domainname", spec.domainname(), &mut plan.domainname),
    ] {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else { continue };
        if name.len() > LONGEST {
            let text = format!("is {} bytes long; {LONGEST} is the most", name.len());
            return Err(at(field, text));
        }
        if !own {
            return Err(at(field, "the container has no uts namespace of its own to set it in"));
        }
        name.clone_into(planned);
    }
    Ok(())
}

fn has(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == kind)
}

/// Paths of the container, which must be said in full: relative ones would be ambiguous.
fn absolute(field: &str, paths: Option<&[String]>) -> Result<Vec<String>, Error> {
    for (index, path) in paths.unwrap_or_default().iter().enumerate() {
        if !path.starts_with('/') || path.contains('\0') {
            return Err(refuse(format!("{field}[{index}]: {path:?} is no absolute path")));
        }
    }
    let mut seen = std::collections::HashSet::new();
    let paths = paths.unwrap_or_default().iter();
    Ok(paths.filter(|path| seen.insert(*path)).cloned().collect())
}

/// An absolute path without `.` and `..`, which could otherwise be read in two ways.
fn clean(path: &Path) -> Result<String, Error> {
    let mut clean = String::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                let name = name.to_str().filter(|name| !name.contains('\0'));
                let name = name.ok_or_else(|| refuse(format!("{path:?} is not UTF-8")))?;
                clean.push('/');
                clean.push_str(name);
            }
            _ => return Err(refuse(format!("{path:?} has \"..\" in it"))),
        }
    }
    if clean.is_empty() { Err(refuse(format!("{path:?} is the root"))) } else { Ok(clean) }
}

fn text(path: &Path) -> Result<String, Error> {
    let text = path.to_str().ok_or_else(|| refuse(format!("{path:?} is not UTF-8")))?;
    Ok(text.to_owned())
}

/// Says which field of the specification an error is about.
trait In<T> {
    fn in_field(self, field: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> In<T> for Result<T, Error> {
    fn in_field(self, field: impl FnOnce() -> String) -> Self {
        self.map_err(|error| match error {
            Error::Spec(why) => Error::Spec(format!("{}: {why}", field())),
            other => other,
        })
    }
}

fn refuse(why: impl Into<String>) -> Error {
    Error::Spec(why.into())
}

/// What is wrong with a field, by its name as in `linux.namespaces[0].type`.
fn at(field: impl std::fmt::Display, why: impl std::fmt::Display) -> Error {
    Error::Spec(format!("{field}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    static NO_FILTERS: std::sync::OnceLock<seccomp::Filters> = std::sync::OnceLock::new();

    pub(super) fn around<'a>(rootfs: &'a Rootfs, members: &'a [Member]) -> Surroundings<'a> {
        Surroundings {
            rootfs,
            attach: Path::new("/run/attach"),
            bundle: Some(Path::new("/bundle")),
            no_pivot: false,
            members,
            env: &[],
            oom_score_adj_best_effort: false,
            seccomp: seccomp::Context {
                filters: NO_FILTERS.get_or_init(seccomp::Filters::default),
                by_default: false,
                id: "web",
                bundle: Path::new("/bundle"),
                first: None,
            },
        }
    }

    pub(super) fn planned_around(
        json: &str,
        around: &Surroundings<'_>,
    ) -> Result<Blueprint, Error> {
        plan(&serde_json::from_str(json).unwrap(), around)
    }

    pub(super) fn planned(json: &str, members: &[Member]) -> Result<Blueprint, Error> {
        let rootfs = Rootfs::Overlay {
            lowers: vec!["/l/2/fs".into(), "/l/1/fs".into()],
            upper: "/s/upper".into(),
            work: "/s/work".into(),
        };
        planned_around(json, &around(&rootfs, members))
    }

    pub(super) fn json(linux: &str, rest: &str) -> String {
        format!(
            r#"{{"ociVersion": "1.3.0", "root": {{"path": "rootfs", "readonly": true}},
                "process": {{"user": {{"uid": 1, "gid": 2}}, "args": ["a"], "cwd": "/"}}{rest},
                "linux": {{"namespaces": [{{"type": "mount"}}]{linux}}}}}"#
        )
    }

    #[test]
    fn hidden_paths_are_absolute_and_hidden_once() {
        let linux = r#", "maskedPaths": ["/a", "/b", "/a"]"#;
        assert_eq!(planned(&json(linux, ""), &[]).unwrap().plan.masked, ["/a", "/b"]);
        for field in ["maskedPaths", "readonlyPaths"] {
            let linux = format!(r#", "{field}": ["/a", "./b"]"#);
            let error = planned(&json(&linux, ""), &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("linux.{field}[1]: ")), "{error}");
        }
    }
}
