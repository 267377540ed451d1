//! What a profile says, decided call by call.
//!
//! A rule without conditions covers its calls whatever other rules say of them, the first such
//! rule if there are several; otherwise the first rule whose conditions all hold decides, and
//! where there is none the default action. A rule whose action is the default one counts for
//! nothing. That is what libseccomp makes of a profile, and what profiles are written against.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Named, LinuxSeccompArg, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};

use crate::error::Error;

use super::abi::{Abi, X32_BIT};
use super::multiplexed::multiplexed;

/// What the kernel does with a call: the value that a filter returns (`SECCOMP_RET_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action(pub(super) u32);

impl Action {
    pub(super) const KILL_THREAD: Self = Self(0);
    /// The answer of a kernel that does not have the call.
    pub(super) const NO_SUCH_CALL: Self = Self::errno(libc::ENOSYS);

    const fn errno(number: i32) -> Self {
        Self(0x0005_0000 | number.unsigned_abs())
    }

    /// Whether the call, or somebody who can carry it out, is reached.
    fn is_permissive(self) -> bool {
        matches!(self.0 >> 16, 0x7fff | 0x7ffc | 0x7ff0)
    }
}

/// What one of the arguments must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument.
    pub(super) index: usize,
    pub(super) test: Test,
    pub(super) value: u64,
    /// Whether all 64 bits count, or the lower 32.
    pub(super) wide: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Whether these bits are those of the value.
    Masked(u64),
}

/// An action if all the conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// What is done with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The first that fits decides.
    pub(super) branches: Vec<Branch>,
    pub(super) otherwise: Action,
}

impl From<Action> for Verdict {
    fn from(otherwise: Action) -> Self {
        Self { branches: Vec::new(), otherwise }
    }
}

/// The verdicts on all calls of the kernel interfaces that share an `AUDIT_ARCH_*`.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) audit: u32,
    /// Each holds from its number to the next; neighbours differ. The first number is 0.
    pub(super) ranges: Vec<(u32, Verdict)>,
}

/// A profile with its words understood.
#[derive(Debug)]
pub(super) struct Profile<'a> {
    default: Action,
    rules: Vec<Rule<'a>>,
}

#[derive(Debug)]
struct Rule<'a> {
    names: &'a [String],
    action: Action,
    args: &'a [LinuxSeccompArg],
}

impl<'a> Profile<'a> {
    /// # Errors
    /// [`Error::Spec`] with the field that makes no sense.
    pub(super) fn parse(profile: &'a LinuxSeccomp) -> Result<Self, Error> {
        let field = "linux.seccomp";
        if profile.default_action() == Named::ScmpActNotify {
            return Err(refuse(
                &format!("{field}.defaultAction"),
                "SCMP_ACT_NOTIFY cannot be used as default action",
            ));
        }
        let default = action(profile.default_action(), profile.default_errno_ret());
        let default = default.map_err(|why| refuse(&format!("{field}.defaultErrnoRet"), &why))?;
        let rules = profile.syscalls().iter().flatten().enumerate();
        let rules =
            rules.map(|(index, rule)| Rule::parse(rule, &format!("{field}.syscalls[{index}]")));
        Ok(Self { default, rules: rules.collect::<Result<_, _>>()? })
    }

    /// The verdicts of all `abis`, which must be in the order of a family.
    pub(super) fn sections(&self, abis: &[Abi]) -> Vec<Section> {
        let mut sections: Vec<Section> = Vec::new();
        for abi in abis {
            let ranges = self.ranges(*abi);
            match sections.iter_mut().find(|section| section.audit == abi.audit()) {
                Some(section) => section.ranges.extend(ranges),
                None => sections.push(Section { audit: abi.audit(), ranges }),
            }
        }
        for Section { audit, ranges } in &mut sections {
            let x86_64 = *audit == Abi::X86_64.audit();
            if x86_64 && !abis.contains(&Abi::X32) {
                ranges.push((X32_BIT, Action::KILL_THREAD.into()));
                // No call of x32, but what a tracer leaves of a call that is to be skipped.
                ranges.push((u32::MAX, self.newer().into()));
            }
            ranges.dedup_by(|later, earlier| later.1 == earlier.1);
        }
        sections
    }

    fn ranges(&self, abi: Abi) -> Vec<(u32, Verdict)> {
        let (calls, newest) = self.calls(abi);
        let mut ranges = vec![(abi.first(), Verdict::from(self.default))];
        // A profile that knows none of the calls says nothing of its age.
        let known_to = newest.map_or(u32::MAX, |newest| newest + 1);
        let between = |number| if number < known_to { self.default } else { self.newer() };
        for (number, call) in calls {
            match ranges.last_mut() {
                Some((start, verdict)) if *start == number => *verdict = call.verdict(self.default),
                _ => ranges.push((number, call.verdict(self.default))),
            }
            ranges.push((number + 1, between(number + 1).into()));
        }
        if known_to < u32::MAX {
            let at = ranges.partition_point(|(start, _)| *start < known_to);
            if ranges.get(at).is_none_or(|(start, _)| *start != known_to) {
                ranges.insert(at, (known_to, self.newer().into()));
            }
        }
        ranges
    }

