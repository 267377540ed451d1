//! Any profile, any call: the program says what the profile says.

use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::seccomp::abi::{Abi, X32_BIT, names};
use crate::seccomp::default_profile;
use crate::seccomp::multiplexed::multiplexed;

const FAMILY: [(Abi, &str); 3] =
    [(Abi::X86_64, "SCMP_ARCH_X86_64"), (Abi::X86, "SCMP_ARCH_X86"), (Abi::X32, "SCMP_ARCH_X32")];

/// What a profile says of a call, read from its JSON with no regard to how fast that is.
fn naive(profile: &Value, call: &Call) -> u32 {
    let x32 = call.audit == Abi::X86_64.audit() && call.number >= X32_BIT;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let default = action(profile, "defaultAction", "defaultErrnoRet");
    let meant = |name: &str| list(&profile["architectures"]).contains(&json!(name));
    let abi = FAMILY.iter().find(|(abi, _)| abi.audit() == call.audit && (*abi == Abi::X32) == x32);
    let newer = match default >> 16 {
        0x7fff | 0x7ffc | 0x7ff0 => default,
        _ => ENOSYS,
    };
    let Some((abi, _)) = abi.filter(|(abi, name)| *abi == Abi::X86_64 || meant(name)) else {
        return if x32 && call.number == u32::MAX { newer } else { KILL };
    };
    let rules = list(&profile["syscalls"]);
    let numbers = |rule: &Value| -> Vec<u32> {
        list(&rule["names"]).iter().filter_map(|name| abi.number(name.as_str()?)).collect()
    };
    let newest = rules.iter().flat_map(numbers).filter(|number| *number < abi.timeless()).max();
    let counts = |rule: &&Value| {
        action(rule, "action", "errnoRet") != default && numbers(rule).contains(&call.number)
    };
    if !rules.iter().any(|rule| counts(&rule)) {
        return if newest.is_some_and(|newest| call.number > newest) { newer } else { default };
    }
    let is_total = |rule: &&Value| list(&rule["args"]).is_empty();
    let total = rules.iter().filter(counts).find(is_total);
    let holds = |rule: &&Value| {
        let args = list(&rule["args"]);
        let mut indexes: Vec<_> = args.iter().map(|arg| arg["index"].as_u64()).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mut each = args.iter().map(|arg| condition(arg, call, *abi == Abi::X86));
        if indexes.len() < args.len() { each.any(|holds| holds) } else { each.all(|holds| holds) }
    };
    let rule = total.or_else(|| rules.iter().filter(counts).find(holds));
    rule.map_or(default, |rule| action(rule, "action", "errnoRet"))
}

fn action(of: &Value, name: &str, errno: &str) -> u32 {
    let errno = of[errno].as_u64().map_or(1, |errno| u32::try_from(errno).unwrap());
    match of[name].as_str().unwrap() {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_TRACE" => TRACE | errno,
        "SCMP_ACT_ERRNO" => ERRNO | errno,
        other => panic!("{other}"),
    }
}

fn condition(arg: &Value, call: &Call, narrow: bool) -> bool {
    let cut = |value: u64| if narrow { value & u64::from(u32::MAX) } else { value };
    let actual = cut(call.args[usize::try_from(arg["index"].as_u64().unwrap()).unwrap()]);
    let value = cut(arg["value"].as_u64().unwrap());
    let second = arg["valueTwo"].as_u64().unwrap_or(0);
    match arg["op"].as_str().unwrap() {
        "SCMP_CMP_EQ" => actual == value,
        "SCMP_CMP_NE" => actual != value,
        "SCMP_CMP_LT" => actual < value,
        "SCMP_CMP_LE" => actual <= value,
        "SCMP_CMP_GT" => actual > value,
        "SCMP_CMP_GE" => actual >= value,
        "SCMP_CMP_MASKED_EQ" => actual & value == second & value,
        other => panic!("{other}"),
    }
}

/// Values that are near each other in each half.
fn values() -> impl Strategy<Value = u64> {
    let half = prop_oneof![
        0..4_u64,
        Just(u64::from(u32::MAX)),
        Just(u64::from(u32::MAX) - 1),
        0..1_u64 << 32
    ];
    (half.clone(), half).prop_map(|(high, low)| high << 32 | low)
}

