//! From options to the pod and the container that berthd is asked for. Nothing is asked here.

use std::ffi::OsString;
use std::path::Path;

use super::identity::Identity;
use super::options::{Network, Run};
use crate::api::runtime::{
    Capability, ContainerConfig, ContainerMetadata, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};
use crate::exit::Failure;
use crate::pod_logs;
use crate::units::cpus;

use super::variable::Variable;

/// Namespace of pods that a person runs, so that they are told from those of Kubernetes.
pub(crate) const NAMESPACE: &str = "berth";

/// What an unprivileged container does not see of the kernel, as other engines have it.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What an unprivileged container cannot change of the kernel, as other engines have it.
const READ_ONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A pod with a container in it.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    /// The pod.
    pub(crate) pod: PodSandboxConfig,
    /// The container, which does not name its image yet.
    pub(crate) container: ContainerConfig,
}

/// What a plan depends on besides its options.
pub(crate) struct Surroundings<'a> {
    /// Who the pod is.
    pub(crate) identity: Identity,
    /// Variables from files, which those of options follow.
    pub(crate) from_files: Vec<Variable>,
    /// Where relative paths begin.
    pub(crate) directory: &'a Path,
    /// The environment that variables without a value are taken from.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<OsString>,
}

/// Turns options into a plan.
///
/// # Errors
/// [`Failure::usage`] for options that contradict each other.
pub(crate) fn plan(options: &Run, around: &Surroundings<'_>) -> Result<Plan, Failure> {
    check(options)?;
    Ok(Plan { pod: pod(options, &around.identity), container: container(options, around)? })
}

fn check(options: &Run) -> Result<(), Failure> {
    let on_host = options.network == Network::Host;
    if on_host && !options.publish.is_empty() {
        return Err(Failure::usage(
            "--publish makes no sense with --network host: all ports are there",
        ));
    }
    if on_host && options.hostname.is_some() {
        return Err(Failure::usage(
            "--hostname cannot be set with --network host: it is the node's",
        ));
    }
    if options.entrypoint.as_deref() == Some("") && options.words.len() < 2 {
        return Err(Failure::usage("--entrypoint \"\" needs a command after the image"));
    }
    Ok(())
}

fn pod(options: &Run, identity: &Identity) -> PodSandboxConfig {
    let metadata = PodSandboxMetadata {
        name: identity.name.clone(),
        uid: identity.uid.clone(),
        namespace: NAMESPACE.to_owned(),
        attempt: 0,
    };
    let hostname = match options.network {
        Network::Host => String::new(),
        Network::Pod => options.hostname.clone().unwrap_or(identity.name.clone()),
    };
    PodSandboxConfig {
        log_directory: pod_logs::directory(&metadata),
        metadata: Some(metadata),
        hostname,
        port_mappings: options.publish.iter().map(|publish| publish.mapping()).collect(),
        labels: [pod_logs::label()].into(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(options)),
                privileged: options.privileged,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn namespaces(options: &Run) -> NamespaceOption {
    let network = match options.network {
        Network::Pod => NamespaceMode::Pod,
        Network::Host => NamespaceMode::Node,
    };
    NamespaceOption {
        network: network.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

fn container(options: &Run, around: &Surroundings<'_>) -> Result<ContainerConfig, Failure> {
    let (command, args) = command(options);
    let metadata = ContainerMetadata { name: around.identity.name.clone(), attempt: 0 };
    let variables = around.from_files.iter().chain(&options.env);
    let envs = variables.filter_map(|v| v.key_value(around.environment).transpose());
    Ok(ContainerConfig {
        log_path: format!("{}/0.log", metadata.name),
        metadata: Some(metadata),
        command,
        args,
        working_dir: options.workdir.clone().unwrap_or_default(),
        envs: envs.collect::<Result<_, _>>().map_err(Failure::usage)?,
        mounts: options.volume.iter().map(|bind| bind.mount(around.directory)).collect(),
        labels: [pod_logs::label()].into(),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources(options)),
            security_context: Some(security(options)),
        }),
        ..Default::default()
    })
}

/// Command and arguments. Where there is a command, the image's arguments do not count.
fn command(options: &Run) -> (Vec<String>, Vec<String>) {
    let words = options.words[1..].to_vec();
    match options.entrypoint.as_deref() {
        None => (Vec::new(), words),
        Some("") => (words, Vec::new()),
        Some(program) => (vec![program.to_owned()], words),
    }
}

fn resources(options: &Run) -> LinuxContainerResources {
    let memory = options.memory.map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    LinuxContainerResources {
        memory_limit_in_bytes: memory,
        // Memory and swap together.
        memory_swap_limit_in_bytes: memory,
        cpu_period: options.cpus.map_or(0, |_| cpus::PERIOD),
        cpu_quota: options.cpus.unwrap_or(0),
        ..Default::default()
    }
}

fn security(options: &Run) -> LinuxContainerSecurityContext {
    let paths = |paths: &[&str]| match options.privileged {
        true => Vec::new(),
        false => paths.iter().map(|path| (*path).to_owned()).collect(),
    };
    let mut security = LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: options.cap_add.clone(),
            drop_capabilities: options.cap_drop.clone(),
            ..Default::default()
        }),
        privileged: options.privileged,
        namespace_options: Some(namespaces(options)),
        readonly_rootfs: options.read_only,
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READ_ONLY_PATHS),
        ..Default::default()
    };
    if let Some(user) = &options.user {
        user.apply(&mut security);
    }
    security
}
