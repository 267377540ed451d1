//! Names and parameters of the kernel that belong to the container's namespaces.
//!
//! Which namespace a parameter belongs to is decided by who writes it: the file is the same for
//! all. So a parameter is written once the child is where it should be, and only if the
//! namespace that it belongs to is not the one that the child was born in, which is the host's.
//! The specification has been checked for that; but a namespace that is entered by its path may
//! turn out to be the host's own.

use std::io;

use oci_spec::runtime::LinuxNamespaceType;

use crate::plan::{Plan, Sysctl};
use crate::protocol::Step;
use crate::spec::sysctl_owner;

use super::procfs::Procfs;
use super::{Attempt, Fault};

const STEP: Step = Step::Kernel;

/// The namespaces of the host that a parameter could be set in by mistake.
#[derive(Debug)]
pub(super) struct Host(Vec<(&'static str, (u64, u64))>);

impl Host {
    /// Looks at those that the plan's parameters belong to; to be called before any is entered.
    pub(super) fn look(plan: &Plan, procfs: &Procfs) -> Result<Self, Fault> {
        let mut found = Vec::new();
        for kind in plan.sysctls.iter().filter_map(namespace_of) {
            if !found.iter().any(|(known, _)| *known == kind) {
                let id = procfs.namespace(kind);
                found.push((kind, id.attempt(STEP, || format!("look at the {kind} namespace"))?));
            }
        }
        Ok(Self(found))
    }

    fn is_here(&self, kind: &str, procfs: &Procfs) -> io::Result<bool> {
        let now = procfs.namespace(kind)?;
        Ok(self.0.iter().any(|(known, id)| *known == kind && *id == now))
    }
}

/// Sets the names of the host and of its NIS domain.
pub(super) fn set_names(plan: &Plan) -> Result<(), Fault> {
    if !plan.hostname.is_empty() {
        rustix::system::sethostname(plan.hostname.as_bytes())
            .attempt(STEP, || format!("hostname: set the host name {:?}", plan.hostname))?;
    }
    if !plan.domainname.is_empty() {
        rustix::system::setdomainname(plan.domainname.as_bytes())
            .attempt(STEP, || format!("domainname: set the domain name {:?}", plan.domainname))?;
    }
    Ok(())
}

/// Writes the plan's parameters, in the namespaces that the child is in by now.
pub(super) fn set_parameters(plan: &Plan, procfs: &Procfs, host: &Host) -> Result<(), Fault> {
    for sysctl in &plan.sysctls {
        set(sysctl, procfs, host).attempt(STEP, || {
            let Sysctl { path, value } = sysctl;
            format!("linux.sysctl: set sysctl {}={value:?}", path.replace('/', "."))
        })?;
    }
    Ok(())
}

fn set(sysctl: &Sysctl, procfs: &Procfs, host: &Host) -> io::Result<()> {
    let kind = namespace_of(sysctl).ok_or_else(|| io::Error::other("it is the whole host's"))?;
    if host.is_here(kind, procfs)? {
        return Err(io::Error::other(format!("it is in the host's {kind} namespace")));
    }
    procfs.write(&format!("sys/{}", sysctl.path), sysctl.value.as_bytes())
}

/// The name under `/proc/PID/ns` of what a parameter belongs to.
fn namespace_of(sysctl: &Sysctl) -> Option<&'static str> {
    match sysctl_owner(&sysctl.path)? {
        LinuxNamespaceType::Network => Some("net"),
        LinuxNamespaceType::Ipc => Some("ipc"),
        LinuxNamespaceType::Uts => Some("uts"),
        LinuxNamespaceType::User => Some("user"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::testing::{in_own, in_own_mounts};
    use nix::sched::{CloneFlags, unshare};

    fn plan(path: &str, value: &str) -> Plan {
        let sysctl = Sysctl { path: path.to_owned(), value: value.to_owned() };
        Plan { sysctls: vec![sysctl], ..Plan::default() }
    }

    #[test]
    fn parameters_are_set_in_namespaces_of_ones_own() {
        in_own_mounts(|| {
            let procfs = Procfs::open().unwrap();
            for (path, value, kind) in [
                ("net/ipv4/ip_unprivileged_port_start", "77", CloneFlags::CLONE_NEWNET),
                ("kernel/shm_rmid_forced", "1", CloneFlags::CLONE_NEWIPC),
                ("kernel/msgmax", "4096", CloneFlags::CLONE_NEWIPC),
                ("kernel/domainname", "example", CloneFlags::CLONE_NEWUTS),
            ] {
                let plan = plan(path, value);
                let host = Host::look(&plan, &procfs).unwrap();
                let before = procfs.read(&format!("sys/{path}")).unwrap();
                unshare(kind).unwrap();
                set_parameters(&plan, &procfs, &host).unwrap();
                let now = procfs.read(&format!("sys/{path}")).unwrap();
                assert_eq!(now, format!("{value}\n").as_bytes(), "{path}");
                assert_ne!(now, before, "{path}");
            }
        });
    }

    #[test]
    fn the_hosts_are_left_alone() {
        // A machine of its own for the case that the check fails.
        let all = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
        in_own(all, || {
            let procfs = Procfs::open().unwrap();
            for path in
                ["net/ipv4/ip_unprivileged_port_start", "kernel/msgmax", "kernel/domainname"]
            {
                let plan = plan(path, "99");
                let host = Host::look(&plan, &procfs).unwrap();
                let before = procfs.read(&format!("sys/{path}")).unwrap();
                let fault = set_parameters(&plan, &procfs, &host).unwrap_err();
                assert!(fault.error.to_string().contains("host's"), "{path}: {}", fault.error);
                assert_eq!(procfs.read(&format!("sys/{path}")).unwrap(), before, "{path}");
            }
            let plan = plan("vm/swappiness", "60");
            let host = Host::look(&plan, &procfs).unwrap();
            assert!(set_parameters(&plan, &procfs, &host).is_err());
        });
    }

    #[test]
    fn names_are_set() {
        in_own(CloneFlags::CLONE_NEWUTS, || {
            let plan = Plan {
                hostname: "host1".to_owned(),
                domainname: "domain1".to_owned(),
                ..Plan::default()
            };
            set_names(&plan).unwrap();
            let names = rustix::system::uname();
            assert_eq!(names.nodename().to_str(), Ok("host1"));
            assert_eq!(names.domainname().to_str(), Ok("domain1"));
        });
    }
}
