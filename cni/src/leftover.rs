//! Plugins that have outlived the daemon that ran them.
//!
//! A daemon that is killed cannot kill its plugins, and nothing but the kernel knows of them any
//! more. One that was in the middle of an ADD would go on with it, and take an address for a
//! container that the next daemon has just detached. Each of its processes has the container's id
//! in its environment, as the specification has it, those that it started as well: by that they
//! are found, killed and waited for, before the DEL.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long all of them may take to be gone once they are killed. One that sits in the kernel
/// longer is left to itself: it does nothing more of its own.
const DEATH: Duration = Duration::from_secs(2);

/// Kills every process of a plugin that was called for this container, and waits for their ends.
/// Answers how many there were. Blocks.
pub(crate) fn end(container_id: &str) -> usize {
    let deadline = Instant::now() + DEATH;
    let mut ended = 0;
    loop {
        let found = find(container_id);
        if found.is_empty() || Instant::now() >= deadline {
            return ended;
        }
        for process in &found {
            // It may have ended by itself.
            let _ = pidfd_send_signal(process, Signal::KILL);
            wait(process, deadline);
        }
        ended += found.len();
        // Once more: one of them may have started another before it died.
    }
}

fn find(container_id: &str) -> Vec<OwnedFd> {
    let mark = format!("CNI_CONTAINERID={container_id}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw).filter_map(|pid| marked(pid, mark.as_bytes()).ok()?).collect()
}

/// The process, if it carries the mark. It is opened before it is looked at: what is killed is
/// what was seen, whoever has the number by then.
fn marked(pid: Pid, mark: &[u8]) -> io::Result<Option<OwnedFd>> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()))?;
    let carries = environment.split(|byte| *byte == 0).any(|variable| variable == mark);
    Ok(carries.then_some(process))
}

fn wait(process: &OwnedFd, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).ok();
    // A pidfd is readable when its process has ended, reaped or not.
    let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref());
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn plugin(container_id: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        // Not by exec: what a plugin starts is found too.
        command.args(["-c", "echo; sleep 1000; true"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut plugin = command.env("CNI_CONTAINERID", container_id).spawn().unwrap();
        // A process has no environment for a moment after its execve.
        plugin.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        plugin
    }

    #[test]
    fn the_plugins_of_one_container_end_with_their_children_and_no_others() {
        let id = format!("leftover-{}", std::process::id());
        let (mut ours, mut other) = (plugin(&id), plugin(&format!("{id}-2")));

        assert!(end(&id) >= 1);

        assert!(!ours.wait().unwrap().success());
        assert!(find(&id).is_empty());
        assert!(other.try_wait().unwrap().is_none(), "another container's");
        assert!(end(&format!("{id}-2")) >= 1);
        other.wait().unwrap();
    }

    #[test]
    fn none_is_no_trouble() {
        assert_eq!(end("a-container-that-nobody-has"), 0);
    }
}
