//! A container, as a CreateContainer describes it.

use std::path::{Component, Path};

use berth_imageservice::{Identity, Image, Prepared, Rootfs};
use berth_runtime::containers::{ContainerSpec, LogPlace};
use berth_runtime::spec::{Member, Rootfs as RuntimeRootfs};
use berth_sandbox::{Home, NetworkMode, PodUsers, SandboxSpec};
use oci_spec::runtime::{
    Capability, Linux, LinuxNamespace, LinuxNamespaceType, Process, Root, Spec, User,
};
use prost::Message as _;
use tonic::Status;

use crate::api::runtime::{
    ContainerConfig, CreateContainerRequest, LinuxContainerSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig,
};
use crate::node::{ContainerOrigin, Handler};

use super::mounts::ImageVolume;
use super::seccomp::{self, Seccomp};
use super::signal::stop_signal;
use super::{
    check_name, devices, identity, invalid, mounts, process, resources, security, unsupported,
    users,
};

/// Version of the OCI runtime specification that our specifications follow.
const OCI_VERSION: &str = "1.3.0";

/// What a container depends on besides its request.
#[derive(Debug)]
pub struct Context<'a> {
    /// Its id.
    pub id: &'a str,
    /// The sandbox that it is for.
    pub sandbox: &'a SandboxSpec,
    /// What the sandbox offers.
    pub home: &'a Home,
    /// What was asked of the pod.
    pub pod: &'a PodSandboxConfig,
    /// Its image.
    pub image: &'a Image,
    /// Which runtime runs it.
    pub handler: &'a Handler,
    /// Capabilities of a container that does not speak of them.
    pub default_capabilities: &'a [Capability],
    /// The file whose seccomp profile takes the place of the built-in one.
    pub seccomp_profile: Option<&'a Path>,
    /// Its AppArmor profile, which is loaded, if it gets one.
    pub apparmor: Option<String>,
    /// The container whose PID namespace is shared, if the request names one.
    pub target: Option<Member>,
    /// The time, in nanoseconds since the epoch.
    pub now: i64,
}

/// A container that can be created once it has a root file system.
#[derive(Debug)]
pub struct Translated {
    /// Its root file system, what is at its images' mounts, and its origin are still to come.
    spec: ContainerSpec,
    /// The images that are mounted into it.
    pub volumes: Vec<ImageVolume>,
}

/// Translates a request.
///
/// # Errors
/// `INVALID_ARGUMENT` or `UNIMPLEMENTED`, with the field.
pub fn translate(
    request: &CreateContainerRequest,
    context: &Context<'_>,
) -> Result<Translated, Status> {
    let config = request.config.as_ref().ok_or_else(|| invalid("config", "is missing"))?;
    let metadata = config.metadata.as_ref();
    check_name("config.metadata.name", metadata.map_or("", |metadata| &metadata.name))?;
    if !config.cdi_devices.is_empty() {
        return Err(unsupported("config.CDI_devices"));
    }
    check_handler(config, context.handler)?;
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    security::check_label(&security)?;
    security::check_privileged(&security, context.pod)?;
    check_users(&security, context.sandbox)?;
    let seccomp = seccomp::of(&security, context.seccomp_profile)?;
    let default_seccomp = seccomp == Seccomp::Default;
    let identity = identity::of(&security, context.image)?;
    check_identity(&identity, context.sandbox)?;
    let hostname = &context.sandbox.hostname;
    let env = process::environment(config, context.image, &identity, hostname)?;
    let mut members = vec![context.home.pause.clone()];
    members.extend(context.target.clone());
    let of_image = context.image.config().config().as_ref();
    let of_image = of_image.and_then(|config| config.stop_signal().clone());
    let parent = context.sandbox.cgroup.parent();
    let cgroup = parent.and_then(|parent| parent.child(context.id));
    let cgroup = cgroup.map_err(|error| invalid("the sandbox's cgroup", error))?;
    let log = log_place(&context.pod.log_directory, &config.log_path)?;
    let stop_signal = stop_signal(config.stop_signal, of_image.as_deref())?;
    let (oci, volumes) = oci(config, &security, &identity, seccomp, context)?;
    let spec = ContainerSpec {
        id: context.id.to_owned(),
        sandbox: context.sandbox.id.clone(),
        default_seccomp,
        oci,
        env,
        rootfs: RuntimeRootfs::Directory("/".into()),
        runtime: context.handler.runtime.clone(),
        cgroup,
        members,
        log,
        stdin: config.stdin,
        stop_signal,
        origin: Vec::new(),
        created_at: context.now,
    };
    Ok(Translated { spec, volumes })
}

