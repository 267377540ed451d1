//! Which system calls a container may make: from a profile to a filter that the kernel runs.
//!
//! ```text
//! LinuxSeccomp ─ profile ─► verdicts by number ─ compile ─► classic BPF ─ plan ─► child
//! default profile ┘           abi: names, numbers             kept in Filters
//! ```
//!
//! A [`Filter`] is made where the plan is made, once for each profile; the child only loads it.
//! What a profile means is said in `profile`, in which order the child does things in
//! `init/seccomp.rs`.

mod abi;
mod agent;
mod assembler;
mod compile;
mod default;
mod multiplexed;
mod profile;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag as Flag, Spec};

use crate::error::Error;
use crate::plan;

use abi::Abi;
use profile::Profile;

pub use default::default_profile;

// Of `linux/seccomp.h`.
const FLAG_LOG: u64 = 1 << 1;
const FLAG_SPEC_ALLOW: u64 = 1 << 2;
pub(crate) const FLAG_NEW_LISTENER: u64 = 1 << 3;
const FLAG_WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// Profiles that are kept compiled. A node sees a handful; one that sees more starts over.
const KEPT: usize = 64;

/// A compiled profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `struct sock_filter`, one after the other.
    program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    flags: u64,
    /// Who is notified, if anybody.
    agent: Option<Agent>,
}

/// Who gets the descriptor that notifications come by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Agent {
    /// Path of its listening socket on the host.
    path: PathBuf,
    /// What it is told.
    metadata: Option<String>,
}

impl Filter {
    /// Compiles a profile for the architecture that this program is built for.
    ///
    /// # Errors
    /// [`Error::Spec`] with the field that makes no sense, or if the filter would be longer than
    /// the kernel takes.
    pub fn compile(profile: &LinuxSeccomp) -> Result<Self, Error> {
        let parsed = Profile::parse(profile)?;
        let sections = parsed.sections(&abis(profile, Abi::NATIVE));
        let program = compile::compile(&sections)?;
        let program = program.into_iter().flat_map(assembler::Instruction::bytes).collect();
        let agent = agent(profile)?;
        let flags = flags(profile, agent.is_some())?;
        Ok(Self { program, flags, agent })
    }
}

/// The interfaces that a profile is for. The native one is always among them, and those of other
/// machines are nothing that a process of this one could call by.
fn abis(profile: &LinuxSeccomp, native: Abi) -> Vec<Abi> {
    let named = profile.architectures().as_deref().unwrap_or_default();
    let is_meant = |abi: &&Abi| **abi == native || named.contains(&abi.name());
    native.family().iter().filter(is_meant).copied().collect()
}

/// A profile that says nothing of flags gets what runc gives it; one thread has nothing to
/// synchronize with.
fn flags(profile: &LinuxSeccomp, notifies: bool) -> Result<u64, Error> {
    let mut flags = if notifies { FLAG_NEW_LISTENER } else { 0 };
    let Some(named) = profile.flags() else {
        return Ok(flags | FLAG_SPEC_ALLOW);
    };
    for flag in named {
        flags |= match flag {
            Flag::SeccompFilterFlagTsync => 0,
            Flag::SeccompFilterFlagLog => FLAG_LOG,
            Flag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
            Flag::SeccompFilterFlagWaitKillableRecv if notifies => FLAG_WAIT_KILLABLE_RECV,
            Flag::SeccompFilterFlagWaitKillableRecv => {
                return Err(Error::Spec(
                    "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule \
                     with SCMP_ACT_NOTIFY"
                        .to_owned(),
                ));
            }
        };
    }
    Ok(flags)
}

