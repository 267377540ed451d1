//! A sandbox, as a RunPodSandbox describes it.

use std::path::Path;

use berth_runtime::cgroup::CgroupPath;
use berth_runtime::cgroup::systemd::{Unit, slice_path};
use berth_sandbox::{Dns, NetworkMode, PodName, PodUsers, SandboxSpec};
use prost::Message as _;
use tonic::Status;

use crate::api::runtime::{
    DnsConfig, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, RunPodSandboxRequest,
};

use crate::config::CgroupDriver;

use super::{check_name, invalid, network, sysctls, unsupported, users};

/// Size of a pod's `/dev/shm`, as everywhere in the field.
const SHM_BYTES: u64 = 64 << 20;

/// Longest host name that the kernel takes (`HOST_NAME_MAX`).
const HOSTNAME_MAX: usize = 64;

/// What a sandbox depends on besides its request.
#[derive(Debug)]
pub struct Context<'a> {
    /// Its id.
    pub id: &'a str,
    /// The host's name, for pods that bring none.
    pub hostname: &'a str,
    /// Names of the configured runtime handlers.
    pub handlers: &'a [String],
    /// Who makes the cgroups of pods.
    pub cgroup_driver: CgroupDriver,
    /// Cgroup that pods without one of their own are put in.
    pub default_cgroup_parent: &'a str,
    /// Whether pods may bind ports below 1024 without a capability.
    pub unprivileged_ports: bool,
    /// Whether pods may send ICMP echo requests without a capability.
    pub unprivileged_icmp: bool,
    /// The time, in nanoseconds since the epoch.
    pub now: i64,
}

/// Translates a request whose metadata is there.
///
/// # Errors
/// `INVALID_ARGUMENT` or `UNIMPLEMENTED`, with the field.
pub fn spec(request: &RunPodSandboxRequest, context: &Context<'_>) -> Result<SandboxSpec, Status> {
    let config = request.config.as_ref().ok_or_else(|| invalid("config", "is missing"))?;
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.clone().unwrap_or_default();
    let namespaces = namespaces(security.namespace_options.as_ref())?;
    check_handler(&request.runtime_handler, context.handlers)?;
    check_log_directory(&config.log_directory)?;
    refuse_unsupported(&security)?;
    if security.privileged && namespaces.users.is_some() {
        let field = "config.linux.security_context.privileged";
        return Err(invalid(field, "cannot be set for a pod with a user namespace"));
    }
    let pod = pod_name(config)?;
    Ok(SandboxSpec {
        id: context.id.to_owned(),
        pod,
        hostname: hostname(config, context.hostname)?,
        network: namespaces.network,
        users: namespaces.users,
        own_ipc: namespaces.own_ipc,
        own_pid: namespaces.own_pid,
        cgroup: cgroup(&linux, context)?,
        dns: config.dns_config.as_ref().map(dns).transpose()?,
        sysctls: sysctls::of(&linux.sysctls, &namespaces, context)?,
        shm_bytes: SHM_BYTES,
        capabilities: network::capabilities(config, &linux.cgroup_parent)?,
        created_at: context.now,
        origin: request.encode_to_vec(),
    })
}

/// Which namespaces a pod has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Namespaces {
    pub(super) network: NetworkMode,
    pub(super) users: Option<PodUsers>,
    pub(super) own_ipc: bool,
    pub(super) own_pid: bool,
}

