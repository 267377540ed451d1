//! Who the process is: limits, groups, user, capabilities.

use std::ffi::CString;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::plan::{Capabilities, Limit, Process};
use crate::protocol::Step;
use crate::sys::keyring::join_session;

use super::procfs::Procfs;
use super::{Attempt, Fault};

const STEP: Step = Step::Identity;

/// Sets `oom_score_adj`, while the child is root of the host: in a user namespace it may not.
///
/// Lowering it takes `CAP_SYS_RESOURCE`; where the host lacks that, a best-effort request keeps
/// what it has.
pub(super) fn adjust_oom_score(process: &Process, procfs: &Procfs) -> Result<(), Fault> {
    let Some(score) = process.oom_score_adj else {
        return Ok(());
    };
    match procfs.write("self/oom_score_adj", score.to_string().as_bytes()) {
        Err(error) if process.oom_score_adj_best_effort && is_refusal(&error) => Ok(()),
        result => {
            result.attempt(STEP, || format!("process.oomScoreAdj: set oom_score_adj to {score}"))
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Sets resource limits, while there is the capability to raise them.
pub(super) fn set_limits(process: &Process) -> Result<(), Fault> {
    for limit in &process.limits {
        set_limit(limit).attempt(STEP, || format!("process.rlimits: set {}", describe(limit)))?;
    }
    Ok(())
}

/// Raises hard limits that the process is to have later, without the host's privileges. It keeps
/// its soft ones: it may need more descriptors than the program is allowed.
pub(super) fn allow_limits(process: &Process) -> Result<(), Fault> {
    for limit in &process.limits {
        allow_limit(limit).attempt(STEP, || format!("raise resource limit {}", limit.resource))?;
    }
    Ok(())
}

fn allow_limit(limit: &Limit) -> io::Result<()> {
    let resource = resource(limit.resource).ok_or_else(|| io::Error::other("unknown limit"))?;
    let now = getrlimit(resource);
    let wanted = (limit.hard != u64::MAX).then_some(limit.hard);
    let higher = match (now.maximum, wanted) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(now), Some(wanted)) => wanted > now,
    };
    if higher {
        setrlimit(resource, Rlimit { current: now.current, maximum: wanted })?;
    }
    Ok(())
}

fn set_limit(limit: &Limit) -> io::Result<()> {
    let value = |bound| (bound != u64::MAX).then_some(bound);
    let resource = resource(limit.resource).ok_or_else(|| io::Error::other("unknown limit"))?;
    let new = Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
    Ok(setrlimit(resource, new)?)
}

fn describe(limit: &Limit) -> String {
    let name = resource(limit.resource).map(|resource| format!("{resource:?}"));
    let name = name.unwrap_or_else(|| limit.resource.to_string()).to_uppercase();
    format!("RLIMIT_{name} to {} of {}", limit.soft, limit.hard)
}

fn resource(number: u32) -> Option<Resource> {
    Some(match number {
        libc::RLIMIT_CPU => Resource::Cpu,
        libc::RLIMIT_FSIZE => Resource::Fsize,
        libc::RLIMIT_DATA => Resource::Data,
        libc::RLIMIT_STACK => Resource::Stack,
        libc::RLIMIT_CORE => Resource::Core,
        libc::RLIMIT_RSS => Resource::Rss,
        libc::RLIMIT_NPROC => Resource::Nproc,
        libc::RLIMIT_NOFILE => Resource::Nofile,
        libc::RLIMIT_MEMLOCK => Resource::Memlock,
        libc::RLIMIT_AS => Resource::As,
        libc::RLIMIT_LOCKS => Resource::Locks,
        libc::RLIMIT_SIGPENDING => Resource::Sigpending,
        libc::RLIMIT_MSGQUEUE => Resource::Msgqueue,
        libc::RLIMIT_NICE => Resource::Nice,
        libc::RLIMIT_RTPRIO => Resource::Rtprio,
        libc::RLIMIT_RTTIME => Resource::Rttime,
        _ => return None,
    })
}

/// Leaves the keyring of whoever started the runtime, which may hold keys of the host's.
pub(super) fn join_keyring(process: &Process) -> Result<(), Fault> {
    if process.keyring.is_empty() {
        return Ok(());
    }
    let name = CString::new(process.keyring.as_str());
    let joined = name.map_err(io::Error::from).and_then(|name| join_session(&name));
    match joined {
        // A kernel without keyrings has nothing to hide in them.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        joined => joined.attempt(STEP, || format!("join session keyring {:?}", process.keyring)),
    }
}

/// Becomes the user: bounding set first (it takes a capability to shrink it), then groups and
/// ids with the permitted set kept, then the capability sets, then no new privileges.
///
/// What it takes to load a filter of system calls stays until [`give_up_loading`], and what is
/// needed `later` until [`give_up`].
pub(super) fn assume(process: &Process, later: CapabilitySet) -> Result<(), Fault> {
    let capabilities = process.capabilities.unwrap_or_default();
    shrink_bounding_set(capabilities.bounding).attempt(STEP, || "shrink the bounding set")?;
    set_keep_capabilities(true).attempt(STEP, || "keep capabilities")?;
    become_user(process)
        .attempt(STEP, || format!("process.user: become {}:{}", process.uid, process.gid))?;
    set_keep_capabilities(false).attempt(STEP, || "stop keeping capabilities")?;
    set_sets(&capabilities, kept(process) | later)
        .attempt(STEP, || "process.capabilities: set the capability sets")?;
    if process.no_new_privileges {
        set_no_new_privs(true).attempt(STEP, || "set no_new_privs")?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(process.umask));
    // `fs.suid_dumpable` decides what a change of ids leaves of it.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .attempt(STEP, || "stay undumpable")
}

/// What it takes to load the filter of system calls.
fn kept(process: &Process) -> CapabilitySet {
    match keeps_loading(process) {
        true => CapabilitySet::SYS_ADMIN,
        false => CapabilitySet::empty(),
    }
}

/// Takes away what was needed later.
pub(super) fn give_up(process: &Process) -> Result<(), Fault> {
    let capabilities = process.capabilities.unwrap_or_default();
    let more = kept(process);
    set_capabilities(None, with(&capabilities, more)).attempt(STEP, || "set capabilities")
}

/// Whether the filter takes a capability to load: with `no_new_privs` it does not.
fn keeps_loading(process: &Process) -> bool {
    process.seccomp.is_some() && !process.no_new_privileges
}

/// Takes away what was kept to load the filter.
pub(super) fn give_up_loading(process: &Process) -> Result<(), Fault> {
    if !keeps_loading(process) {
        return Ok(());
    }
    let capabilities = process.capabilities.unwrap_or_default();
    // Ambient capabilities are set, and those that remain permitted stay.
    set_capabilities(None, sets(&capabilities)).attempt(STEP, || "set capabilities")
}

fn shrink_bounding_set(keep: u64) -> io::Result<()> {
    for capability in (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        let wanted = keep & capability.bits() != 0;
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !wanted => remove_capability_from_bounding_set(capability)?,
            Ok(_) => {}
            // Past the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn become_user(process: &Process) -> io::Result<()> {
    let groups: Vec<_> = process.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups)?;
    let (uid, gid) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
    set_thread_res_gid(Some(gid), Some(gid), Some(gid))?;
    set_thread_res_uid(Some(uid), Some(uid), Some(uid))?;
    Ok(())
}

fn set_sets(capabilities: &Capabilities, more: CapabilitySet) -> io::Result<()> {
    set_capabilities(None, with(capabilities, more))?;
    clear_ambient_capability_set()?;
    for capability in CapabilitySet::from_bits_retain(capabilities.ambient).iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

fn with(capabilities: &Capabilities, more: CapabilitySet) -> CapabilitySets {
    let sets = sets(capabilities);
    let (permitted, effective) = (sets.permitted | more, sets.effective | more);
    CapabilitySets { permitted, effective, ..sets }
}

fn sets(capabilities: &Capabilities) -> CapabilitySets {
    let set = CapabilitySet::from_bits_retain;
    CapabilitySets {
        effective: set(capabilities.effective),
        permitted: set(capabilities.permitted),
        inheritable: set(capabilities.inheritable),
    }
}
