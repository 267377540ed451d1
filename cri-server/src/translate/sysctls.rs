//! Kernel parameters of a pod: only those that belong to a namespace that is the pod's own.

use std::collections::BTreeMap;

use berth_sandbox::NetworkMode;
use tonic::Status;

use super::invalid;
use super::sandbox::{Context, Namespaces};

const FIELD: &str = "config.linux.sysctls";

/// Parameters of the IPC namespace, besides those below `fs.mqueue`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The last group that may be allowed to send ICMP echo requests.
const LAST_GROUP: u32 = 2_147_483_647;

/// The namespace that a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Network,
    Ipc,
}

/// Checks what a pod asks for, and adds what it gets by default.
pub(super) fn of(
    asked: &BTreeMap<String, String>,
    namespaces: &Namespaces,
    context: &Context<'_>,
) -> Result<BTreeMap<String, String>, Status> {
    let mut sysctls = defaults(namespaces, context);
    for (name, value) in asked {
        let dotted = dotted(name, value)?;
        let own = match owner(&dotted) {
            Some(Owner::Network) => namespaces.network == NetworkMode::Pod,
            Some(Owner::Ipc) => namespaces.own_ipc,
            None => return Err(invalid(FIELD, format!("{name:?} belongs to no namespace"))),
        };
        if !own {
            return Err(invalid(FIELD, format!("{name:?} would change the host's own namespace")));
        }
        sysctls.insert(dotted, value.clone());
    }
    Ok(sysctls)
}

fn defaults(namespaces: &Namespaces, context: &Context<'_>) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    if namespaces.network == NetworkMode::Pod {
        if context.unprivileged_ports {
            sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        }
        if context.unprivileged_icmp {
            // The kernel takes groups that there are.
            let last = namespaces
                .users
                .map_or(LAST_GROUP, |users| users.groups.count.saturating_sub(1).min(LAST_GROUP));
            sysctls.insert("net.ipv4.ping_group_range".into(), format!("0 {last}"));
        }
    }
    sysctls
}

/// Names a parameter in the one way that we compare. What the kernel splits at is a slash, so a
/// dot in a part of a slashed name stays one part: it becomes a slash here.
fn dotted(name: &str, value: &str) -> Result<String, Status> {
    let sysctl = berth_runtime::spec::sysctl(name, value);
    let path = sysctl.map_err(|_| invalid(FIELD, format!("{name:?} is no sysctl")))?.path;
    if value.contains('\n') {
        return Err(invalid(FIELD, format!("{name:?} has a value of several lines")));
    }
    Ok(path.replace('.', "\0").replace('/', ".").replace('\0', "/"))
}

fn owner(dotted: &str) -> Option<Owner> {
    if dotted.starts_with("net.") {
        return Some(Owner::Network);
    }
    (IPC.contains(&dotted) || dotted.starts_with("fs.mqueue.")).then_some(Owner::Ipc)
}

#[cfg(test)]
mod tests {
    use super::super::sandbox::tests::{request, translated};
    use super::*;
    use crate::api::runtime::{
        LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    };

    fn asked(name: &str, value: &str, host: bool) -> Result<BTreeMap<String, String>, Status> {
        let mode = if host { NamespaceMode::Node.into() } else { NamespaceMode::Pod.into() };
        let options = NamespaceOption { network: mode, ipc: mode, ..Default::default() };
        let request = request(|config| {
            config.linux = Some(LinuxPodSandboxConfig {
                sysctls: [(name.to_owned(), value.to_owned())].into(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(options),
                    ..Default::default()
                }),
                ..Default::default()
            });
        });
        translated(&request).map(|spec| spec.sysctls)
    }

    #[test]
    fn namespaced_parameters_are_taken_by_either_spelling() {
        for name in ["net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies"] {
            let sysctls = asked(name, "0", false).unwrap();
            assert_eq!(sysctls["net.ipv4.tcp_syncookies"], "0");
        }
        assert!(asked("kernel.shm_rmid_forced", "1", false).is_ok());
        assert!(asked("fs.mqueue.msg_max", "20", false).is_ok());
    }

    #[test]
    fn a_pod_can_override_what_it_gets_by_default() {
        let name = "net.ipv4.ip_unprivileged_port_start";
        assert_eq!(asked("net.ipv4.tcp_sack", "1", false).unwrap()[name], "0");
        assert_eq!(asked(name, "1024", false).unwrap()[name], "1024");
    }

    #[test]
    fn nothing_of_the_host_can_be_changed() {
        for (name, value, host) in [
            ("net.ipv4.ip_forward", "1", true),
            ("kernel.shmmax", "1", true),
            ("kernel.core_pattern", "|/evil", false),
            ("kernel.shm_rmid_forced", "1\n+kernel.core_pattern=x", false),
            ("vm.swappiness", "1", false),
            ("net/../kernel/core_pattern", "x", false),
            ("kernel/../net.x", "x", false),
            ("", "x", false),
        ] {
            let status = asked(name, value, host).unwrap_err();
            assert!(status.message().starts_with(FIELD), "{name}: {}", status.message());
        }
    }
}
