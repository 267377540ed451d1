//! How a process is scheduled (`sched_setattr(2)`).

use oci_spec::runtime::{
    LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy, Scheduler as OciScheduler,
};

use crate::error::Error;
use crate::plan::Scheduler;

use super::at;

/// Smallest parameter of a deadline task, in nanoseconds (`sched(7)`).
const SHORTEST: u64 = 1024;

/// `SCHED_FLAG_*` of `linux/sched.h`.
const RESET_ON_FORK: u64 = 0x01;
const RECLAIM: u64 = 0x02;
const DEADLINE_OVERRUN: u64 = 0x04;
const KEEP_POLICY: u64 = 0x08;
const KEEP_PARAMS: u64 = 0x10;
const CLAMP_MIN: u64 = 0x20;
const CLAMP_MAX: u64 = 0x40;

/// Scheduling attributes in the kernel's terms.
pub(super) fn plan(asked: &OciScheduler) -> Result<Scheduler, Error> {
    let policy = *asked.policy();
    let number = match policy {
        Policy::SchedOther => libc::SCHED_OTHER,
        Policy::SchedFifo => libc::SCHED_FIFO,
        Policy::SchedRr => libc::SCHED_RR,
        Policy::SchedBatch => libc::SCHED_BATCH,
        Policy::SchedIdle => libc::SCHED_IDLE,
        Policy::SchedDeadline => libc::SCHED_DEADLINE,
        Policy::SchedIso => {
            return Err(at("process.scheduler.policy", "no kernel implements SCHED_ISO"));
        }
    };
    let flags = asked.flags().iter().flatten().fold(0, |all, flag| all | flag_bit(*flag));
    Ok(Scheduler {
        policy: u32::try_from(number).unwrap_or_default(),
        flags,
        nice: nice(policy, asked.nice().unwrap_or(0))?,
        priority: priority(policy, asked.priority().unwrap_or(0))?,
        ..deadline(policy, asked)?
    })
}

fn flag_bit(flag: Flag) -> u64 {
    match flag {
        Flag::SchedResetOnFork => RESET_ON_FORK,
        Flag::SchedFlagReclaim => RECLAIM,
        Flag::SchedFlagDLOverrun => DEADLINE_OVERRUN,
        Flag::SchedFlagKeepPolicy => KEEP_POLICY,
        Flag::SchedFlagKeepParams => KEEP_PARAMS,
        Flag::SchedFlagUtilClampMin => CLAMP_MIN,
        Flag::SchedFlagUtilClampMax => CLAMP_MAX,
    }
}

/// Other policies than these two do not look at it.
fn nice(policy: Policy, nice: i32) -> Result<i32, Error> {
    let looked_at = matches!(policy, Policy::SchedOther | Policy::SchedBatch);
    if looked_at && !(-20..=19).contains(&nice) {
        return Err(at("process.scheduler.nice", format!("{nice} is not from -20 to 19")));
    }
    Ok(nice)
}

fn priority(policy: Policy, priority: i32) -> Result<u32, Error> {
    let fault = |why| Err(at("process.scheduler.priority", format!("{priority} {why}")));
    match (policy, priority) {
        (Policy::SchedFifo | Policy::SchedRr, 1..=99) => {
            Ok(u32::try_from(priority).unwrap_or_default())
        }
        (Policy::SchedFifo | Policy::SchedRr, _) => fault("is not from 1 to 99"),
        (_, 0) => Ok(0),
        _ => fault("needs the policy SCHED_FIFO or SCHED_RR"),
    }
}

fn deadline(policy: Policy, asked: &OciScheduler) -> Result<Scheduler, Error> {
    let field = |name: &str| format!("process.scheduler.{name}");
    let value = |value: &Option<u64>| value.unwrap_or(0);
    let times = [
        ("runtime", value(asked.runtime())),
        ("deadline", value(asked.deadline())),
        ("period", value(asked.period())),
    ];
    let [(_, runtime), (_, deadline), (_, period)] = times;
    if policy != Policy::SchedDeadline {
        return match times.iter().find(|(_, value)| *value != 0) {
            Some((name, _)) => Err(at(field(name), "needs the policy SCHED_DEADLINE")),
            None => Ok(Scheduler::default()),
        };
    }
    for (name, value) in times {
        let absent = name == "period" && value == 0;
        if !absent && !(SHORTEST..1 << 63).contains(&value) {
            let text = format!("{value} is not from {SHORTEST} to 2^63 - 1 nanoseconds");
            return Err(at(field(name), text));
        }
    }
    if runtime > deadline {
        return Err(at(
            field("runtime"),
            format!("{runtime} is more than the deadline {deadline}"),
        ));
    }
    if period != 0 && deadline > period {
        return Err(at(field("deadline"), format!("{deadline} is more than the period {period}")));
    }
    Ok(Scheduler { runtime, deadline, period, ..Scheduler::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduled(json: &str) -> Result<Scheduler, Error> {
        plan(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn schedulers_become_what_the_kernel_takes() {
        let batch = scheduled(r#"{"policy": "SCHED_BATCH", "nice": 19, "priority": 0}"#).unwrap();
        assert_eq!((batch.policy, batch.nice), (3, 19));
        let fifo = r#"{"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_RESET_ON_FORK"]}"#;
        let fifo = scheduled(fifo).unwrap();
        assert_eq!((fifo.policy, fifo.priority, fifo.flags), (1, 7, RESET_ON_FORK));
        let deadline = r#"{"policy": "SCHED_DEADLINE", "nice": 19, "runtime": 42000,
            "deadline": 100000, "period": 1000000}"#;
        let deadline = scheduled(deadline).unwrap();
        assert_eq!((deadline.policy, deadline.runtime, deadline.period), (6, 42_000, 1_000_000));
    }

    #[test]
    fn contradicting_schedulers_are_refused_by_field() {
        for (json, field) in [
            (r#"{"policy": "SCHED_OTHER", "nice": 20}"#, "nice"),
            (r#"{"policy": "SCHED_BATCH", "nice": -21}"#, "nice"),
            (r#"{"policy": "SCHED_OTHER", "priority": 1}"#, "priority"),
            (r#"{"policy": "SCHED_DEADLINE", "priority": 1}"#, "priority"),
            (r#"{"policy": "SCHED_FIFO"}"#, "priority"),
            (r#"{"policy": "SCHED_RR", "priority": 100}"#, "priority"),
            (r#"{"policy": "SCHED_OTHER", "runtime": 1}"#, "runtime"),
            (r#"{"policy": "SCHED_IDLE", "deadline": 1}"#, "deadline"),
            (r#"{"policy": "SCHED_FIFO", "priority": 1, "period": 1}"#, "period"),
            (r#"{"policy": "SCHED_DEADLINE"}"#, "runtime"),
            (r#"{"policy": "SCHED_DEADLINE", "runtime": 2000}"#, "deadline"),
            (r#"{"policy": "SCHED_DEADLINE", "runtime": 3000, "deadline": 2000}"#, "runtime"),
            (
                r#"{"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 2500}"#,
                "deadline",
            ),
            (r#"{"policy": "SCHED_ISO"}"#, "policy"),
        ] {
            let error = scheduled(json).unwrap_err().to_string();
            assert!(error.contains(&format!("process.scheduler.{field}: ")), "{json}: {error}");
        }
    }
}