fn namespaces(options: Option<&NamespaceOption>) -> Result<Namespaces, Status> {
    const FIELD: &str = "config.linux.security_context.namespace_options";
    let options = options.cloned().unwrap_or_default();
    let mode = |name: &str, mode: i32| {
        NamespaceMode::try_from(mode)
            .map_err(|_| invalid(&format!("{FIELD}.{name}"), format!("{mode} is unknown")))
    };
    let shared = |name: &str, value: i32| match mode(name, value)? {
        NamespaceMode::Pod => Ok(false),
        NamespaceMode::Node => Ok(true),
        other => {
            let why = format!("cannot be {}", other.as_str_name());
            Err(invalid(&format!("{FIELD}.{name}"), why))
        }
    };
    let users = users::of(options.userns_options.as_ref())?;
    let own_pid = match mode("pid", options.pid)? {
        NamespaceMode::Pod | NamespaceMode::Container => true,
        NamespaceMode::Node => false,
        NamespaceMode::Target => {
            return Err(invalid(&format!("{FIELD}.pid"), "cannot be TARGET for a pod"));
        }
    };
    let on_host = shared("network", options.network)?;
    let network = if on_host { NetworkMode::Host } else { NetworkMode::Pod };
    let own_ipc = !shared("ipc", options.ipc)?;
    for (name, own) in [("pid", own_pid), ("ipc", own_ipc)] {
        if users.is_some() && !own {
            let why = "cannot be NODE for a pod with a user namespace";
            return Err(invalid(&format!("{FIELD}.{name}"), why));
        }
    }
    Ok(Namespaces { network, users, own_ipc, own_pid })
}

fn check_handler(handler: &str, handlers: &[String]) -> Result<(), Status> {
    if handler.is_empty() || handlers.iter().any(|known| known == handler) {
        return Ok(());
    }
    let known = handlers.join(", ");
    let why = format!("{handler:?}: no such runtime handler is configured, only {known}");
    Err(invalid("runtime_handler", why))
}

fn check_log_directory(directory: &str) -> Result<(), Status> {
    let path = Path::new(directory);
    let relative = !path.is_absolute()
        || path.components().any(|part| part == std::path::Component::ParentDir);
    if !directory.is_empty() && relative {
        let why = format!("{directory:?} is not an absolute path without \"..\"");
        return Err(invalid("config.log_directory", why));
    }
    // Room for the log's own name in what the kernel takes for a path.
    if directory.len() > 2000 || directory.split('/').any(|name| name.len() > 255) {
        return Err(invalid("config.log_directory", "is longer than a path may be"));
    }
    Ok(())
}

/// The pause process is no workload: profiles that restrict it say nothing about containers.
/// What would change a container's world is refused.
fn refuse_unsupported(security: &LinuxSandboxSecurityContext) -> Result<(), Status> {
    if super::security::selinux_is_on() && security.selinux_options.is_some() {
        return Err(unsupported("an SELinux label"));
    }
    Ok(())
}

fn pod_name(config: &PodSandboxConfig) -> Result<PodName, Status> {
    let metadata =
        config.metadata.as_ref().ok_or_else(|| invalid("config.metadata", "is missing"))?;
    let PodSandboxMetadata { name, uid, namespace, .. } = metadata;
    for (field, name) in [("name", name), ("uid", uid), ("namespace", namespace)] {
        let field = format!("config.metadata.{field}");
        check_name(&field, name)?;
        // They separate arguments of network plugins, which get all three.
        if name.contains([';', '=']) {
            return Err(invalid(&field, format!("{name:?} has ';' or '=' in it")));
        }
    }
    Ok(PodName { namespace: namespace.clone(), name: name.clone(), uid: uid.clone() })
}

fn hostname(config: &PodSandboxConfig, host: &str) -> Result<String, Status> {
    let name = if config.hostname.is_empty() { host } else { &config.hostname };
    let field = "config.hostname";
    if name.len() > HOSTNAME_MAX {
        let length = name.len();
        return Err(invalid(field, format!("has {length} bytes, more than {HOSTNAME_MAX}")));
    }
    check_name(field, name)?;
    // In /etc/hosts it would be two.
    if name.contains(char::is_whitespace) {
        return Err(invalid(field, format!("{name:?} has a space in it")));
    }
    Ok(name.to_owned())
}

