//! AppArmor profiles and SELinux labels of the program that is about to be executed.
//!
//! They are written to the attributes of the child before it lets go of its procfs, and come
//! into force with the `execve`. Nothing is written in the blind: where the security module is
//! off, the kernel would let a write to the common file pass to another module, or take it for
//! nothing, and a container that asked for confinement would run without.

use std::io;

use crate::plan::{Plan, Process};
use crate::protocol::Step;

use super::procfs::Procfs;
use super::{Attempt, Fault};

const STEP: Step = Step::Label;

/// The profile that stands for having none.
const UNCONFINED: &str = "unconfined";

/// Says what the program is to run under.
pub(super) fn set(process: &Process, procfs: &Procfs) -> Result<(), Fault> {
    set_profile(&process.apparmor_profile, procfs)?;
    set_label(&process.selinux_label, procfs)
}

/// Makes sure that new file systems can be labelled, if that is asked for.
pub(super) fn check_mounts(plan: &Plan, procfs: &Procfs) -> Result<(), Fault> {
    if plan.mount_label.is_empty() {
        return Ok(());
    }
    need_selinux(procfs).attempt(STEP, || format!("linux.mountLabel: use {:?}", plan.mount_label))
}

fn set_profile(profile: &str, procfs: &Procfs) -> Result<(), Fault> {
    let enabled = match profile {
        "" => return Ok(()),
        _ => apparmor_is_enabled(procfs),
    };
    if !enabled && profile == UNCONFINED {
        return Ok(());
    }
    let written = if enabled {
        let order = format!("exec {profile}");
        procfs.write("thread-self/attr/apparmor/exec", order.as_bytes())
    } else {
        Err(io::Error::other("AppArmor is not enabled on this host"))
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::other("no such profile is loaded"))
        }
        written => written,
    }
    .attempt(STEP, || format!("process.apparmorProfile: apply {profile:?}"))
}

/// The directory is there as soon as the kernel was built for it; it answers only if AppArmor
/// was not turned off at boot.
fn apparmor_is_enabled(procfs: &Procfs) -> bool {
    procfs.read("thread-self/attr/apparmor/current").is_ok()
}

fn set_label(label: &str, procfs: &Procfs) -> Result<(), Fault> {
    if label.is_empty() {
        return Ok(());
    }
    need_selinux(procfs)
        .and_then(|()| procfs.write("thread-self/attr/exec", label.as_bytes()))
        .attempt(STEP, || format!("process.selinuxLabel: apply {label:?}"))
}

/// SELinux registers its file system only if it was not turned off at boot, and calls everything
/// `kernel` until a policy is loaded.
fn need_selinux(procfs: &Procfs) -> io::Result<()> {
    let file_systems = procfs.read("filesystems")?;
    let known =
        file_systems.split(|byte| *byte == b'\n').any(|line| line.ends_with(b"\tselinuxfs"));
    let current = || procfs.read("thread-self/attr/current");
    let loaded = |label: Vec<u8>| label.trim_ascii_end() != b"kernel\0" && label != b"kernel";
    if known && current().is_ok_and(loaded) {
        return Ok(());
    }
    Err(io::Error::other("SELinux is not enabled on this host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn procfs() -> Procfs {
        Procfs::open().unwrap()
    }

    #[test]
    fn nothing_asked_is_nothing_done() {
        set(&Process::default(), &procfs()).unwrap();
        check_mounts(&Plan::default(), &procfs()).unwrap();
    }

    #[test]
    fn a_profile_that_is_not_there_is_refused() {
        let profile = "no-such-profile-of-berth".to_owned();
        let process = Process { apparmor_profile: profile, ..Process::default() };
        let fault = set(&process, &procfs()).unwrap_err();
        assert!(fault.attempt.starts_with("process.apparmorProfile: "), "{}", fault.attempt);
        let expected = if apparmor_is_enabled(&procfs()) {
            "no such profile is loaded"
        } else {
            "AppArmor is not enabled on this host"
        };
        assert_eq!(fault.error.to_string(), expected);
    }

    #[test]
    fn to_be_unconfined_needs_no_module() {
        let process = Process { apparmor_profile: UNCONFINED.to_owned(), ..Process::default() };
        set(&process, &procfs()).unwrap();
    }

    #[test]
    fn labels_need_selinux() {
        if need_selinux(&procfs()).is_ok() {
            return;
        }
        let label = "system_u:system_r:container_t:s0".to_owned();
        let process = Process { selinux_label: label.clone(), ..Process::default() };
        let fault = set(&process, &procfs()).unwrap_err();
        assert!(fault.attempt.starts_with("process.selinuxLabel: "), "{}", fault.attempt);
        assert_eq!(fault.error.to_string(), "SELinux is not enabled on this host");
        let plan = Plan { mount_label: label, ..Plan::default() };
        let fault = check_mounts(&plan, &procfs()).unwrap_err();
        assert!(fault.attempt.starts_with("linux.mountLabel: "), "{}", fault.attempt);
    }
}
