//! Kernel parameters: only those that belong to a namespace of the container's own.
//!
//! `/proc/sys` is the same tree for everybody; most of it is the whole machine's. A parameter is
//! accepted here if it belongs to a kind of namespace that the specification makes or enters;
//! whether a namespace that is entered is not the host's after all is looked at by the child,
//! once it is in it (`init/kernel.rs`).

use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use crate::error::Error;
use crate::plan::Sysctl;

use super::{at, refuse};

/// Parameters of an IPC namespace, besides those below `fs/mqueue`.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// The kind of namespace that the parameter at `path`, below `/proc/sys`, belongs to; nothing if
/// it is the whole machine's.
pub(crate) fn owner(path: &str) -> Option<LinuxNamespaceType> {
    match path.split_once('/')? {
        ("net", _) => Some(LinuxNamespaceType::Network),
        ("user", _) => Some(LinuxNamespaceType::User),
        ("fs", rest) if rest.starts_with("mqueue/") => Some(LinuxNamespaceType::Ipc),
        ("kernel", "hostname" | "domainname") => Some(LinuxNamespaceType::Uts),
        _ if IPC.contains(&path) => Some(LinuxNamespaceType::Ipc),
        _ => None,
    }
}

/// The kernel parameters of a container, sorted by name.
pub(super) fn plan(spec: &Spec, linux: &Linux) -> Result<Vec<Sysctl>, Error> {
    let mut list: Vec<_> = linux.sysctl().iter().flatten().collect();
    list.sort();
    list.into_iter().map(|(name, value)| one(name, value, spec, linux)).collect()
}

fn one(name: &str, value: &str, spec: &Spec, linux: &Linux) -> Result<Sysctl, Error> {
    let field = || format!("linux.sysctl.{name}");
    let planned = sysctl(name, value).map_err(|_| at(field(), "is no kernel parameter"))?;
    let kind = owner(&planned.path).ok_or_else(|| {
        at(field(), "belongs to no namespace: it would be set for the whole host")
    })?;
    let conflict = match planned.path.as_str() {
        "kernel/hostname" => Some("hostname"),
        "kernel/domainname" if spec.domainname().is_some() => Some("domainname"),
        _ => None,
    };
    if let Some(other) = conflict {
        return Err(at(field(), format!("is what the field \"{other}\" is for")));
    }
    if !linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == kind) {
        let text =
            format!("the container has no {kind} namespace of its own: it would be the host's");
        return Err(at(field(), text));
    }
    Ok(planned)
}

/// Checks the form of a kernel parameter's name and turns it into a path.
///
/// Both `net.ipv4.tcp_syncookies` and `net/ipv4/tcp_syncookies` are usual, and in the second a
/// name may have dots (that of a VLAN interface): the first separator tells which it is.
///
/// # Errors
/// [`Error::Spec`] if it could leave `/proc/sys`, or the value holds a NUL.
pub fn sysctl(name: &str, value: &str) -> Result<Sysctl, Error> {
    let separator = name.find(['.', '/']).map(|index| &name[index..=index]);
    let path = match separator {
        Some(".") => name.replace('/', "\0").replace('.', "/").replace('\0', "."),
        Some(_) => name.to_owned(),
        None => return Err(refuse(format!("{name:?} is no sysctl"))),
    };
    let good = |part: &str| !matches!(part, "" | "." | "..");
    if !path.split('/').all(good) || name.contains('\0') || value.contains('\0') {
        return Err(refuse(format!("{name:?} is no sysctl")));
    }
    Ok(Sysctl { path, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_are_paths_below_proc_sys() {
        let path = |name| sysctl(name, "1").map(|sysctl| sysctl.path);
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eth0.1/x").unwrap(), "net/ipv4/conf/eth0.1/x");
        assert_eq!(path("net.ipv4.conf.eth0/1.x").unwrap(), "net/ipv4/conf/eth0.1/x");
        for bad in ["", "kernel", "../x", "net/../../x", "net..x", ".net", "a.b\0"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert!(sysctl("kernel.x", "1\0").is_err());
    }

    fn planned(name: &str, namespaces: &[&str], rest: &str) -> Result<Vec<Sysctl>, Error> {
        let list: Vec<_> =
            namespaces.iter().map(|kind| format!(r#"{{"type": "{kind}"}}"#)).collect();
        let json = format!(
            r#"{{"ociVersion": "1.0.0", {rest} "linux":
                {{"namespaces": [{}], "sysctl": {{"{name}": "1"}}}}}}"#,
            list.join(",")
        );
        let spec: Spec = serde_json::from_str(&json).unwrap();
        plan(&spec, spec.linux().as_ref().unwrap())
    }

    #[test]
    fn a_parameter_needs_its_namespace() {
        for (name, kind) in [
            ("net.ipv4.ip_forward", "network"),
            ("net/ipv4/conf/eno2.100/rp_filter", "network"),
            ("kernel.shm_rmid_forced", "ipc"),
            ("kernel.msgmax", "ipc"),
            ("fs.mqueue.msg_max", "ipc"),
            ("fs/mqueue/msg_max", "ipc"),
            ("kernel.domainname", "uts"),
            ("user.max_user_namespaces", "user"),
        ] {
            assert_eq!(planned(name, &["mount", kind], "").unwrap().len(), 1, "{name}");
            let others: Vec<_> = ["network", "ipc", "uts", "user", "pid", "mount", "cgroup"]
                .into_iter()
                .filter(|other| *other != kind)
                .collect();
            let error = planned(name, &others, "").unwrap_err().to_string();
            assert!(error.contains(&format!("linux.sysctl.{name}: ")), "{error}");
        }
    }

    #[test]
    fn the_hosts_parameters_are_never_set() {
        let all = ["network", "ipc", "uts", "user", "pid", "mount", "cgroup", "time"];
        for name in [
            "kernel.core_pattern",
            "kernel.pid_max",
            "kernel.shmmaxx",
            "kernel.shmmax.x",
            "kernel/net.ipv4",
            "vm.swappiness",
            "vm/overcommit_memory",
            "fs.file-max",
            "fs.mqueue",
            "fs.mqueuex.y",
            "netx.ipv4",
            "dev.raid",
            "abi.vsyscall32",
            "net.../kernel/core_pattern",
            "net/../kernel/core_pattern",
        ] {
            let error = planned(name, &all, "").unwrap_err().to_string();
            assert!(error.contains(&format!("linux.sysctl.{name}: ")), "{name}: {error}");
        }
    }

    #[test]
    fn names_have_fields_of_their_own() {
        let error = planned("kernel.hostname", &["uts"], "").unwrap_err().to_string();
        assert!(error.contains("\"hostname\""), "{error}");
        let rest = r#""domainname": "x","#;
        let error = planned("kernel.domainname", &["uts"], rest).unwrap_err().to_string();
        assert!(error.contains("\"domainname\""), "{error}");
    }
}
