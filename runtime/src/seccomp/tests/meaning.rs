//! What profiles mean.

use super::*;
use crate::seccomp::abi::X32_BIT;

const X86_64: Abi = Abi::X86_64;

/// A profile that refuses all but what `rules` say.
fn refusing(rules: &str) -> Compiled {
    Compiled::parse(&format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rules}]}}"#))
}

/// A profile that allows all but what `rules` say.
fn allowing(rules: &str) -> Compiled {
    Compiled::parse(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rules}]}}"#))
}

fn allow(name: &str, args: &str) -> String {
    format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}"#)
}

fn arg(index: u8, op: &str, value: u64) -> String {
    format!(r#"{{"index": {index}, "op": "SCMP_CMP_{op}", "value": {value}}}"#)
}

#[test]
fn each_action_is_the_kernels() {
    for (action, answer) in [
        (r#""SCMP_ACT_KILL""#, KILL),
        (r#""SCMP_ACT_KILL_THREAD""#, KILL),
        (r#""SCMP_ACT_KILL_PROCESS""#, KILL_PROCESS),
        (r#""SCMP_ACT_TRAP""#, TRAP),
        (r#""SCMP_ACT_ERRNO""#, EPERM),
        (r#""SCMP_ACT_ERRNO", "errnoRet": 100"#, ERRNO | 100),
        (r#""SCMP_ACT_TRACE""#, TRACE | 1),
        (r#""SCMP_ACT_TRACE", "errnoRet": 7"#, TRACE | 7),
        (r#""SCMP_ACT_LOG""#, LOG),
        (r#""SCMP_ACT_NOTIFY""#, NOTIFY),
    ] {
        let program = allowing(&format!(r#"{{"names": ["mkdir"], "action": {action}}}"#));
        assert_eq!(program.of(X86_64, "mkdir", &[]), answer, "{action}");
        assert_eq!(program.of(X86_64, "rmdir", &[]), ALLOW, "{action}");
    }
}

#[test]
fn arguments_are_compared_in_all_their_bits() {
    const BIG: u64 = 0x5_0000_0007;
    for (op, true_for, false_for) in [
        ("EQ", &[BIG][..], &[7, BIG + 1, 0x6_0000_0007][..]),
        ("NE", &[7, BIG + 1, 0x6_0000_0007], &[BIG]),
        ("LT", &[0, 0xffff_ffff, BIG - 1, 0x4_ffff_ffff], &[BIG, BIG + 1, u64::MAX]),
        ("LE", &[0, BIG, 0x4_ffff_ffff], &[BIG + 1, 0x6_0000_0000]),
        ("GT", &[BIG + 1, 0x6_0000_0000, u64::MAX], &[BIG, 0, 0x4_ffff_ffff]),
        ("GE", &[BIG, BIG + 1, 0x6_0000_0000], &[BIG - 1, 0x4_ffff_ffff]),
    ] {
        let program = refusing(&allow("mkdir", &arg(3, op, BIG)));
        let answer = |value| program.of(X86_64, "mkdir", &[9, 9, 9, value]);
        true_for.iter().for_each(|value| assert_eq!(answer(*value), ALLOW, "{value:#x} {op}"));
        false_for.iter().for_each(|value| assert_eq!(answer(*value), EPERM, "{value:#x} {op}"));
    }
}

#[test]
fn masks_look_at_their_bits_alone() {
    for (mask, second, yes, no) in [
        (0xf00_u64, "", &[0_u64, 0xff, 0xffff_ffff_ffff_f0ff][..], &[0x100_u64, 0xf00][..]),
        (0xff, r#", "valueTwo": 2"#, &[2, 0x102], &[0, 3]),
        // Bits of the value that the mask has not are nothing.
        (0xf, r#", "valueTwo": 18"#, &[2, 0x12], &[0, 3]),
        (0xff << 36, r#", "valueTwo": 137438953472"#, &[0x20_0000_0000, 0x20_ffff_ffff], &[0]),
        (0, "", &[0, u64::MAX], &[]),
    ] {
        let condition =
            format!(r#"{{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": {mask}{second}}}"#);
        let program = refusing(&allow("mkdir", &condition));
        let answer = |value| program.of(X86_64, "mkdir", &[value]);
        yes.iter().for_each(|value| assert_eq!(answer(*value), ALLOW, "{value:#x} {mask:#x}"));
        no.iter().for_each(|value| assert_eq!(answer(*value), EPERM, "{value:#x} {mask:#x}"));
    }
}

#[test]
fn conditions_add_up_and_rules_are_alternatives() {
    let both = allow("ftruncate", &[arg(0, "EQ", 5), arg(1, "EQ", 6)].join(","));
    let either = [allow("dup3", &arg(0, "EQ", 1)), allow("dup3", &arg(0, "GT", 2))].join(",");
    let same = allow("kill", &[arg(0, "EQ", 100), arg(0, "EQ", 9001)].join(","));
    let program = refusing(&[both, either, same].join(","));
    for (name, args, answer) in [
        ("ftruncate", [5, 6], ALLOW),
        ("ftruncate", [5, 0], EPERM),
        ("ftruncate", [0, 6], EPERM),
        ("dup3", [1, 0], ALLOW),
        ("dup3", [2, 0], EPERM),
        ("dup3", [3, 0], ALLOW),
        ("kill", [100, 0], ALLOW),
        ("kill", [9001, 0], ALLOW),
        ("kill", [0, 0], EPERM),
    ] {
        assert_eq!(program.of(X86_64, name, &args), answer, "{name} {args:?}");
    }
}

#[test]
fn a_rule_without_conditions_covers_its_call() {
    let refuse = r#"{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
        "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": 7}]}"#;
    let log = r#"{"names": ["chmod"], "action": "SCMP_ACT_LOG"}"#;
    let all = allow("chmod", "");
    for rules in [format!("{refuse}, {all}, {log}"), format!("{all}, {log}, {refuse}")] {
        assert_eq!(refusing(&rules).of(X86_64, "chmod", &[0, 7]), ALLOW);
    }
    // One whose action is the default says nothing.
    let nothing = r#"{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}"#;
    assert_eq!(refusing(&format!("{nothing}, {all}")).of(X86_64, "chmod", &[]), ALLOW);
}

#[test]
fn what_is_newer_than_the_profile_does_not_exist() {
    let newest = Abi::X86_64.number("clone3").unwrap();
    let rules = r#"{"names": ["read", "clone3", "no_such_call"], "action": "SCMP_ACT_ALLOW"}"#;
    let at = |program: &Compiled, number| program.answer(&Call::new(X86_64, number, &[]));
    let program = refusing(rules);
    assert_eq!(at(&program, newest), ALLOW);
    assert_eq!(at(&program, newest - 1), EPERM);
    for number in [newest + 1, 1000, X32_BIT - 1, u32::MAX] {
        assert_eq!(at(&program, number), ENOSYS, "{number}");
    }
    let with_default = |default: &str| {
        Compiled::parse(&format!(r#"{{"defaultAction": {default}, "syscalls": [{rules}]}}"#))
    };
    for (default, old, new) in [
        (r#""SCMP_ACT_ERRNO", "defaultErrnoRet": 6"#, ERRNO | 6, ENOSYS),
        (r#""SCMP_ACT_KILL""#, KILL, ENOSYS),
        (r#""SCMP_ACT_TRAP""#, TRAP, ENOSYS),
        (r#""SCMP_ACT_LOG""#, LOG, LOG),
        (r#""SCMP_ACT_TRACE""#, TRACE | 1, TRACE | 1),
    ] {
        let program = with_default(default);
        assert_eq!((at(&program, 1), at(&program, 1000)), (old, new), "{default}");
    }
    // The rules that refuse are known as well, and a profile without any says nothing of its age.
    let refused = r#"{"names": ["clone3"], "action": "SCMP_ACT_ERRNO"}"#;
    assert_eq!(at(&refusing(refused), newest), EPERM);
    assert_eq!(at(&refusing(""), 1000), EPERM);
}

#[test]
fn an_interface_that_is_not_meant_is_killed() {
    let rules = r#""syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]"#;
    let native = Compiled::parse(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {rules}}}"#));
    assert_eq!(native.of(X86_64, "mkdir", &[]), EPERM);
    assert_eq!(native.of(Abi::X86, "mkdir", &[]), KILL);
    assert_eq!(native.of(Abi::X32, "mkdir", &[]), KILL);
    assert_eq!(native.of(Abi::Aarch64, "read", &[]), KILL);
    let all = Compiled::parse(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"], {rules}}}"#
    ));
    for abi in [X86_64, Abi::X86, Abi::X32] {
        assert_eq!(all.of(abi, "mkdir", &[]), EPERM, "{abi:?}");
        assert_eq!(all.of(abi, "read", &[]), ALLOW, "{abi:?}");
    }
    assert_eq!(all.of(Abi::Aarch64, "read", &[]), KILL);
}

#[test]
fn arm_has_its_own_numbers_and_private_calls() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_ARM"],
        "syscalls": [{"names": ["openat", "set_tls"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let program = Compiled::new(&serde_json::from_str(profile).unwrap(), Abi::Aarch64);
    assert_eq!(program.of(Abi::Aarch64, "openat", &[]), ALLOW);
    assert_eq!(program.of(Abi::Aarch64, "unlinkat", &[]), EPERM);
    assert_eq!(program.of(Abi::Arm, "openat", &[]), ALLOW);
    assert_eq!(program.of(Abi::Arm, "set_tls", &[]), ALLOW);
    assert_eq!(program.of(Abi::Arm, "clone3", &[]), ENOSYS);
    assert_eq!(program.of(Abi::Arm, "cacheflush", &[]), ENOSYS);
    assert_eq!(program.of(Abi::X86_64, "openat", &[]), KILL);
}

#[test]
fn arguments_of_32_bits_are_compared_as_such() {
    let profile = |op, value: u64| {
        Compiled::parse(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"],
                "syscalls": [{}]}}"#,
            allow("setuid", &arg(0, op, value))
        ))
    };
    assert_eq!(profile("EQ", u64::MAX).of(Abi::X86, "setuid", &[0xffff_ffff]), ALLOW);
    assert_eq!(profile("NE", u64::MAX).of(Abi::X86, "setuid", &[0xffff_ffff]), EPERM);
    assert_eq!(profile("EQ", u64::MAX).of(X86_64, "setuid", &[0xffff_ffff]), EPERM);
}

#[test]
fn what_32_bit_x86_has_twice_is_refused_twice() {
    let program = Compiled::parse(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
            {"names": ["socket", "shmget"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["bind"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 2}]}]}"#,
    );
    assert_eq!(program.of(Abi::X86, "socket", &[]), EPERM);
    assert_eq!(program.of(Abi::X86, "socketcall", &[1]), EPERM);
    assert_eq!(program.of(Abi::X86, "socketcall", &[2]), ALLOW);
    assert_eq!(program.of(Abi::X86, "ipc", &[23]), EPERM);
    assert_eq!(program.of(Abi::X86, "ipc", &[1 << 16 | 23]), EPERM);
    assert_eq!(program.of(Abi::X86, "ipc", &[24]), ALLOW);
}

#[test]
fn neighbours_share_a_range_and_paths_are_short() {
    let few = allowing(r#"{"names": ["mkdir", "rmdir"], "action": "SCMP_ACT_ERRNO"}"#);
    // Architecture, number, two bounds of 83 to 84, x32 and its exception, three actions.
    assert!(few.len() <= 16, "{} instructions", few.len());
}

#[test]
fn long_programs_jump_far_enough() {
    let rules: Vec<_> = (0..190).map(|value| allow("mkdir", &arg(0, "EQ", value * 3))).collect();
    let program = refusing(&rules.join(","));
    assert!(program.len() > 700);
    for value in 0..600 {
        let answer = if value % 3 == 0 && value < 570 { ALLOW } else { EPERM };
        assert_eq!(program.of(X86_64, "mkdir", &[value]), answer, "{value}");
    }
    assert_eq!(program.of(X86_64, "rmdir", &[0]), ENOSYS);
    assert_eq!(program.of(X86_64, "read", &[0]), EPERM);
}