/// What not every runtime can do, and some would leave out without a word.
fn check_handler(config: &ContainerConfig, handler: &Handler) -> Result<(), Status> {
    let deep = config.mounts.iter().position(|mount| mount.recursive_read_only);
    match deep {
        Some(index) if !handler.features.recursive_read_only => {
            let (field, name) =
                (format!("config.mounts[{index}].recursive_read_only"), &handler.name);
            let why = format!("{field} is not supported by the runtime handler {name:?}");
            Err(Status::unimplemented(why))
        }
        _ => Ok(()),
    }
}

/// A container is in the user namespace of its pod, with no more rights than that gives.
fn check_users(
    security: &LinuxContainerSecurityContext,
    sandbox: &SandboxSpec,
) -> Result<(), Status> {
    let options = security.namespace_options.as_ref();
    let asked = users::of(options.and_then(|options| options.userns_options.as_ref()))?;
    if asked != sandbox.users {
        return Err(invalid(users::FIELD, "are not those of the container's pod"));
    }
    if asked.is_none() {
        return Ok(());
    }
    if security.privileged {
        let why = "cannot be set for a container with a user namespace";
        return Err(invalid(&format!("{}.privileged", security::FIELD), why));
    }
    match options.map(NamespaceOption::pid) {
        Some(NamespaceMode::Node) => {
            let why = "cannot be NODE for a container with a user namespace";
            Err(invalid(&format!("{}.namespace_options.pid", security::FIELD), why))
        }
        _ => Ok(()),
    }
}

/// A process can only be somebody whom its user namespace knows.
fn check_identity(identity: &Identity, sandbox: &SandboxSpec) -> Result<(), Status> {
    let Some(PodUsers { users, groups }) = sandbox.users else { return Ok(()) };
    let field = |name: &str| format!("{}.{name}", security::FIELD);
    users::check_id(&field("run_as_user (or the image's user)"), identity.uid, users)?;
    users::check_id(&field("run_as_group (or the image's group)"), identity.gid, groups)?;
    let more = field("supplemental_groups (or one of the image's groups)");
    identity.additional_gids.iter().try_for_each(|gid| users::check_id(&more, *gid, groups))
}

impl Translated {
    /// The specification, with what was prepared for it: a root file system, and `prepared.volumes`
    /// for `self.volumes`; and with what the caller wants to find again.
    #[must_use]
    pub fn with_rootfs(self, prepared: &Prepared, origin: &ContainerOrigin) -> ContainerSpec {
        let Self { mut spec, volumes } = self;
        let mut list = spec.oci.mounts().clone().unwrap_or_default();
        for (asked, found) in volumes.iter().zip(&prepared.volumes) {
            let mount = list.iter_mut().find(|mount| *mount.destination() == asked.destination);
            mount.into_iter().for_each(|mount| mounts::fill(mount, &found.lowers));
        }
        spec.oci.set_mounts(Some(list));
        let Rootfs { lowers, upper, work } = prepared.rootfs.clone();
        ContainerSpec {
            rootfs: RuntimeRootfs::Overlay { lowers, upper, work },
            origin: origin.encode_to_vec(),
            ..spec
        }
    }
}

fn oci(
    config: &ContainerConfig,
    security: &LinuxContainerSecurityContext,
    identity: &Identity,
    seccomp: Seccomp,
    context: &Context<'_>,
) -> Result<(Spec, Vec<ImageVolume>), Status> {
    let process = oci_process(config, security, identity, context)?;
    let mut linux = oci_linux(config, security, context)?;
    if let Seccomp::Profile(profile) = seccomp {
        linux.set_seccomp(Some(*profile));
    }
    // Last: it makes missing sources on the host, and a request that is refused makes nothing.
    let mounts = mounts::of(
        &config.mounts,
        &mounts::Context {
            files: &context.home.files,
            shm: context.home.shm.as_deref(),
            users: context.sandbox.users,
            privileged: security.privileged,
            read_only_root: security.readonly_rootfs,
        },
    )?;
    linux.set_rootfs_propagation(mounts.root_propagation);
    let mut root = Root::default();
    root.set_readonly(Some(security.readonly_rootfs));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_hostname(None)
        .set_process(Some(process))
        .set_linux(Some(linux))
        .set_mounts(Some(mounts.list));
    Ok((spec, mounts.volumes))
}

