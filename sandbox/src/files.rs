//! The files that all containers of a pod see: `hosts`, `hostname`, `resolv.conf`.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use crate::error::{Error, Storing as _};
use crate::spec::{Dns, NetworkMode, PodUsers, SandboxSpec};

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/hostname`.
    pub hostname: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl Files {
    /// Names the files in a sandbox's directory.
    pub(crate) fn of(directory: &Path) -> Self {
        Self {
            hosts: directory.join("hosts"),
            hostname: directory.join("hostname"),
            resolv_conf: directory.join("resolv.conf"),
        }
    }

    /// Writes them, readable for everybody: a container's users are not the host's. They are the
    /// pod's alone, and belong to its root.
    pub(crate) fn write(&self, spec: &SandboxSpec, ips: &[IpAddr]) -> Result<(), Error> {
        let hosts = match spec.network {
            NetworkMode::Host => hosts_file("/etc/hosts"),
            NetworkMode::Pod => hosts(&spec.hostname, ips),
        };
        let resolv_conf = match &spec.dns {
            Some(dns) => resolv_conf(dns),
            None => hosts_file("/etc/resolv.conf"),
        };
        write(&self.hosts, &hosts)?;
        write(&self.hostname, &format!("{}\n", spec.hostname))?;
        write(&self.resolv_conf, &resolv_conf)?;
        let Some(PodUsers { users, groups }) = spec.users else { return Ok(()) };
        for path in [&self.hosts, &self.hostname, &self.resolv_conf] {
            let given = chown(path, Some(users.first), Some(groups.first));
            given.storing("give to the pod's root", path)?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).storing("write", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).storing("write", path)
}

/// A file of the host; one that it lacks is empty.
fn hosts_file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn hosts(hostname: &str, ips: &[IpAddr]) -> String {
    let mut text = "127.0.0.1\tlocalhost\n\
                    ::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::0\tip6-localnet\n\
                    fe00::0\tip6-mcastprefix\n\
                    fe00::1\tip6-allnodes\n\
                    fe00::2\tip6-allrouters\n"
        .to_owned();
    for ip in ips {
        text.push_str(&format!("{ip}\t{hostname}\n"));
    }
    text
}

fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_what_is_given_and_nothing_else() {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        let dns = Dns {
            servers: list(&["10.0.0.10", "10.0.0.11"]),
            searches: list(&["ns.svc.cluster.local", "svc.cluster.local"]),
            options: list(&["ndots:5"]),
        };
        let expected = "search ns.svc.cluster.local svc.cluster.local\n\
                        nameserver 10.0.0.10\nnameserver 10.0.0.11\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns), expected);
        assert_eq!(resolv_conf(&Dns::default()), "");
    }

    #[test]
    fn a_pod_finds_itself_by_name() {
        let text = hosts("web-0", &["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        assert!(text.ends_with("10.88.0.2\tweb-0\nfd00::2\tweb-0\n"), "{text}");
    }
}
