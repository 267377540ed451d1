//! The process of a specification, and the processes that are added to a container later.

use std::collections::HashSet;
use std::hash::BuildHasher;

use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxNamespaceType, PosixRlimit, PosixRlimitType,
    Process as OciProcess, Spec, User,
};
use rustix::thread::CapabilitySet;

use crate::error::Error;
use crate::plan::{Capabilities, Enter, Limit, Plan, Process, Program};
use crate::seccomp;

use super::{Surroundings, at, attributes, has, numbers};

/// `CLONE_NEW*` of the namespaces that an added process enters in any case; its PID namespace it is
/// born in.
const ALL_BUT_PID: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// Those that it enters if the container has its own.
const IF_OWN: [LinuxNamespaceType; 2] = [LinuxNamespaceType::User, LinuxNamespaceType::Time];

/// Plans a process that is added to the container of the only member, which was made from `spec`.
///
/// It gets the filter of system calls that the container's first process has. If the container has
/// no mount namespace, the handle after that of the member is its root directory.
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
    let mut planned = convert(process, spec.linux().as_ref(), env, oom_score_adj_best_effort)?;
    planned.seccomp = seccomp::plan(spec, bounding_set(spec), seccomp)?;
    planned.cpus = attributes::final_cpus(process)?;
    warn_of_capabilities(process);
    let namespaces = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    let own = namespaces.map(|namespace| namespace.typ()).filter(|kind| IF_OWN.contains(kind));
    let kinds = own.fold(ALL_BUT_PID, |kinds, kind| kinds | kind as u64);
    let enter = vec![Enter { of: 0, kinds }];
    let apart = spec.linux().as_ref().is_some_and(|linux| !has(linux, LinuxNamespaceType::Mount));
    let shared_root = apart.then_some(1);
    Ok(Plan { enter, process: Some(planned), shared_root, ..Plan::default() })
}

/// The session keyring of a container, by the name that other runtimes give it: a process that is
/// added later joins it by that.
pub(crate) fn session_keyring(id: &str) -> String {
    format!("_ses.{id}")
}

/// The container's first process.
pub(super) fn process(spec: &Spec, around: &Surroundings<'_>) -> Result<Process, Error> {
    let process = spec.process().as_ref().ok_or_else(|| at("process", "is missing"))?;
    warn_of_capabilities(process);
    let env = around.env.to_vec();
    let best_effort = around.oom_score_adj_best_effort;
    let mut process = convert(process, spec.linux().as_ref(), env, best_effort)?;
    process.seccomp = seccomp::plan(spec, bounding_set(spec), &around.seccomp)?;
    if process.args.is_empty() {
        return Err(at("process.args", "is empty: there is no command"));
    }
    // Whoever started us may be bound to some processors; that is no business of a container.
    process.cpus = Some(numbers::every());
    Ok(process)
}

/// Checks the process of a specification.
pub(super) fn check(spec: &Spec) -> Result<Process, Error> {
    let process = spec.process().as_ref().ok_or_else(|| at("process", "is missing"))?;
    attributes::final_cpus(process)?;
    convert(process, spec.linux().as_ref(), Vec::new(), false)
}

fn convert(
    process: &OciProcess,
    linux: Option<&Linux>,
    env: Vec<Vec<u8>>,
    best_effort: bool,
) -> Result<Process, Error> {
    let cwd = process.cwd().to_str().ok_or_else(|| at("process.cwd", "is not UTF-8"))?;
    if !cwd.starts_with('/') {
        return Err(at("process.cwd", format!("working directory {cwd:?} is not absolute")));
    }
    let user = process.user();
    check_user(user)?;
    process.capabilities().as_ref().map_or(Ok(()), refuse_unbound)?;
    let sets = process.capabilities().as_ref().map(capabilities);
    let mut planned = Process {
        args: process.args().clone().unwrap_or_default(),
        env,
        cwd: cwd.to_owned(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(0o022),
        capabilities: Some(sets.unwrap_or_default()),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        limits: limits(process)?,
        oom_score_adj: oom_score_adj(process)?,
        oom_score_adj_best_effort: best_effort,
        terminal: process.terminal().unwrap_or(false),
        program: Program::Command.into(),
        ..Process::default()
    };
    attributes::add(&mut planned, process, linux)?;
    Ok(planned)
}

/// The bounding set of a specification's process, a bit each.
pub(crate) fn bounding_set(spec: &Spec) -> u64 {
    let process = spec.process().as_ref();
    let sets = process.and_then(|process| process.capabilities().as_ref());
    sets.and_then(|sets| sets.bounding().as_ref()).map_or(0, bits_of)
}

/// The largest id means "leave it" to the kernel's calls: a process that asks for it would stay
/// root.
fn check_user(user: &User) -> Result<(), Error> {
    let groups = user.additional_gids().iter().flatten();
    let ids = [("uid".to_owned(), user.uid()), ("gid".to_owned(), user.gid())].into_iter();
    let groups = groups.enumerate().map(|(i, gid)| (format!("additionalGids[{i}]"), *gid));
    if let Some((name, id)) = ids.chain(groups).find(|(_, id)| *id == u32::MAX) {
        return Err(at(format!("process.user.{name}"), format!("{id} is no id")));
    }
    match user.umask() {
        Some(umask) if umask > 0o777 => {
            Err(at("process.user.umask", format!("{umask:#o} is more than 0o777")))
        }
        _ => Ok(()),
    }
}

fn oom_score_adj(process: &OciProcess) -> Result<Option<i32>, Error> {
    match process.oom_score_adj() {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(at("process.oomScoreAdj", format!("{score} is not from -1000 to 1000")))
        }
        score => Ok(score),
    }
}

