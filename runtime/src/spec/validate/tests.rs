use super::*;

fn good() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc"}],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network"}]},
    })
}

/// Sets what is at `pointer`, making the objects on the way, or removes it.
fn with(pointer: &str, value: Option<Value>) -> Vec<u8> {
    let mut spec = good();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let mut place = &mut spec;
    for name in parent.split('/').skip(1) {
        place = match name.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[name],
        };
    }
    match (place, value) {
        (Value::Object(fields), None) => drop(fields.remove(field)),
        (place, value) => place[field] = value.unwrap(),
    }
    serde_json::to_vec(&spec).unwrap()
}

fn fault(json: &[u8]) -> String {
    parse(json).unwrap_err().to_string()
}

fn assert_faults(cases: &[(&str, Value, &str)]) {
    for (pointer, value, field) in cases {
        let text = fault(&with(pointer, Some(value.clone())));
        let expected = format!("invalid specification: {field}: ");
        assert!(text.starts_with(&expected), "{pointer} = {value}\n is: {text}\nnot: {expected}");
    }
}

#[test]
fn a_good_one_is_taken() {
    let spec = parse(&serde_json::to_vec(&good()).unwrap()).unwrap();
    assert_eq!(spec.version(), "1.2.0");
    assert_eq!(spec.mounts().as_ref().unwrap().len(), 1);
}

#[test]
fn a_number_of_processes_that_is_not_said_is_none() {
    let limit = |pids: Value| {
        let spec = parse(&with("/linux/resources", Some(json!({"pids": pids})))).unwrap();
        let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
        resources.pids().map(|pids| pids.limit())
    };
    assert_eq!(limit(json!({})), None);
    assert_eq!(limit(json!({"limit": null})), None);
    assert_eq!(limit(json!({"limit": 0})), Some(0));
    assert_eq!(limit(json!({"limit": -1})), Some(-1));
}

#[test]
fn the_template_is_a_good_one() {
    for rootless in [false, true] {
        let mut template = crate::oci::template(rootless);
        template["process"]["terminal"] = json!(false);
        parse(&serde_json::to_vec(&template).unwrap()).unwrap();
    }
}

#[test]
fn what_is_missing_is_named() {
    for (pointer, field) in [
        ("/ociVersion", "ociVersion"),
        ("/root", "root"),
        ("/root/path", "root.path"),
        ("/process", "process"),
        ("/process/cwd", "process.cwd"),
        ("/process/args", "process.args"),
        ("/mounts/0/destination", "mounts[0].destination"),
        ("/linux", "linux"),
        ("/linux/namespaces/1/type", "linux.namespaces[1].type"),
    ] {
        for value in [None, Some(Value::Null)] {
            let text = fault(&with(pointer, value));
            assert_eq!(text, format!("invalid specification: {field}: is missing"));
        }
    }
    assert_faults(&[
        ("/linux/devices", json!([{"type": "c", "major": 1, "minor": 3}]), "linux.devices[0].path"),
        (
            "/linux/devices",
            json!([{"path": "/d", "major": 1, "minor": 3}]),
            "linux.devices[0].type",
        ),
        (
            "/linux/devices",
            json!([{"path": "/d", "type": "c", "minor": 3}]),
            "linux.devices[0].major",
        ),
        (
            "/linux/devices",
            json!([{"path": "/d", "type": "b", "major": 3}]),
            "linux.devices[0].minor",
        ),
        ("/process/rlimits", json!([{"soft": 1, "hard": 1}]), "process.rlimits[0].type"),
        ("/process/rlimits", json!([{"type": "RLIMIT_CPU", "hard": 1}]), "process.rlimits[0].soft"),
        ("/process/scheduler", json!({"nice": 1}), "process.scheduler.policy"),
        ("/process/ioPriority", json!({"priority": 1}), "process.ioPriority.class"),
        ("/hooks", json!({"poststart": [{"args": ["x"]}]}), "hooks.poststart[0].path"),
        (
            "/linux/uidMappings",
            json!([{"hostID": 1, "size": 1}]),
            "linux.uidMappings[0].containerID",
        ),
        ("/linux/memoryPolicy", json!({"nodes": "0"}), "linux.memoryPolicy.mode"),
        ("/linux/personality", json!({}), "linux.personality.domain"),
        ("/linux/seccomp", json!({}), "linux.seccomp.defaultAction"),
    ]);
}

