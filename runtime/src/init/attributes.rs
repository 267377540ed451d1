//! Scheduling, processors, I/O priority, memory policy and execution domain.
//!
//! Set while the child still has the capabilities that some of it takes, and before a system
//! call filter could stand in the way.

use std::io;

use rustix::thread::CapabilitySet;

use crate::plan::{Process, Scheduler};
use crate::protocol::Step;
use crate::sys::task::{self, SchedulingAttributes};

use super::{Attempt, Fault, identity};

const STEP: Step = Step::Identity;

/// Whether the plan's scheduling is of the kind that no child inherits.
fn is_deadline(process: &Process) -> bool {
    let policy = process.scheduler.as_ref().and_then(|it| i32::try_from(it.policy).ok());
    policy == Some(libc::SCHED_DEADLINE)
}

/// The capability that [`set_after_birth`] takes.
pub(super) fn needed_later(process: &Process, reborn: bool) -> CapabilitySet {
    match reborn && is_deadline(process) {
        true => CapabilitySet::SYS_NICE,
        false => CapabilitySet::empty(),
    }
}

/// Sets what is left of the plan when the process has been `reborn`, and gives up what it took.
pub(super) fn set_after_birth(process: &Process) -> Result<(), Fault> {
    if !is_deadline(process) {
        return Ok(());
    }
    set_scheduler_of(process)?;
    identity::give_up(process)
}

fn set_scheduler_of(process: &Process) -> Result<(), Fault> {
    let Some(scheduler) = &process.scheduler else { return Ok(()) };
    set_scheduler(scheduler).attempt(STEP, || format!("process.scheduler: {}", describe(scheduler)))
}

/// Sets what the plan says; the rest stays as inherited. A deadline task may not clone: if it is
/// going to be `reborn`, that waits.
pub(super) fn set(process: &Process, reborn: bool) -> Result<(), Fault> {
    // Processors first: a deadline task must be allowed on all of its root domain.
    if let Some(cpus) = &process.cpus {
        set_cpus(&cpus.words)
            .attempt(STEP, || "process.execCPUAffinity: set the processors to run on")?;
    }
    if !(reborn && is_deadline(process)) {
        set_scheduler_of(process)?;
    }
    if let Some(priority) = process.io_priority {
        task::set_io_priority(priority)
            .attempt(STEP, || "process.ioPriority: set the I/O priority")?;
    }
    if let Some(domain) = process.personality {
        task::set_personality(domain)
            .attempt(STEP, || "linux.personality: set the execution domain")?;
    }
    if let Some(policy) = &process.memory_policy {
        task::set_memory_policy(policy.mode, &policy.nodes.words)
            .attempt(STEP, || "linux.memoryPolicy: set the memory policy")?;
    }
    Ok(())
}

/// Without numbers: every processor that there can be, now or after one is plugged in; that is
/// to undo what was inherited, and where it may not be undone it stays.
fn set_cpus(words: &[u64]) -> io::Result<()> {
    if words.is_empty() {
        let _ = task::set_affinity(&[u64::MAX; 128]);
        return Ok(());
    }
    task::set_affinity(words)
}

fn set_scheduler(scheduler: &Scheduler) -> io::Result<()> {
    let Scheduler { policy, flags, nice, priority, runtime, deadline, period } = *scheduler;
    task::set_scheduling(SchedulingAttributes {
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
        ..SchedulingAttributes::default()
    })
}

/// The kernel refuses a deadline task that is not allowed on every processor, and says no more
/// than that it is not permitted.
fn describe(scheduler: &Scheduler) -> &'static str {
    if i32::try_from(scheduler.policy) == Ok(libc::SCHED_DEADLINE) {
        "set the scheduling (a deadline process scheduler can't be used together with AllowedCPUs)"
    } else {
        "set the scheduling"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::procfs::Procfs;
    use crate::plan::{MemoryPolicy, Numbers};

    /// Sets it in a thread of its own, and answers a file of procfs about that thread.
    fn set_and_read(process: Process, file: &'static str) -> String {
        let thread = std::thread::spawn(move || {
            set(&process, false).unwrap();
            let text = Procfs::open().unwrap().read(&format!("thread-self/{file}")).unwrap();
            String::from_utf8(text).unwrap()
        });
        thread.join().unwrap()
    }

    fn field(text: &str, name: &str) -> String {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit([':', '\t']).next().unwrap().trim().to_owned()
    }

    #[test]
    fn scheduling_is_set() {
        let scheduler = Scheduler { policy: 3, nice: 7, ..Scheduler::default() };
        let process = Process { scheduler: Some(scheduler), ..Process::default() };
        let text = set_and_read(process, "sched");
        assert_eq!(field(&text, "policy"), "3");
        assert_eq!(field(&text, "prio "), "127");
    }

    #[test]
    fn processors_are_set_and_reset() {
        let one = Process { cpus: Some(Numbers { words: vec![1] }), ..Process::default() };
        assert_eq!(field(&set_and_read(one.clone(), "status"), "Cpus_allowed_list"), "0");
        let all = set_and_read(Process::default(), "status");
        let thread = std::thread::spawn(move || {
            set(&one, false).unwrap();
            let every = Process { cpus: Some(Numbers::default()), ..Process::default() };
            set_and_read(every, "status")
        });
        let list = "Cpus_allowed_list";
        assert_eq!(field(&thread.join().unwrap(), list), field(&all, list));
    }

    #[test]
    fn a_memory_policy_is_set() {
        let nodes = Numbers { words: vec![1] };
        let policy = MemoryPolicy { mode: 2, nodes };
        let process = Process { memory_policy: Some(policy), ..Process::default() };
        assert!(set_and_read(process, "numa_maps").contains(" bind:0 "));
    }

    #[test]
    fn an_execution_domain_is_set() {
        let process = Process { personality: Some(8), ..Process::default() };
        assert_eq!(set_and_read(process, "personality").trim(), "00000008");
    }

    #[test]
    fn an_io_priority_is_set() {
        let class_and_level = 2 << 13 | 3;
        let process = Process { io_priority: Some(class_and_level), ..Process::default() };
        let thread = std::thread::spawn(move || {
            set(&process, false).unwrap();
            task::io_priority().unwrap()
        });
        assert_eq!(thread.join().unwrap(), class_and_level);
    }

    #[test]
    fn what_the_kernel_refuses_names_the_field() {
        let beyond = Numbers { words: vec![0, 0, 0, 0, 0, 0, 0, 1] };
        let policy = MemoryPolicy { mode: 2, nodes: beyond.clone() };
        for (field, process) in [
            ("linux.memoryPolicy", Process { memory_policy: Some(policy), ..Process::default() }),
            ("process.execCPUAffinity", Process { cpus: Some(beyond), ..Process::default() }),
            ("process.ioPriority", Process { io_priority: Some(7 << 13), ..Process::default() }),
        ] {
            let fault =
                std::thread::spawn(move || set(&process, false)).join().unwrap().unwrap_err();
            assert!(fault.attempt.starts_with(&format!("{field}: ")), "{}", fault.attempt);
        }
    }
}