fn agent(profile: &LinuxSeccomp) -> Result<Option<Agent>, Error> {
    let field = "linux.seccomp.listenerPath";
    let path = profile.listener_path().as_deref().unwrap_or(Path::new(""));
    let metadata = profile.listener_metadata().clone();
    if path.as_os_str().is_empty() && metadata.is_some() {
        let why = "is set, but there is no listenerPath";
        return Err(Error::Spec(format!("linux.seccomp.listenerMetadata: it {why}")));
    }
    let mut rules = profile.syscalls().iter().flatten();
    if !rules.any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify) {
        return Ok(None);
    }
    if path.as_os_str().is_empty() {
        return Err(Error::Spec(format!("{field}: it is missing, and a rule has SCMP_ACT_NOTIFY")));
    }
    if !path.is_absolute() {
        return Err(Error::Spec(format!("{field}: {path:?} is not an absolute path")));
    }
    Ok(Some(Agent { path: path.to_owned(), metadata }))
}

/// Compiled profiles.
#[derive(Debug, Default)]
pub struct Filters {
    /// The default profile's, by the capabilities that it depends on.
    default: Mutex<HashMap<u64, Arc<Filter>>>,
    /// Those of other profiles.
    named: Mutex<Vec<(LinuxSeccomp, Arc<Filter>)>>,
}

impl Filters {
    /// The filter of the default profile for a process with these capabilities in its bounding
    /// set, a bit each.
    fn of_default(&self, capabilities: u64) -> Result<Arc<Filter>, Error> {
        let relevant = default::relevant(capabilities);
        let mut filters = self.default.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = filters.get(&relevant) {
            return Ok(Arc::clone(filter));
        }
        let filter = Arc::new(Filter::compile(&default_profile(relevant))?);
        filters.insert(relevant, Arc::clone(&filter));
        Ok(filter)
    }

    /// The filter of a profile.
    fn of(&self, profile: &LinuxSeccomp) -> Result<Arc<Filter>, Error> {
        let mut filters = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, filter)) = filters.iter().find(|(known, _)| known == profile) {
            return Ok(Arc::clone(filter));
        }
        let filter = Arc::new(Filter::compile(profile)?);
        if filters.len() == KEPT {
            filters.clear();
        }
        filters.push((profile.clone(), Arc::clone(&filter)));
        Ok(filter)
    }
}

/// What a filter is for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where compiled profiles are kept.
    pub filters: &'a Filters,
    /// Whether a specification without a profile gets the default one.
    pub by_default: bool,
    /// Id of the container.
    pub id: &'a str,
    /// Its bundle, if it has one.
    pub bundle: &'a Path,
    /// PID of its first process, for one that is added.
    pub first: Option<i32>,
}

/// The filter of a specification's process, whose bounding set has these `capabilities`.
///
/// # Errors
/// As [`Filter::compile`].
pub(crate) fn plan(
    spec: &Spec,
    capabilities: u64,
    context: &Context<'_>,
) -> Result<Option<plan::Seccomp>, Error> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let filter = match profile {
        Some(profile) => context.filters.of(profile)?,
        None if context.by_default => context.filters.of_default(capabilities)?,
        None => return Ok(None),
    };
    let agent = filter.agent.as_ref().map(|agent| agent.planned(spec, context)).transpose()?;
    tracing::debug!("seccomp filter flags: {}", filter.flags);
    Ok(Some(plan::Seccomp { program: filter.program.clone(), flags: filter.flags, agent }))
}

/// The words of profiles that are understood here, as `features` tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// `SCMP_ACT_*`.
    pub actions: Vec<&'static str>,
    /// `SCMP_CMP_*`.
    pub operators: Vec<&'static str>,
    /// `SCMP_ARCH_*` that a filter can be made for.
    pub archs: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_*`; all are supported by every kernel that berth runs on.
    pub flags: Vec<&'static str>,
}

/// What is understood here.
pub fn known() -> Known {
    let mut archs: Vec<String> =
        Abi::NATIVE.family().iter().map(|abi| abi.name().to_string()).collect();
    archs.sort();
    Known {
        actions: vec![
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG",
            "SCMP_ACT_NOTIFY",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP",
        ],
        operators: vec![
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_LE",
            "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
        archs,
        flags: vec![
            "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ],
    }
}