/// The pod's cgroup is the client's to name; a pod without one gets its own below the default.
fn cgroup(linux: &LinuxPodSandboxConfig, context: &Context<'_>) -> Result<CgroupPath, Status> {
    let field = "config.linux.cgroup_parent";
    let bad = |error: berth_runtime::Error| invalid(field, error);
    let parent = match context.cgroup_driver {
        CgroupDriver::Systemd => scope(&linux.cgroup_parent, context)?,
        CgroupDriver::Cgroupfs if linux.cgroup_parent.is_empty() => {
            format!("{}/{}", context.default_cgroup_parent, context.id)
        }
        CgroupDriver::Cgroupfs if linux.cgroup_parent.ends_with(".slice") => {
            let parent = &linux.cgroup_parent;
            let why = "is a systemd slice, and runtime.cgroup_driver is \"cgroupfs\"";
            return Err(invalid(field, format!("{parent:?} {why}")));
        }
        CgroupDriver::Cgroupfs => linux.cgroup_parent.clone(),
    };
    CgroupPath::parse(&parent).map_err(bad)?.child(context.id).map_err(bad)
}

/// The cgroup of the pod's scope in a slice, which the kubelet names by its path.
fn scope(parent: &str, context: &Context<'_>) -> Result<String, Status> {
    let field = "config.linux.cgroup_parent";
    let default = context.default_cgroup_parent.trim_matches('/');
    let default = default.strip_suffix(".slice").unwrap_or(default).replace('/', "-") + ".slice";
    let slice = match parent.rsplit_once('/') {
        _ if parent.is_empty() => &default,
        None => parent,
        Some((_, slice)) => {
            let path = slice_path(slice).map_err(|error| invalid(field, error))?;
            if path != parent {
                let why = format!("{parent:?} is not where {slice} is, which is {path}");
                return Err(invalid(field, why));
            }
            slice
        }
    };
    let unit = Unit::new(slice, "cri-berth", context.id).and_then(|unit| unit.cgroup());
    Ok(unit.map_err(|error| invalid(field, error))?.into())
}

fn dns(config: &DnsConfig) -> Result<Dns, Status> {
    let DnsConfig { servers, searches, options } = config;
    for (field, words) in [("servers", servers), ("searches", searches), ("options", options)] {
        let bad = |word: &&String| word.chars().any(|c| c.is_whitespace() || c.is_control());
        if let Some(word) = words.iter().find(bad) {
            let field = format!("config.dns_config.{field}");
            return Err(invalid(&field, format!("{word:?} is not one word")));
        }
    }
    Ok(Dns { servers: servers.clone(), searches: searches.clone(), options: options.clone() })
}

#[cfg(test)]
pub(super) mod tests {
    use tonic::Code;

    use super::*;