#[test]
fn wrong_types_are_named() {
    assert_faults(&[
        ("/ociVersion", json!(1), "ociVersion"),
        ("/root", json!([]), "root"),
        ("/root/readonly", json!("yes"), "root.readonly"),
        ("/process", json!("sh"), "process"),
        ("/process/args", json!("sh"), "process.args"),
        ("/process/args", json!([1]), "process.args[0]"),
        ("/process/args", json!([null]), "process.args[0]"),
        ("/process/env", json!({"A": "b"}), "process.env"),
        ("/process/user", json!({"uid": "root"}), "process.user.uid"),
        ("/process/user", json!({"uid": -1}), "process.user.uid"),
        ("/process/user", json!({"uid": 4_294_967_296_u64}), "process.user.uid"),
        ("/process/user", json!({"additionalGids": [1, "x"]}), "process.user.additionalGids[1]"),
        ("/process/terminal", json!(1), "process.terminal"),
        ("/process/capabilities", json!({"bounding": "CAP_KILL"}), "process.capabilities.bounding"),
        ("/process/capabilities", json!({"bounding": [1]}), "process.capabilities.bounding[0]"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]),
            "process.rlimits[0].type",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": -1, "hard": 1}]),
            "process.rlimits[0].soft",
        ),
        ("/process/oomScoreAdj", json!("5"), "process.oomScoreAdj"),
        ("/process/scheduler", json!({"policy": "SCHED_FAST"}), "process.scheduler.policy"),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "flags": ["X"]}),
            "process.scheduler.flags[0]",
        ),
        ("/process/ioPriority", json!({"class": "X", "priority": 1}), "process.ioPriority.class"),
        ("/process/execCPUAffinity", json!({"initial": "a"}), "process.execCPUAffinity.initial"),
        ("/mounts", json!({}), "mounts"),
        ("/mounts", json!([{"destination": 1}]), "mounts[0].destination"),
        ("/mounts/0/options", json!("ro"), "mounts[0].options"),
        ("/hostname", json!(1), "hostname"),
        ("/annotations", json!({"a": 1}), "annotations.a"),
        ("/hooks", json!({"prestart": {}}), "hooks.prestart"),
        (
            "/hooks",
            json!({"prestart": [{"path": "/x", "timeout": "1"}]}),
            "hooks.prestart[0].timeout",
        ),
        ("/linux", json!(1), "linux"),
        ("/linux/namespaces", json!([{"type": "unknown"}]), "linux.namespaces[0].type"),
        ("/linux/namespaces", json!([{"type": ""}]), "linux.namespaces[0].type"),
        ("/linux/namespaces", json!([{"type": "mnt"}]), "linux.namespaces[0].type"),
        ("/linux/namespaces", json!(["mount"]), "linux.namespaces[0]"),
        (
            "/linux/devices",
            json!([{"path": "/d", "type": "x", "major": 1, "minor": 1}]),
            "linux.devices[0].type",
        ),
        ("/linux/sysctl", json!({"net.ipv4.ip_forward": 1}), "linux.sysctl.net.ipv4.ip_forward"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_X"}), "linux.memoryPolicy.mode"),
        ("/linux/personality", json!({"domain": "BSD"}), "linux.personality.domain"),
        ("/linux/resources", json!({"memory": {"limit": "1G"}}), "linux.resources.memory.limit"),
        ("/linux/cgroupsPath", json!(7), "linux.cgroupsPath"),
        ("/linux/maskedPaths", json!("/proc"), "linux.maskedPaths"),
    ]);
}

