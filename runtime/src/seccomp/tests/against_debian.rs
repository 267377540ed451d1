//! The default profile beside the one that Debian ships for podman and its relatives.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::seccomp::abi::names;
use crate::seccomp::default_profile;

/// Of the Debian package `golang-github-containers-common`.
const REFERENCE: &str = "/usr/share/containers/seccomp.json";

/// Allowed there, blocked here.
const STRICTER: &[(&str, &str)] = &[
    // Podman makes namespaces and mounts in its containers; these have been part of ways out.
    (
        "namespaces and mounts",
        "clone3 fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root \
         umount2 unshare",
    ),
    ("keyrings, which are the host's", "keyctl"),
    ("for who has CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy"),
    ("for who has CAP_SYS_PTRACE", "pidfd_getfd"),
    ("for who has CAP_SYS_BOOT", "reboot"),
    ("for who has CAP_SYSLOG", "syslog"),
];

/// Blocked there, allowed here.
const LOOSER: &[(&str, &str)] = &[
    (
        "newer than that file, and about the caller alone or files that it can open",
        "cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat \
         listmount listxattrat lsm_get_self_attr lsm_list_modules lsm_set_self_attr \
         map_shadow_stack mseal removexattrat setxattrat statmount uretprobe",
    ),
    ("part of the asynchronous I/O that is allowed there as well", "io_pgetevents"),
    ("allowed by containerd, and programs that copy much use it", "vmsplice"),
];

/// What becomes of each call by x86-64 in the reference, for a process without capabilities;
/// where it depends on arguments, `None`.
fn reference() -> BTreeMap<String, Option<bool>> {
    let text = std::fs::read_to_string(REFERENCE).unwrap_or_else(|error| {
        panic!("{REFERENCE}: {error}: apt-get install golang-github-containers-common")
    });
    let profile: Value = serde_json::from_str(&text).unwrap();
    let mut calls = BTreeMap::new();
    for rule in profile["syscalls"].as_array().unwrap() {
        let has = |of: &str, what: &str| rule[of][what].as_array().cloned().unwrap_or_default();
        let arches = has("includes", "arches");
        if !has("includes", "caps").is_empty()
            || !arches.is_empty() && !arches.contains(&"amd64".into())
        {
            continue;
        }
        let allows = rule["action"] == "SCMP_ACT_ALLOW";
        let always = rule["args"].as_array().is_none_or(Vec::is_empty);
        for name in rule["names"].as_array().unwrap() {
            let name = name.as_str().unwrap().to_owned();
            if always {
                calls.insert(name, Some(allows));
            } else {
                calls.entry(name).or_insert(None);
            }
        }
    }
    calls
}

fn listed(list: &[(&str, &'static str)]) -> BTreeSet<&'static str> {
    list.iter().flat_map(|(_, names)| names.split_whitespace()).collect()
}

#[test]
fn the_default_profile_differs_from_debians_where_it_says_so() {
    let program = Compiled::new(&default_profile(0), Abi::X86_64);
    let reference = reference();
    let (mut stricter, mut looser) = (BTreeSet::new(), BTreeSet::new());
    for name in names().filter(|name| Abi::X86_64.number(name).is_some()) {
        let theirs = reference.get(name).copied().unwrap_or(Some(false));
        // What depends on arguments has tests of its own.
        let Some(theirs) = theirs.filter(|_| !["clone", "socket"].contains(&name)) else {
            continue;
        };
        let ours = program.of(Abi::X86_64, name, &[]) == ALLOW;
        match (ours, theirs) {
            (false, true) => drop(stricter.insert(name)),
            (true, false) => drop(looser.insert(name)),
            _ => {}
        }
    }
    assert_eq!(stricter, listed(STRICTER), "blocked here, allowed there");
    assert_eq!(looser, listed(LOOSER), "allowed here, blocked there");
}

#[test]
fn a_capability_brings_what_it_is_for() {
    for (bit, name) in [
        (2_u32, "open_by_handle_at"),
        (16, "init_module"),
        (17, "iopl"),
        (18, "chroot"),
        (19, "kcmp"),
        (20, "acct"),
        (21, "unshare"),
        (21, "clone3"),
        (21, "mount"),
        (22, "reboot"),
        (23, "mbind"),
        (25, "settimeofday"),
        (26, "vhangup"),
        (34, "syslog"),
        (38, "perf_event_open"),
        (39, "bpf"),
    ] {
        let with = Compiled::new(&default_profile(1 << bit), Abi::X86_64);
        let without = Compiled::new(&default_profile(!(1 << bit | 1 << 21)), Abi::X86_64);
        assert_eq!(with.of(Abi::X86_64, name, &[]), ALLOW, "{name}");
        assert_ne!(without.of(Abi::X86_64, name, &[]), ALLOW, "{name}");
    }
}

#[test]
fn what_reaches_past_the_container_is_refused() {
    let program = Compiled::new(&default_profile(0), Abi::X86_64);
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        let of = |name, args: &[u64]| program.of(abi, name, args);
        for name in ["keyctl", "io_uring_setup", "mount", "unshare", "bpf", "userfaultfd"] {
            assert_eq!(of(name, &[]), EPERM, "{abi:?} {name}");
        }
        assert_eq!(of("clone3", &[]), ENOSYS);
        assert_eq!(of("open_tree_attr", &[]), ENOSYS);
        for flag in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000] {
            assert_eq!(of("clone", &[flag | 17]), EPERM, "{abi:?} {flag:#x}");
        }
        assert_eq!(of("clone", &[0x3d_0f00]), ALLOW);
        for family in 0..64 {
            let answer = if [38, 40].contains(&family) { EPERM } else { ALLOW };
            assert_eq!(of("socket", &[family]), answer, "{abi:?} {family}");
        }
        assert_eq!((of("personality", &[0]), of("personality", &[0x4_0000])), (ALLOW, EPERM));
    }
    // The kernel takes the lower half: the upper one must not hide a family.
    for family in [38, 40] {
        assert_eq!(program.of(Abi::X86_64, "socket", &[1 << 32 | family]), EPERM);
    }
    assert_eq!(program.of(Abi::X86_64, "socket", &[1 << 32 | 2]), ALLOW);
    assert!(program.len() < 700, "{} instructions", program.len());
}
