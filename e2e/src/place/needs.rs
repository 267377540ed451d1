//! What the harness needs of the machine. What is missing fails the test that needs it, with
//! the one command that installs it; nothing is skipped.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::{Kind, guest};

/// Every program that some part of the harness runs, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 20] = [
    ("buildah", "buildah"),
    ("busybox", "busybox-static"),
    ("containerd", "containerd"),
    ("crun", "crun"),
    ("ctr", "containerd"),
    ("criu", "criu"),
    ("dmsetup", "dmsetup"),
    ("docker-registry", "docker-registry"),
    ("host-local", "containernetworking-plugins"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("linux.uml", "user-mode-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("script", "bsdutils"),
    ("skopeo", "skopeo"),
    ("strace", "strace"),
    ("systemctl", "systemd"),
    ("umoci", "umoci"),
];

/// Where programs are looked for, beside `PATH`, which may lack the directories of an
/// administrator.
const DIRS: [&str; 7] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/cni"];

/// Fails unless this process may make namespaces and mounts.
pub(super) fn root() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "end-to-end tests make namespaces and mounts, which needs root; run:\n    \
         sudo --preserve-env=PATH,HOME make test"
    );
    Ok(())
}

pub(super) fn of(kind: Kind) -> Result<()> {
    let mut programs = vec!["ip"];
    if kind == Kind::Guest {
        programs.extend([guest::KERNEL, "iptables"]);
    }
    programs.into_iter().try_for_each(|name| program(name).map(drop))
}

/// The path of a program that the harness runs.
///
/// # Errors
/// If it is not installed. The message names one command that installs everything that the
/// harness misses on this machine, not this program alone.
pub fn program(name: &str) -> Result<PathBuf> {
    if let Some(path) = find(name) {
        return Ok(path);
    }
    let missing = PROGRAMS.iter().filter(|(name, _)| find(name).is_none());
    let mut packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        bail!("`{name}` is not installed");
    }
    bail!("`{name}` is not installed; run:\n    apt-get install -y {}", packages.join(" "))
}

/// A `PATH` on which all of [`program`]'s directories lie.
pub(super) fn search_path() -> String {
    dirs().iter().map(|dir| dir.to_string_lossy()).collect::<Vec<_>>().join(":")
}

fn find(name: &str) -> Option<PathBuf> {
    dirs().iter().map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn dirs() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<_> = std::env::split_paths(&path).collect();
    for dir in DIRS.map(Path::new) {
        if !dirs.iter().any(|known| known == dir) {
            dirs.push(dir.to_owned());
        }
    }
    dirs
}