    /// What the rules say of the calls of `abi`, and the newest of those that they name.
    fn calls(&self, abi: Abi) -> (BTreeMap<u32, Call>, Option<u32>) {
        let mut calls: BTreeMap<u32, Call> = BTreeMap::new();
        let mut newest = None;
        for rule in &self.rules {
            let branches = rule.branches(abi);
            for name in rule.names {
                // A call that no kernel of ours has cannot be made.
                let number = abi.number(name);
                newest = newest.max(number.filter(|number| *number < abi.timeless()));
                if rule.action == self.default {
                    continue;
                }
                if let Some(number) = number {
                    calls.entry(number).or_default().add(rule.action, &branches);
                }
                // The arguments of the call are not those of the one that it comes by.
                if rule.args.is_empty()
                    && let Some((by, condition)) = multiplexed(abi, name)
                {
                    let branch = Branch { conditions: vec![condition], action: rule.action };
                    calls.entry(by).or_default().add(rule.action, &[branch]);
                }
            }
        }
        (calls, newest)
    }

    /// What becomes of a call that is newer than the profile. Who wrote the profile could not
    /// have said; a program that is refused with `ENOSYS` does without it, one that is refused
    /// with anything else gives up.
    fn newer(&self) -> Action {
        if self.default.is_permissive() { self.default } else { Action::NO_SUCH_CALL }
    }
}

/// What the rules say of a call.
#[derive(Debug, Default)]
struct Call {
    always: Option<Action>,
    branches: Vec<Branch>,
}

impl Call {
    fn add(&mut self, action: Action, branches: &[Branch]) {
        if branches.is_empty() {
            self.always.get_or_insert(action);
        } else {
            self.branches.extend_from_slice(branches);
        }
    }

    fn verdict(self, default: Action) -> Verdict {
        match self.always {
            Some(action) => action.into(),
            None => Verdict { branches: self.branches, otherwise: default },
        }
    }
}

impl<'a> Rule<'a> {
    fn parse(rule: &'a LinuxSyscall, field: &str) -> Result<Self, Error> {
        let names = rule.names();
        let notifies = rule.action() == Named::ScmpActNotify;
        for (index, name) in names.iter().enumerate() {
            let field = format!("{field}.names[{index}]");
            match name.as_str() {
                "" => return Err(refuse(&field, "it is empty")),
                // The descriptor that notifications come by is itself sent with these.
                "write" | "sendmsg" if notifies => {
                    let why = format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall");
                    return Err(refuse(&field, &why));
                }
                _ => {}
            }
        }
        if names.is_empty() {
            return Err(refuse(&format!("{field}.names"), "it is empty"));
        }
        let action = action(rule.action(), rule.errno_ret());
        let action = action.map_err(|why| refuse(&format!("{field}.errnoRet"), &why))?;
        let args = rule.args().as_deref().unwrap_or_default();
        if let Some(at) = args.iter().position(|arg| arg.index() > 5) {
            let why = format!("{} is not in 0..=5", args[at].index());
            return Err(refuse(&format!("{field}.args[{at}].index"), &why));
        }
        Ok(Self { names, action, args })
    }

    /// The conditions of a rule all have to hold, unless two are for the same argument: then any
    /// is enough, as it was in the days of the first profiles.
    fn branches(&self, abi: Abi) -> Vec<Branch> {
        let conditions = self.args.iter().map(|arg| Condition::of(arg, abi.is_wide()));
        let mut seen = [false; 6];
        let again = self.args.iter().any(|arg| std::mem::replace(&mut seen[arg.index()], true));
        let branch = |conditions| Branch { conditions, action: self.action };
        if again {
            conditions.map(|condition| branch(vec![condition])).collect()
        } else if self.args.is_empty() {
            Vec::new()
        } else {
            vec![branch(conditions.collect())]
        }
    }
}

impl Condition {
    fn of(arg: &LinuxSeccompArg, wide: bool) -> Self {
        let all = if wide { u64::MAX } else { u64::from(u32::MAX) };
        let (test, value) = match arg.op() {
            Operator::ScmpCmpNe => (Test::NotEqual, arg.value()),
            Operator::ScmpCmpLt => (Test::Less, arg.value()),
            Operator::ScmpCmpLe => (Test::LessOrEqual, arg.value()),
            Operator::ScmpCmpEq => (Test::Equal, arg.value()),
            Operator::ScmpCmpGe => (Test::GreaterOrEqual, arg.value()),
            Operator::ScmpCmpGt => (Test::Greater, arg.value()),
            Operator::ScmpCmpMaskedEq => {
                let mask = arg.value() & all;
                (Test::Masked(mask), arg.value_two().unwrap_or(0) & mask)
            }
        };
        Self { index: arg.index(), test, value: value & all, wide }
    }
}

fn action(named: Named, errno: Option<u32>) -> Result<Action, String> {
    let most = match named {
        Named::ScmpActErrno => 4095,
        Named::ScmpActTrace => 0xffff,
        _ => 0,
    };
    match errno {
        Some(_) if most == 0 => Err(format!("{named} has no error number")),
        Some(errno) if errno > most => Err(format!("{errno} is more than {most}")),
        _ => Ok(Action(named.as_u32(errno))),
    }
}

fn refuse(field: &str, why: &str) -> Error {
    Error::Spec(format!("{field}: {why}"))
}
