//! The process of a specification, and the processes that are added to a container later.

use std::collections::HashSet;
use std::hash::BuildHasher;

use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, PosixRlimit, PosixRlimitType, Process as OciProcess, Spec,
};
use rustix::thread::CapabilitySet;

use crate::error::Error;
use crate::plan::{self, Capabilities, Enter, Limit, Plan, Process, Program, Sysctl};
use crate::seccomp;

use super::{Surroundings, refuse};

/// `CLONE_NEW*` of all namespaces that an added process enters; its PID namespace it is born in.
const ALL_BUT_PID: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// Plans a process that is added to the container of the only member, which was made from `spec`.
///
/// It gets the filter of system calls that the container's first process has.
///
/// # Errors
/// [`Error::Spec`] if the specification is contradictory.
pub fn exec(
    spec: &Spec,
    process: &OciProcess,
    env: Vec<Vec<u8>>,
    oom_score_adj_best_effort: bool,
    seccomp: &seccomp::Context<'_>,
) -> Result<Plan, Error> {
    let filter = seccomp::plan(spec, bounding_set(spec), seccomp)?;
    let process = convert(process, env, oom_score_adj_best_effort, filter)?;
    let enter = vec![Enter { of: 0, kinds: ALL_BUT_PID }];
    Ok(Plan { enter, process: Some(process), ..Plan::default() })
}

/// The container's first process.
pub(super) fn process(spec: &Spec, around: &Surroundings<'_>) -> Result<Process, Error> {
    let process = spec.process().as_ref().ok_or_else(|| refuse("process is missing"))?;
    let filter = seccomp::plan(spec, bounding_set(spec), &around.seccomp)?;
    let best_effort = around.oom_score_adj_best_effort;
    let process = convert(process, around.env.to_vec(), best_effort, filter)?;
    if process.args.is_empty() {
        return Err(refuse("no command"));
    }
    Ok(process)
}

fn convert(
    process: &OciProcess,
    env: Vec<Vec<u8>>,
    best_effort: bool,
    seccomp: Option<plan::Seccomp>,
) -> Result<Process, Error> {
    let cwd = process.cwd().to_str().ok_or_else(|| refuse("a working directory not in UTF-8"))?;
    if !cwd.starts_with('/') {
        return Err(refuse(format!("working directory {cwd:?} is not absolute")));
    }
    let user = process.user();
    Ok(Process {
        args: process.args().clone().unwrap_or_default(),
        env,
        cwd: cwd.to_owned(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(0o022),
        seccomp,
        capabilities: Some(process.capabilities().as_ref().map(capabilities).unwrap_or_default()),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        limits: limits(process),
        oom_score_adj: process.oom_score_adj(),
        oom_score_adj_best_effort: best_effort,
        terminal: process.terminal().unwrap_or(false),
        program: Program::Command.into(),
        preserve_fds: 0,
    })
}

/// The bounding set of a specification's process, a bit each.
pub(crate) fn bounding_set(spec: &Spec) -> u64 {
    let process = spec.process().as_ref();
    let sets = process.and_then(|process| process.capabilities().as_ref());
    sets.map_or(0, |sets| capabilities(sets).bounding)
}

fn capabilities(sets: &LinuxCapabilities) -> Capabilities {
    let bits = |set: &Option<HashSet<Capability>>| set.as_ref().map_or(0, bits_of);
    Capabilities {
        bounding: bits(sets.bounding()),
        effective: bits(sets.effective()),
        permitted: bits(sets.permitted()),
        inheritable: bits(sets.inheritable()),
        ambient: bits(sets.ambient()),
    }
}

fn bits_of<S: BuildHasher>(set: &HashSet<Capability, S>) -> u64 {
    let bit = |capability: &Capability| {
        CapabilitySet::from_name(&capability.to_string()).map_or(0, |set| set.bits())
    };
    set.iter().map(bit).fold(0, |all, bit| all | bit)
}

fn limits(process: &OciProcess) -> Vec<Limit> {
    process.rlimits().iter().flatten().map(limit).collect()
}

fn limit(limit: &PosixRlimit) -> Limit {
    let resource = match limit.typ() {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    Limit { resource, soft: limit.soft(), hard: limit.hard() }
}

/// All capabilities that this process has, and so can give away.
///
/// # Errors
/// If the kernel does not tell.
pub fn all_capabilities() -> std::io::Result<Vec<Capability>> {
    let own = rustix::thread::capabilities(None)?.permitted;
    Ok(own.iter_names().filter_map(|(name, _)| name.parse().ok()).collect())
}

/// Names of all capabilities that can be asked for.
pub fn known_capabilities() -> Vec<String> {
    CapabilitySet::all().iter_names().map(|(name, _)| name.to_owned()).collect()
}

/// Kernel parameters that belong to a namespace of the container.
pub(super) fn sysctls(linux: &Linux) -> Result<Vec<Sysctl>, Error> {
    let mut list: Vec<_> = linux.sysctl().iter().flatten().collect();
    list.sort();
    list.into_iter().map(|(name, value)| sysctl(name, value)).collect()
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
    use super::super::tests::{json, planned};
    use super::*;

    #[test]
    fn identity_and_limits_are_carried_over() {
        let text = json("", "").replace(
            r#""cwd": "/""#,
            r#""cwd": "/w", "noNewPrivileges": true, "oomScoreAdj": 5,
               "capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"], "ambient": ["CAP_CHOWN"]},
               "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]"#,
        );
        let process = planned(&text, &[]).unwrap().plan.process.unwrap();
        assert_eq!((process.uid, process.gid, process.umask), (1, 2, 0o022));
        let capabilities = process.capabilities.unwrap();
        assert_eq!(capabilities.bounding, 1 | 1 << 21);
        assert_eq!((capabilities.ambient, capabilities.effective), (1, 0));
        assert!(process.no_new_privileges);
        assert_eq!(process.oom_score_adj, Some(5));
        assert_eq!(process.limits, [Limit { resource: libc::RLIMIT_NOFILE, soft: 1, hard: 2 }]);
    }

    #[test]
    fn a_process_needs_a_command_and_an_absolute_directory() {
        for (from, to) in
            [(r#""args": ["a"]"#, r#""args": []"#), (r#""cwd": "/""#, r#""cwd": "x""#)]
        {
            assert!(planned(&json("", "").replace(from, to), &[]).is_err(), "{to}");
        }
    }

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

    #[test]
    fn an_added_process_enters_what_the_first_one_is_in() {
        let text = json("", "").replace(r#""cwd": "/""#, r#""cwd": "/w", "terminal": true"#);
        let spec: Spec = serde_json::from_str(&text).unwrap();
        let process = spec.process().clone().unwrap();
        let seccomp = seccomp::Context {
            filters: &seccomp::Filters::default(),
            by_default: true,
            id: "web",
            bundle: std::path::Path::new(""),
            first: Some(7),
        };
        let plan = exec(&spec, &process, vec![b"A=b".to_vec()], false, &seccomp).unwrap();
        let process = plan.process.unwrap();
        assert_eq!((process.args, process.cwd.as_str()), (vec!["a".to_owned()], "/w"));
        assert_eq!((process.env, process.terminal), (vec![b"A=b".to_vec()], true));
        assert!(process.seccomp.is_some());
        assert!(plan.root.is_none());
        assert_eq!(plan.enter, [Enter { of: 0, kinds: ALL_BUT_PID }]);
    }
}
