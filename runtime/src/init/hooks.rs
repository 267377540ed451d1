//! The hooks that are run by the container's own first process.

use std::process::Command;

use crate::hooks::{Kind, StateJson, run_each};
use crate::plan::{Hook, Plan, Process};
use crate::protocol::Step;

use super::{Fault, seccomp};

/// Runs the plan's hooks of `kind`, where the process is.
/// Those with the environment of the program have it as `process`, as it will be executed, has it.
pub(super) fn run(kind: Kind, plan: &Plan, process: &Process) -> Result<(), Fault> {
    let Some(planned) = &plan.hooks else { return Ok(()) };
    let hooks = match kind {
        Kind::CreateContainer => &planned.create_container,
        _ => &planned.start_container,
    };
    let own = plan.process.as_ref().map(|process| &process.env);
    let completed = hooks.iter().map(|hook| match Some(&hook.env) == own {
        true => Hook { env: process.env.clone(), ..hook.clone() },
        false => hook.clone(),
    });
    let hooks: Vec<_> = completed.collect();
    // The PID as seen in the container's namespace (OCI runtime specification, State).
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let state = StateJson::new(&planned.about, kind, Some(pid));
    let confine = |command: &mut Command| match kind {
        Kind::StartContainer => seccomp::confine(command, process),
        _ => Ok(()),
    };
    run_each(kind, &hooks, &state, None, &confine).map_err(|fault| Fault {
        step: Step::Hook,
        attempt: format!("error running {kind} hook #{}", fault.index),
        error: fault.cause,
    })
}