    /// A request with a pod's name in it.
    pub(in super::super) fn request(
        change: impl FnOnce(&mut PodSandboxConfig),
    ) -> RunPodSandboxRequest {
        let metadata = PodSandboxMetadata {
            name: "web".into(),
            uid: "u".into(),
            namespace: "default".into(),
            attempt: 0,
        };
        let mut config = PodSandboxConfig { metadata: Some(metadata), ..Default::default() };
        change(&mut config);
        RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() }
    }

    pub(in super::super) fn translated(
        request: &RunPodSandboxRequest,
    ) -> Result<SandboxSpec, Status> {
        let context = Context {
            id: "s1",
            hostname: "node-1",
            handlers: &["berth".to_owned()],
            cgroup_driver: CgroupDriver::Cgroupfs,
            default_cgroup_parent: "/berth",
            unprivileged_ports: true,
            unprivileged_icmp: true,
            now: 7,
        };
        spec(request, &context)
    }

    fn options(change: impl FnOnce(&mut NamespaceOption)) -> RunPodSandboxRequest {
        let mut options = NamespaceOption::default();
        change(&mut options);
        let security =
            LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        request(|config| {
            let linux =
                LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() };
            config.linux = Some(linux);
        })
    }

    #[test]
    fn a_pod_has_everything_for_itself_unless_it_says_otherwise() {
        let spec = translated(&request(|_| {})).unwrap();
        assert_eq!((spec.network, spec.own_ipc, spec.own_pid), (NetworkMode::Pod, true, true));
        assert_eq!(spec.hostname, "node-1");
        assert_eq!(spec.cgroup.as_str(), "/berth/s1/s1");
        assert_eq!(spec.shm_bytes, 64 << 20);

        let host = NamespaceMode::Node.into();
        let on_host = options(|o| (o.network, o.ipc, o.pid) = (host, host, host));
        let spec = translated(&on_host).unwrap();
        assert_eq!((spec.network, spec.own_ipc, spec.own_pid), (NetworkMode::Host, false, false));
    }

    #[test]
    fn a_cgroup_of_the_client_is_used() {
        let with_parent = request(|config| {
            let cgroup_parent = "/kubepods/pod1".into();
            config.linux = Some(LinuxPodSandboxConfig { cgroup_parent, ..Default::default() });
        });
        assert_eq!(translated(&with_parent).unwrap().cgroup.as_str(), "/kubepods/pod1/s1");
    }

    #[test]
    fn with_systemd_a_pod_is_a_scope_in_its_slice() {
        let cgroup_of = |driver, default, parent: &str| {
            let context = Context {
                id: "s1",
                hostname: "node-1",
                handlers: &[],
                cgroup_driver: driver,
                default_cgroup_parent: default,
                unprivileged_ports: true,
                unprivileged_icmp: true,
                now: 7,
            };
            let cgroup_parent = parent.to_owned();
            cgroup(&LinuxPodSandboxConfig { cgroup_parent, ..Default::default() }, &context)
                .map(String::from)
                .map_err(|status| status.message().to_owned())
        };
        let systemd = |parent| cgroup_of(CgroupDriver::Systemd, "/berth", parent);
        let path = "/kubepods.slice/kubepods-pod1.slice";
        let expected = format!("{path}/cri-berth-s1.scope/s1");
        assert_eq!(systemd("kubepods-pod1.slice").unwrap(), expected);
        assert_eq!(systemd(path).unwrap(), expected);
        assert_eq!(systemd("").unwrap(), "/berth.slice/cri-berth-s1.scope/s1");
        let own = cgroup_of(CgroupDriver::Systemd, "/a/b", "").unwrap();
        assert_eq!(own, "/a.slice/a-b.slice/cri-berth-s1.scope/s1");
        for bad in ["/kubepods/pod1", "/kubepods-pod1.slice", "/x/../kubepods.slice", "a--b.slice"]
        {
            assert!(systemd(bad).unwrap_err().starts_with("config.linux.cgroup_parent"), "{bad}");
        }
        let mixed = cgroup_of(CgroupDriver::Cgroupfs, "/berth", "a.slice").unwrap_err();
        assert!(mixed.contains("runtime.cgroup_driver"), "{mixed}");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let long = "x".repeat(300);
        let table: [(RunPodSandboxRequest, &str); 11] = [
            (request(|c| c.hostname = "h".repeat(65)), "config.hostname has 65 bytes"),
            (request(|c| c.hostname = "a b".into()), "config.hostname \"a b\" has a space"),
            (request(|c| c.log_directory = "logs".into()), "config.log_directory"),
            (request(|c| c.log_directory = "/logs/../etc".into()), "config.log_directory"),
            (request(|c| c.log_directory = format!("/{long}")), "config.log_directory is longer"),
            (
                request(|c| c.metadata.as_mut().unwrap().name = long.clone()),
                "config.metadata.name has 300",
            ),
            (
                request(|c| c.metadata.as_mut().unwrap().uid.clear()),
                "config.metadata.uid is missing",
            ),
            (request(|c| c.metadata.as_mut().unwrap().name = "a;B=c".into()), "has ';' or '='"),
            (
                options(|o| o.network = NamespaceMode::Container.into()),
                "network cannot be CONTAINER",
            ),
            (options(|o| o.pid = NamespaceMode::Target.into()), "pid cannot be TARGET"),
            (
                RunPodSandboxRequest { runtime_handler: "kata".into(), ..request(|_| {}) },
                "\"kata\": no such runtime handler",
            ),
        ];
        for (request, words) in table {
            let status = translated(&request).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{words}");
            assert!(status.message().contains(words), "{}", status.message());
        }
    }

    #[test]
    fn resolver_words_cannot_bring_lines_of_their_own() {
        let config =
            DnsConfig { searches: vec!["a\nnameserver 6.6.6.6".into()], ..Default::default() };
        let status = translated(&request(|c| c.dns_config = Some(config))).unwrap_err();
        assert!(status.message().starts_with("config.dns_config.searches"));
    }
}