/// Few calls, so that rules meet; neighbours, so that ranges do.
fn call_names() -> impl Strategy<Value = String> {
    let some = [
        "read",
        "write",
        "open",
        "close",
        "mkdir",
        "rmdir",
        "creat",
        "clone",
        "ioctl",
        "personality",
        "mseal",
        "keyctl",
        "no_such_call",
    ];
    let all: Vec<_> = names().filter(|name| !is_twice(name)).collect();
    prop_oneof![4 => proptest::sample::select(some.to_vec()), 1 => proptest::sample::select(all)]
        .prop_map(str::to_owned)
}

fn actions() -> impl Strategy<Value = (&'static str, Option<u32>)> {
    let plain = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"];
    let with_errno = prop_oneof![Just("SCMP_ACT_ERRNO"), Just("SCMP_ACT_TRACE")];
    prop_oneof![
        proptest::sample::select(plain.to_vec()).prop_map(|action| (action, None)),
        (with_errno, proptest::option::of(0..3_u32)),
    ]
}

fn arguments() -> impl Strategy<Value = Value> {
    let ops = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];
    let op = proptest::sample::select(ops.to_vec());
    (0..3_u8, op, values(), proptest::option::of(values())).prop_map(|(index, op, value, second)| {
        json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": second})
    })
}

fn profiles() -> impl Strategy<Value = Value> {
    let args = prop_oneof![Just(Vec::new()), proptest::collection::vec(arguments(), 0..4)];
    let rule = (proptest::collection::vec(call_names(), 1..6), actions(), args).prop_map(
        |(names, (action, errno), args)| {
            json!({"names": names, "action": action, "errnoRet": errno, "args": args})
        },
    );
    let archs = proptest::sample::subsequence(FAMILY.map(|(_, name)| name).to_vec(), 0..=3);
    (actions(), archs, proptest::collection::vec(rule, 0..20)).prop_map(
        |((action, errno), architectures, rules)| {
            json!({"defaultAction": action, "defaultErrnoRet": errno,
                "architectures": architectures, "syscalls": rules})
        },
    )
}

fn calls() -> impl Strategy<Value = Call> {
    let abi = proptest::sample::select(FAMILY.map(|(abi, _)| abi).to_vec());
    let named = (abi.clone(), call_names())
        .prop_filter_map("no number", |(abi, name)| Some((abi.audit(), abi.number(&name)?)));
    let near = (abi, 0..480_u32).prop_map(|(abi, number)| (abi.audit(), number | abi.first()));
    let any = (prop_oneof![Just(Abi::X86_64.audit()), any::<u32>()], any::<u32>());
    let edge = Just((Abi::X86_64.audit(), u32::MAX));
    let number = prop_oneof![8 => named, 4 => near, 1 => any, 1 => edge];
    (number, proptest::array::uniform6(values())).prop_map(|((audit, number), args)| Call {
        audit,
        number,
        args,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_program_says_what_its_profile_says(
        profile in profiles(),
        calls in proptest::collection::vec(calls(), 40),
    ) {
        let parsed: LinuxSeccomp = serde_json::from_value(profile.clone()).unwrap();
        let program = Compiled::new(&parsed, Abi::X86_64);
        for call in calls {
            // Arguments of a 32-bit process have no upper half.
            let mut call = call;
            if call.audit == Abi::X86.audit() {
                call.args = call.args.map(|arg| arg & u64::from(u32::MAX));
            }
            prop_assert_eq!(program.answer(&call), naive(&profile, &call), "{:?}", call);
        }
    }

    #[test]
    fn the_default_profile_is_what_is_loaded(
        capabilities in any::<u64>(),
        calls in proptest::collection::vec(calls(), 40),
    ) {
        let profile = default_profile(capabilities);
        let program = Compiled::new(&profile, Abi::X86_64);
        prop_assert!(program.len() < 1000, "{} instructions", program.len());
        let json = serde_json::to_value(&profile).unwrap();
        for call in calls.iter().filter(|call| call.audit == Abi::X86_64.audit()) {
            prop_assert_eq!(program.answer(call), naive(&json, call), "{:?}", call);
        }
    }
}

/// What 32-bit x86 has twice is told elsewhere.
fn is_twice(name: &str) -> bool {
    multiplexed(Abi::X86, name).is_some()
}
