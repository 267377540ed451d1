//! Profiles that make no sense, and what a plan says of those that do.

use std::path::Path;

use oci_spec::runtime::Spec;

use crate::seccomp::{Context, Filter, Filters, known, plan};

fn error(rest: &str) -> String {
    let profile = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW"{rest}}}"#);
    let profile = profile.replace(r#""SCMP_ACT_ALLOW", "defaultAction": "#, "");
    Filter::compile(&serde_json::from_str(&profile).unwrap()).unwrap_err().to_string()
}

#[test]
fn what_makes_no_sense_is_named() {
    let rule = |rest: &str| format!(r#", "syscalls": [{{"names": ["mkdir"], {rest}}}]"#);
    let notify = r#""action": "SCMP_ACT_NOTIFY""#;
    let path = r#", "listenerPath": "/run/agent.sock""#;
    for (rest, words) in [
        (r#", "defaultAction": "SCMP_ACT_NOTIFY""#.to_owned(), "linux.seccomp.defaultAction"),
        (r#", "defaultErrnoRet": 1"#.to_owned(), "linux.seccomp.defaultErrnoRet"),
        (rule(r#""action": "SCMP_ACT_ERRNO", "errnoRet": 4096"#), "syscalls[0].errnoRet: 4096"),
        (rule(r#""action": "SCMP_ACT_KILL", "errnoRet": 1"#), "syscalls[0].errnoRet"),
        (
            rule(
                r#""action": "SCMP_ACT_ERRNO",
                   "args": [{"index": 6, "op": "SCMP_CMP_EQ", "value": 1}]"#,
            ),
            "syscalls[0].args[0].index: 6",
        ),
        (rule(notify), "linux.seccomp.listenerPath: it is missing"),
        (
            rule(notify) + r#", "listenerPath": "@abstract""#,
            "linux.seccomp.listenerPath: \"@abstract\" is not an absolute path",
        ),
        (
            rule(notify).replace("mkdir", "read\", \"write") + path,
            "syscalls[0].names[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (rule(notify).replace("mkdir", "sendmsg") + path, "cannot be used for the sendmsg"),
        (rule(notify).replace("\"mkdir\"", "") + path, "syscalls[0].names: it is empty"),
        (rule(notify).replace("mkdir", "") + path, "syscalls[0].names[0]: it is empty"),
        (r#", "listenerMetadata": "x""#.to_owned(), "linux.seccomp.listenerMetadata"),
        (
            r#", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#.to_owned(),
            "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs",
        ),
    ] {
        let error = error(&rest);
        assert!(error.contains(words), "{error:?} for {rest}");
    }
}

#[test]
fn a_filter_that_the_kernel_would_not_take_is_refused() {
    let rule = |value: u32| {
        format!(
            r#"{{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{{"index": 0, "op": "SCMP_CMP_EQ", "value": {value}}}]}}"#
        )
    };
    let rules: Vec<_> = (0..1100).map(rule).collect();
    let error = error(&format!(r#", "syscalls": [{}]"#, rules.join(",")));
    assert!(error.contains("linux.seccomp: ") && error.contains("4096"), "{error}");
}

#[test]
fn flags_are_the_kernels() {
    let flags = |rest: &str| {
        let profile = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW"{rest}}}"#);
        Filter::compile(&serde_json::from_str(&profile).unwrap()).unwrap().flags
    };
    assert_eq!(flags(""), 4);
    assert_eq!(flags(r#", "flags": []"#), 0);
    assert_eq!(flags(r#", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"]"#), 0);
    let both = r#", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]"#;
    assert_eq!(flags(both), 6);
    let notify = r#", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "listenerPath": "/a",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]"#;
    assert_eq!(flags(notify), 40);
}

#[test]
fn an_agent_is_told_whose_calls_they_are() {
    let spec: Spec = serde_json::from_str(
        r#"{"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "annotations": {"a": "b"},
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/a.sock",
            "listenerMetadata": "say \"hi\"", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}}}"#,
    )
    .unwrap();
    let filters = Filters::default();
    let mut context = Context {
        filters: &filters,
        by_default: true,
        id: "web",
        bundle: Path::new("/bundles/web"),
        first: None,
    };
    let told = |context: &Context<'_>| -> serde_json::Value {
        let agent = plan(&spec, 0, context).unwrap().unwrap().agent.unwrap();
        assert_eq!(agent.path, "/run/a.sock");
        serde_json::from_str(&agent.state.join("42")).unwrap()
    };
    let expected = |status: &str, first: i32| {
        serde_json::json!({
            "ociVersion": "1.2.0", "fds": ["seccompFd"], "pid": 42, "metadata": "say \"hi\"",
            "state": {"ociVersion": "1.2.0", "id": "web", "status": status, "pid": first,
                "bundle": "/bundles/web", "annotations": {"a": "b"}},
        })
    };
    assert_eq!(told(&context), expected("creating", 42));
    context.first = Some(7);
    assert_eq!(told(&context), expected("running", 7));
}

#[test]
fn a_profile_is_compiled_once() {
    let filters = Filters::default();
    let profile = |errno: u32| {
        let text = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": {errno}}}"#);
        serde_json::from_str(&text).unwrap()
    };
    let first = filters.of(&profile(1)).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &filters.of(&profile(1)).unwrap()));
    assert_ne!(first, filters.of(&profile(2)).unwrap());
    (3..200).for_each(|errno| drop(filters.of(&profile(errno)).unwrap()));
    assert!(filters.named.lock().unwrap().len() <= super::super::KEPT);
    let (chown, admin) = (1, 1 << 21);
    let default = filters.of_default(chown).unwrap();
    assert!(std::sync::Arc::ptr_eq(&default, &filters.of_default(0).unwrap()));
    assert_ne!(default, filters.of_default(admin).unwrap());
}

#[test]
fn all_words_are_known_to_the_parser() {
    let known = known();
    for action in known.actions {
        let _: oci_spec::runtime::LinuxSeccompAction = action.parse().unwrap();
    }
    for operator in known.operators {
        let _: oci_spec::runtime::LinuxSeccompOperator = operator.parse().unwrap();
    }
    for flag in known.flags {
        let _: oci_spec::runtime::LinuxSeccompFilterFlag = flag.parse().unwrap();
    }
    assert!(known.archs.iter().all(|arch| arch.starts_with("SCMP_ARCH_")));
}