#[test]
fn senseless_values_are_named() {
    let long = |length: usize| "x".repeat(length);
    assert_faults(&[
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("0.9.0"), "ociVersion"),
        ("/ociVersion", json!(""), "ociVersion"),
        ("/ociVersion", json!("1"), "ociVersion"),
        ("/ociVersion", json!("v1.0.0"), "ociVersion"),
        ("/root/path", json!(""), "root.path"),
        ("/root/path", json!(long(256)), "root.path"),
        ("/root/path", json!("/x".repeat(2048)), "root.path"),
        ("/root/path", json!("a\0b"), "root.path"),
        ("/process/cwd", json!(""), "process.cwd"),
        ("/process/cwd", json!("tmp"), "process.cwd"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!([""]), "process.args[0]"),
        ("/process/args", json!(["sh", "a\0"]), "process.args[1]"),
        ("/process/env", json!(["A=b", "A"]), "process.env[1]"),
        ("/process/env", json!(["=b"]), "process.env[0]"),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
        ("/process/execCPUAffinity", json!({"final": "9-1"}), "process.execCPUAffinity.final"),
        ("/hostname", json!(long(65)), "hostname"),
        ("/domainname", json!(long(65)), "domainname"),
        ("/annotations", json!({"": "x"}), "annotations"),
        ("/mounts", json!([{"destination": ""}]), "mounts[0].destination"),
        ("/mounts", json!([{"destination": "/x".repeat(2048)}]), "mounts[0].destination"),
        (
            "/linux/namespaces",
            json!([{"type": "pid"}, {"type": "pid"}]),
            "linux.namespaces[1].type",
        ),
        ("/linux/namespaces", json!([{"type": "pid", "path": "x"}]), "linux.namespaces[0].path"),
        ("/linux/cgroupsPath", json!("/a/../../b"), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!(".."), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!(format!("/a/{}", long(256))), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!("/a".repeat(3000)), "linux.cgroupsPath"),
        ("/linux/maskedPaths", json!(["/a", "b"]), "linux.maskedPaths[1]"),
        ("/linux/readonlyPaths", json!([""]), "linux.readonlyPaths[0]"),
        (
            "/linux/devices",
            json!([{"path": "d", "type": "c", "major": 1, "minor": 1}]),
            "linux.devices[0].path",
        ),
        (
            "/linux/devices",
            json!([{"path": "/d", "type": "a", "major": 1, "minor": 1}]),
            "linux.devices[0].type",
        ),
        (
            "/linux/devices",
            json!([{"path": "/d", "type": "c", "major": -1, "minor": 1}]),
            "linux.devices[0].major",
        ),
        ("/linux/sysctl", json!({"kernel.pid_max": "1"}), "linux.sysctl.kernel.pid_max"),
        ("/linux/sysctl", json!({"kernel.msgmax": "1"}), "linux.sysctl.kernel.msgmax"),
        ("/linux/mountLabel", json!("a\nb"), "linux.mountLabel"),
        ("/hooks", json!({"createRuntime": [{"path": "x"}]}), "hooks.createRuntime[0].path"),
    ]);
}

#[test]
fn a_name_needs_a_namespace() {
    let mut spec = good();
    spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
    for field in ["hostname", "domainname"] {
        let mut spec = spec.clone();
        spec[field] = json!("x");
        let text = fault(&serde_json::to_vec(&spec).unwrap());
        assert!(text.starts_with(&format!("invalid specification: {field}: ")), "{text}");
    }
}

#[test]
fn what_is_no_configuration_is_refused() {
    for text in ["", "{", "[]", "null", "1", "{\"ociVersion\": \"1.0.0\"} x", "\u{feff}{}"] {
        fault(text.as_bytes());
    }
    fault(&[b'['; 100_000]);
    fault(b"{\"a\": \"\xff\"}");
}

#[test]
fn what_others_forgive_is_forgiven() {
    let parsed = |pointer: &str, value: Value| parse(&with(pointer, Some(value))).unwrap();
    let spec = parsed("/process/user", Value::Null);
    assert_eq!(spec.process().as_ref().unwrap().user().uid(), 0);
    let sets = json!({"bounding": ["CAP_UNKNOWN", "CAP_KILL", "UNKNOWN_CAP"], "ambient": null});
    let spec = parsed("/process/capabilities", sets);
    let sets = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
    assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
    parsed("/process/execCPUAffinity", json!({"initial": "", "final": "0"}));
    let flags = json!(["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"]);
    parsed("/process/scheduler", json!({"policy": "SCHED_OTHER", "flags": flags}));
    parsed("/linux/namespaces", json!([{"type": "mount", "path": ""}]));
    parsed("/linux/devices", json!([{"path": "/fifo", "type": "p"}]));
    parsed("/ociVersion", json!("1.0.2-dev"));
    parsed("/ociVersion", json!("1.99.0+x"));
    parsed("/unknownField", json!({"x": 1}));
}

#[test]
fn a_process_to_add_is_read_alone() {
    let process = parse_process(br#"{"terminal": false, "args": ["true"], "cwd": "/"}"#).unwrap();
    assert_eq!(process.user().uid(), 0);
    for (json, field) in [
        (r#"{"args": ["true"]}"#, "process.cwd"),
        (r#"{"cwd": "/"}"#, "process.args"),
        (r#"{"cwd": "/", "args": []}"#, "process.args"),
        (r#"{"cwd": "x", "args": ["a"]}"#, "process.cwd"),
        (r#"{"cwd": "/", "args": ["a"], "user": {"uid": -1}}"#, "process.user.uid"),
    ] {
        let text = parse_process(json.as_bytes()).unwrap_err().to_string();
        assert!(text.starts_with(&format!("invalid specification: {field}: ")), "{json}: {text}");
    }
}
