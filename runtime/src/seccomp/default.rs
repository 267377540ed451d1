//! The default profile: what a container may do that nobody has said anything else about.
//!
//! It allows what programs need and refuses what reaches past the container: keys of the kernel's
//! keyrings, mounts, new namespaces, `io_uring` (which no filter sees into), `userfaultfd`, BPF,
//! modules, clocks. A capability that a container has brings the calls that it is for.
//!
//! It blocks no less than containerd's. It is as old as Linux 6.13: what came later answers
//! `ENOSYS`, as in a kernel that does not have it.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Is, LinuxSyscall,
};
use rustix::thread::CapabilitySet as Capability;

mod names;

use names::{ALWAYS, ARM_ONLY, X86_ONLY};

/// `CLONE_NEW*` of `clone(2)`: cgroup, uts, ipc, user, pid, net and mount namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// Values of `personality(2)` that take nothing away from security: Linux, Linux on 32 bits, both
/// with an old `uname`, and the question which one it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Families of sockets, as bits of their number that count and what these must be: all of 0 to 63
/// but 38 (`AF_ALG`) and 40 (`AF_VSOCK`), and the kernel knows none above 45.
///
/// The kernel looks at the lower 32 bits only. A test for "less than" or "not equal" looks at all
/// 64, so that a number with something in the upper half would pass it.
const FAMILIES: [(u64, u64); 8] =
    [(!31, 0), (!3, 32), (!1, 36), (!0, 39), (!0, 41), (!1, 42), (!3, 44), (!15, 48)];

/// Calls that a capability in the bounding set brings.
const BY_CAPABILITY: [(Capability, &[&str]); 14] = [
    (Capability::DAC_READ_SEARCH, &["open_by_handle_at"]),
    (
        Capability::SYS_ADMIN,
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (Capability::SYS_BOOT, &["reboot"]),
    (Capability::SYS_CHROOT, &["chroot"]),
    (Capability::SYS_MODULE, &["delete_module", "finit_module", "init_module"]),
    (Capability::SYS_PACCT, &["acct"]),
    (Capability::SYS_PTRACE, &["kcmp", "pidfd_getfd", "process_madvise"]),
    (Capability::SYS_RAWIO, &["ioperm", "iopl"]),
    (Capability::SYS_TIME, &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (Capability::SYS_TTY_CONFIG, &["vhangup"]),
    (Capability::SYS_NICE, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (Capability::SYSLOG, &["syslog"]),
    (Capability::BPF, &["bpf"]),
    (Capability::PERFMON, &["perf_event_open"]),
];

/// Those of `capabilities`, a bit each, that the profile depends on.
pub(super) fn relevant(capabilities: u64) -> u64 {
    let all = BY_CAPABILITY.iter().fold(0, |all, (capability, _)| all | capability.bits());
    capabilities & all
}

/// The default profile for a process with these capabilities in its bounding set, a bit each
/// (`1 << CAP_*`).
pub fn default_profile(capabilities: u64) -> LinuxSeccomp {
    let mut rules = vec![allow(ALWAYS.split_whitespace(), None)];
    for (mask, family) in FAMILIES {
        let mask = mask & u64::from(u32::MAX);
        rules.push(allow(["socket"], Some(argument(Is::ScmpCmpMaskedEq, mask, Some(family)))));
    }
    for personality in PERSONALITIES {
        let is = argument(Is::ScmpCmpEq, personality, None);
        rules.push(allow(["personality"], Some(is)));
    }
    let has = |capability: Capability| capabilities & capability.bits() != 0;
    for (_, names) in BY_CAPABILITY.iter().filter(|(capability, _)| has(*capability)) {
        rules.push(allow(names.iter().copied(), None));
    }
    if !has(Capability::SYS_ADMIN) {
        let none = argument(Is::ScmpCmpMaskedEq, NEW_NAMESPACES, Some(0));
        rules.push(allow(["clone"], Some(none)));
        // Its flags are in memory, where no filter sees them; the C library makes do with clone.
        let mut unknown = rule(["clone3"], Action::ScmpActErrno, None);
        unknown.set_errno_ret(Some(libc::ENOSYS.unsigned_abs()));
        rules.push(unknown);
    }
    let (machine, architectures) = if cfg!(target_arch = "x86_64") {
        (X86_ONLY, vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32])
    } else {
        (ARM_ONLY, vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm])
    };
    rules.push(allow(machine.split_whitespace(), None));
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(Action::ScmpActErrno)
        .set_architectures(Some(architectures))
        .set_syscalls(Some(rules));
    profile
}

fn allow<'a>(
    names: impl IntoIterator<Item = &'a str>,
    argument: Option<LinuxSeccompArg>,
) -> LinuxSyscall {
    rule(names, Action::ScmpActAllow, argument)
}

fn rule<'a>(
    names: impl IntoIterator<Item = &'a str>,
    action: Action,
    argument: Option<LinuxSeccompArg>,
) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.into_iter().map(str::to_owned).collect())
        .set_action(action)
        .set_args(argument.map(|argument| vec![argument]));
    rule
}

/// A condition on the first argument.
fn argument(is: Is, value: u64, second: Option<u64>) -> LinuxSeccompArg {
    let argument = LinuxSeccompArgBuilder::default().index(0_usize).op(is).value(value);
    let argument = argument.value_two(second.unwrap_or_default());
    // All of its fields have defaults: there is nothing that could be missing.
    argument.build().unwrap_or_default()
}
