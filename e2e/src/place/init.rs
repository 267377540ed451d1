//! PID 1 of a place: prepares it, runs the test as its child, reaps whatever is orphaned, and
//! ends with the test's exit code. The kernel then kills all that is left.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, set_child_subreaper, set_parent_process_death_signal, wait,
};

use super::stage::{Order, Stage};
use super::{Kind, cgroup, guest, mounts};

/// Never returns: ends this process with the exit code of the test.
pub(super) fn run(stage: &Stage) -> ! {
    let code = prepare(stage).and_then(|order| {
        run_and_reap(match order.inside {
            Kind::Guest => guest::command(&order, stage),
            _ => order.command("inside", stage),
        })
    });
    std::process::exit(code.unwrap_or_else(|err| {
        eprintln!("PID 1 of the place: {err:#}");
        1
    }))
}

fn prepare(stage: &Stage) -> Result<Order> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("ask for a death signal")?;
    let order = stage.order()?;
    if order.inside == Kind::Systemd {
        prepare_beside_systemd(stage)?;
        mounts::temporary(&order.scratch(stage))?;
        return Ok(order);
    }
    cgroup::confine_to(&stage.name())?;
    mounts::kernel_file_systems()?;
    mounts::private_state()?;
    cgroup::settle()?;
    loopback_up()?;
    Ok(order)
}

/// Units live in the machine's PID and cgroup namespaces and see its /run, so the test does too.
fn prepare_beside_systemd(stage: &Stage) -> Result<()> {
    cgroup::join(&stage.name())?;
    set_child_subreaper(Some(getpid())).context("become the parent of orphans")?;
    mounts::kernel_file_systems()?;
    mounts::shared()?;
    loopback_up()
}

/// A new network namespace has a loopback interface, but it is down.
pub(super) fn loopback_up() -> Result<()> {
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    anyhow::ensure!(status.context("run ip")?.success(), "bring lo up");
    Ok(())
}

/// Runs `payload` to its end, and answers its exit code, or 128 and the number of the signal
/// that ended it. Every orphan is reaped on the way, as any init does.
pub(super) fn run_and_reap(mut payload: Command) -> Result<i32> {
    let child = payload.stdin(Stdio::null()).spawn().context("start the test in its place")?;
    let test = Pid::from_child(&child);
    loop {
        let ended = match wait(WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            ended => ended.context("wait for a child")?,
        };
        let Some((_, status)) = ended.filter(|(pid, _)| *pid == test) else {
            continue;
        };
        let signal = status.terminating_signal().map(|signal| 128 + signal);
        return Ok(status.exit_status().or(signal).unwrap_or(1));
    }
}