/// What cannot be granted is left out, as the specification asks (`config.md`, "Linux Process"):
/// the kernel would refuse the whole set for it.
fn capabilities(sets: &LinuxCapabilities) -> Capabilities {
    let bits = |set: &Option<HashSet<Capability>>| set.as_ref().map_or(0, bits_of);
    let (bounding, permitted) = (bits(sets.bounding()), bits(sets.permitted()));
    let inheritable = bits(sets.inheritable());
    Capabilities {
        bounding,
        effective: bits(sets.effective()) & permitted,
        permitted,
        inheritable,
        ambient: bits(sets.ambient()) & permitted & inheritable,
    }
}

/// What the kernel takes from nobody who has given up the bounding set: other runtimes fail there.
fn refuse_unbound(sets: &LinuxCapabilities) -> Result<(), Error> {
    let bits = |set: &Option<HashSet<Capability>>| set.as_ref().map_or(0, bits_of);
    let beyond = CapabilitySet::from_bits_retain(bits(sets.inheritable()) & !bits(sets.bounding()));
    match beyond.iter_names().next() {
        None => Ok(()),
        Some((name, _)) => {
            let why = format!("CAP_{name} is not in the bounding set: operation not permitted");
            Err(at("process.capabilities.inheritable", why))
        }
    }
}

/// Says what [`capabilities`] has left out.
fn warn_of_capabilities(process: &OciProcess) {
    let Some(sets) = process.capabilities() else { return };
    let given = capabilities(sets);
    let warn = |asked: &Option<HashSet<Capability>>, given: u64, what: &str, field: &str| {
        let missing = asked.as_ref().map_or(0, bits_of) & !given;
        for (name, _) in CapabilitySet::from_bits_retain(missing).iter_names() {
            let why = format!("it is not in the {field}");
            tracing::warn!("process.capabilities: can't {what} CAP_{name}: {why}, ignoring");
        }
    };
    warn(sets.effective(), given.effective, "make effective", "permitted set");
    let field = "permitted and the inheritable set";
    warn(sets.ambient(), given.ambient, "raise ambient capability", field);
}

fn bits_of<S: BuildHasher>(set: &HashSet<Capability, S>) -> u64 {
    let bit = |capability: &Capability| {
        CapabilitySet::from_name(&capability.to_string()).map_or(0, |set| set.bits())
    };
    set.iter().map(bit).fold(0, |all, bit| all | bit)
}

fn limits(process: &OciProcess) -> Result<Vec<Limit>, Error> {
    let mut seen = HashSet::new();
    let mut limits = Vec::new();
    for (i, asked) in process.rlimits().iter().flatten().enumerate() {
        let field = |name| format!("process.rlimits[{i}].{name}");
        let limit = limit(asked);
        if !seen.insert(limit.resource) {
            return Err(at(field("type"), format!("{} is there twice", asked.typ())));
        }
        if limit.soft > limit.hard {
            let text = format!("{} is more than the hard limit {}", limit.soft, limit.hard);
            return Err(at(field("soft"), text));
        }
        limits.push(limit);
    }
    Ok(limits)
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
    CapabilitySet::all().iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
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
               "capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"], "ambient": ["CAP_CHOWN"],
                   "permitted": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN"]},
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
    fn what_cannot_be_granted_is_left_out() {
        for (sets, ambient, effective) in [
            (r#""permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]"#, 0, 0),
            (
                r#""bounding": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]"#,
                0,
                0,
            ),
            (r#""effective": ["CAP_KILL"]"#, 0, 0),
            (
                r#""bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                    "ambient": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL", "CAP_CHOWN"]"#,
                1 << 5,
                1 << 5,
            ),
        ] {
            let user = format!(r#""user": {{}}, "capabilities": {{{sets}}}"#);
            let text = json("", "").replace(r#""user": {"uid": 1, "gid": 2}"#, &user);
            let given = planned(&text, &[]).unwrap().plan.process.unwrap().capabilities.unwrap();
            assert_eq!((given.ambient, given.effective), (ambient, effective), "{sets}");
        }
    }

    #[test]
    fn what_the_kernel_would_not_take_is_refused_by_field() {
        for (field, bad) in [
            ("user.uid", r#""user": {"uid": 4294967295}"#),
            ("user.gid", r#""user": {"gid": 4294967295}"#),
            ("user.additionalGids[1]", r#""user": {"additionalGids": [1, 4294967295]}"#),
            ("user.umask", r#""user": {"umask": 512}"#),
            (
                "capabilities.inheritable",
                r#""user": {}, "capabilities": {"inheritable": ["CAP_KILL"]}"#,
            ),
            ("oomScoreAdj", r#""user": {}, "oomScoreAdj": 1001"#),
            ("oomScoreAdj", r#""user": {}, "oomScoreAdj": -1001"#),
            (
                "rlimits[0].soft",
                r#""user": {}, "rlimits": [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]"#,
            ),
            (
                "rlimits[1].type",
                r#""user": {}, "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1},
                    {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]"#,
            ),
        ] {
            let text = json("", "").replace(r#""user": {"uid": 1, "gid": 2}"#, bad);
            let error = planned(&text, &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("process.{field}: ")), "{bad}: {error}");
        }
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