fn oci_process(
    config: &ContainerConfig,
    security: &LinuxContainerSecurityContext,
    identity: &Identity,
    context: &Context<'_>,
) -> Result<Process, Status> {
    let mut user = User::default();
    user.set_uid(identity.uid)
        .set_gid(identity.gid)
        .set_additional_gids(Some(identity.additional_gids.clone()));
    let resources = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let score = resources.map_or(0, |resources| resources.oom_score_adj);
    let field = "config.linux.resources.oom_score_adj";
    let in_range = i32::try_from(score).ok().filter(|score| (-1000..=1000).contains(score));
    let score =
        in_range.ok_or_else(|| invalid(field, format!("{score} is not in -1000..=1000")))?;
    let mut process = Process::default();
    process
        .set_terminal(Some(config.tty))
        .set_user(user)
        .set_args(Some(process::args(config, context.image)?))
        .set_env(None)
        .set_cwd(process::working_directory(config, context.image)?.into())
        .set_capabilities(Some(security::capabilities(security, context.default_capabilities)?))
        .set_rlimits(None)
        .set_apparmor_profile(context.apparmor.clone())
        .set_no_new_privileges(Some(security.no_new_privs && !security.privileged))
        .set_oom_score_adj(Some(score));
    Ok(process)
}

fn oci_linux(
    config: &ContainerConfig,
    security: &LinuxContainerSecurityContext,
    context: &Context<'_>,
) -> Result<Linux, Status> {
    let limits = config.linux.as_ref().and_then(|linux| linux.resources.clone());
    let mut resources = resources::to_oci(&limits.unwrap_or_default())?;
    let (devices, rules) = devices::of(&config.devices, security.privileged)?;
    resources.set_devices(Some(rules));
    let paths = |paths: &[String]| (!security.privileged).then(|| paths.to_vec());
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(security.namespace_options.as_ref(), context)?))
        .set_devices(Some(devices))
        .set_resources(Some(resources))
        .set_masked_paths(paths(&security.masked_paths))
        .set_readonly_paths(paths(&security.readonly_paths));
    Ok(linux)
}

/// A container has mounts and a view of cgroups of its own. The rest it shares with its pod, by
/// way of the pause process; what the pod shares with the host, it does not name.
fn namespaces(
    options: Option<&NamespaceOption>,
    context: &Context<'_>,
) -> Result<Vec<LinuxNamespace>, Status> {
    let pid = context.home.pause.pid;
    let namespace = |kind, path: Option<String>| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(path.map(Into::into));
        namespace
    };
    let of_pod = |kind, name: &str| namespace(kind, Some(format!("/proc/{pid}/ns/{name}")));
    let mut list = vec![
        namespace(LinuxNamespaceType::Mount, None),
        namespace(LinuxNamespaceType::Cgroup, None),
    ];
    if context.sandbox.users.is_some() {
        list.push(of_pod(LinuxNamespaceType::User, "user"));
    }
    if context.sandbox.network == NetworkMode::Pod {
        list.push(of_pod(LinuxNamespaceType::Network, "net"));
        list.push(of_pod(LinuxNamespaceType::Uts, "uts"));
    }
    if context.sandbox.own_ipc {
        list.push(of_pod(LinuxNamespaceType::Ipc, "ipc"));
    }
    let mode = options.map_or(0, |options| options.pid);
    let field = "config.linux.security_context.namespace_options.pid";
    match NamespaceMode::try_from(mode) {
        Err(_) => return Err(invalid(field, format!("{mode} is unknown"))),
        Ok(NamespaceMode::Node) => {}
        Ok(NamespaceMode::Container) => list.push(namespace(LinuxNamespaceType::Pid, None)),
        Ok(NamespaceMode::Pod) if context.sandbox.own_pid => {
            list.push(of_pod(LinuxNamespaceType::Pid, "pid"));
        }
        Ok(NamespaceMode::Pod) => {}
        Ok(NamespaceMode::Target) => {
            let target = context.target.as_ref();
            let target = target.ok_or_else(|| invalid(field, "is TARGET without a target"))?;
            let path = format!("/proc/{}/ns/pid", target.pid);
            list.push(namespace(LinuxNamespaceType::Pid, Some(path)));
        }
    }
    Ok(list)
}

/// A log needs both a directory and a path in it.
fn log_place(directory: &str, path: &str) -> Result<Option<LogPlace>, Status> {
    if directory.is_empty() || path.is_empty() {
        return Ok(None);
    }
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || path.ends_with('/') {
        let why = format!("{path:?} is not a path below the pod's log directory");
        return Err(invalid("config.log_path", why));
    }
    if path.split('/').any(|name| name.len() > 255) || path.len() > 4000 {
        return Err(invalid("config.log_path", "is longer than a path may be"));
    }
    Ok(Some(LogPlace { directory: directory.into(), path: path.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_stay_below_their_directory() {
        assert!(log_place("/logs", "web/0.log").unwrap().is_some());
        assert!(log_place("", "web/0.log").unwrap().is_none());
        assert!(log_place("/logs", "").unwrap().is_none());
        let long = "x".repeat(256);
        for bad in ["../0.log", "/etc/passwd", "a/../../b", "a/", "./a", &long] {
            assert!(log_place("/logs", bad).is_err(), "{bad:?}");
        }
    }
}
