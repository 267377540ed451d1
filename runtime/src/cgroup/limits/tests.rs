use super::*;

fn planned(json: &str) -> Vec<(String, String)> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    plan(&resources).unwrap().into_iter().map(|write| (write.file, write.value)).collect()
}

fn writes(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_limit_has_its_file() {
    let json = r#"{
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 20000,
                "cpus": "0-1", "mems": "0"},
        "memory": {"limit": 1000, "swap": 1500, "reservation": 500, "kernel": 9, "kernelTCP": 9,
                   "disableOOMKiller": false, "useHierarchy": true},
        "pids": {"limit": 10},
        "blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "rdma": {"mlx5_1": {"hcaHandles": 2, "hcaObjects": 2000}, "mlx4_0": {"hcaObjects": 7}},
        "unified": {"memory.high": "900", "misc.max": "sev 5\nsev_es 6", "memory.oom.group": "1"}
    }"#;
    let expected = writes(&[
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "20000"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("memory.max", "1000"),
        ("memory.swap.max", "500"),
        ("memory.low", "500"),
        ("pids.max", "10"),
        ("io.bfq.weight", "500"),
        ("io.bfq.weight", "8:0 10"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("rdma.max", "mlx4_0 hca_object=7"),
        ("rdma.max", "mlx5_1 hca_handle=2 hca_object=2000"),
        ("memory.high", "900"),
        ("memory.oom.group", "1"),
        ("misc.max", "sev 5"),
        ("misc.max", "sev_es 6"),
    ]);
    assert_eq!(planned(json), expected);
}

#[test]
fn zero_leaves_and_minus_one_lifts() {
    let json = r#"{"cpu": {"shares": 0, "quota": -1, "period": 0},
        "memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}}"#;
    let expected = writes(&[
        ("cpu.max", "max"),
        ("memory.max", "max"),
        ("memory.swap.max", "max"),
        ("pids.max", "max"),
    ]);
    assert_eq!(planned(json), expected);
    let nothing = r#"{"memory": {"limit": 0, "swap": 0}, "network": {"classID": 0},
        "cpu": {"realtimeRuntime": 0, "realtimePeriod": 0}, "blockIO": {"leafWeight": 0}}"#;
    assert_eq!(planned(nothing), []);
    assert_eq!(planned(r#"{"pids": {"limit": 0}}"#), writes(&[("pids.max", "1")]));
}

#[test]
fn shares_meet_weights_at_both_ends_and_in_the_middle() {
    let table = [
        (1, 1),
        (2, 1),
        (3, 2),
        (1024, 100),
        (262_143, 10_000),
        (262_144, 10_000),
        (999_999, 10_000),
    ];
    for (shares, weight) in table {
        assert_eq!(cpu::weight_of_shares(shares), weight, "{shares} shares");
    }
}

#[test]
fn swap_is_what_is_left_of_both() {
    for (memory, both, swap) in [
        ("1000", "1000", Some("0")),
        ("1000", "1500", Some("500")),
        ("1000", "-1", Some("max")),
        ("-1", "0", Some("max")),
        ("-1", "300", Some("300")),
        ("1000", "0", None),
        ("0", "-1", Some("max")),
    ] {
        let json = format!(r#"{{"memory": {{"limit": {memory}, "swap": {both}}}}}"#);
        let planned = planned(&json);
        let found = planned.iter().find(|(file, _)| file == "memory.swap.max");
        assert_eq!(found.map(|(_, value)| value.as_str()), swap, "{json}");
    }
}

#[test]
fn an_idle_cgroup_is_given_no_weight() {
    let typed = planned(r#"{"cpu": {"idle": 1, "shares": 512}}"#);
    assert_eq!(typed, writes(&[("cpu.idle", "1")]));
    let unified = planned(r#"{"cpu": {"shares": 512}, "unified": {"cpu.idle": "1"}}"#);
    assert_eq!(unified, writes(&[("cpu.idle", "1")]));
    let busy = planned(r#"{"cpu": {"idle": 0, "shares": 1024}}"#);
    assert_eq!(busy, writes(&[("cpu.idle", "0"), ("cpu.weight", "100")]));
}

#[test]
fn all_throttles_of_a_device_are_one_line() {
    let json = r#"{"blockIO": {
        "throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 1}, {"major": 8, "minor": 0, "rate": 2}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 3}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]}}"#;
    let expected =
        writes(&[("io.max", "8:0 rbps=2 wbps=3 riops=4 wiops=max"), ("io.max", "8:16 rbps=1")]);
    assert_eq!(planned(json), expected);
}

#[test]
fn a_weight_has_a_second_file_on_another_scale() {
    for (weight, general) in [(10, "1"), (500, "4950"), (1000, "10000")] {
        let json = format!(r#"{{"blockIO": {{"weight": {weight}}}}}"#);
        let resources: LinuxResources = serde_json::from_str(&json).unwrap();
        let absent = plan(&resources).unwrap().remove(0).absent;
        assert_eq!(absent, Absent::Instead("io.weight", general.to_owned()), "{weight}");
    }
}

#[test]
fn what_is_named_directly_has_the_last_word() {
    let json = r#"{"memory": {"limit": 1000}, "pids": {"limit": 5},
        "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2}]},
        "unified": {"memory.max": "2000", "io.max": "8:0 wbps=3"}}"#;
    let expected = writes(&[
        ("pids.max", "5"),
        ("io.max", "8:0 rbps=2"),
        ("io.max", "8:0 wbps=3"),
        ("memory.max", "2000"),
    ]);
    assert_eq!(planned(json), expected);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_field() {
    let table = [
        (r#"{"memory": {"limit": 1000, "swap": 900}}"#, "memory.swap: 900 bytes"),
        (r#"{"memory": {"swap": 900}}"#, "memory.swap: a limit"),
        (r#"{"memory": {"limit": -2}}"#, "memory.limit: -2"),
        (r#"{"memory": {"swappiness": 60}}"#, "memory.swappiness"),
        (r#"{"memory": {"disableOOMKiller": true}}"#, "memory.disableOOMKiller"),
        (r#"{"cpu": {"realtimeRuntime": 1}}"#, "cpu.realtimeRuntime"),
        (r#"{"cpu": {"realtimePeriod": 1}}"#, "cpu.realtimePeriod"),
        (r#"{"cpu": {"idle": 2}}"#, "cpu.idle: 2"),
        (r#"{"blockIO": {"weight": 5}}"#, "blockIO.weight: weight 5"),
        (r#"{"blockIO": {"leafWeight": 5}}"#, "blockIO.leafWeight"),
        (
            r#"{"blockIO": {"weightDevice": [{"major": -1, "minor": 0, "weight": 10}]}}"#,
            "blockIO.weightDevice[0]",
        ),
        (
            r#"{"blockIO": {"throttleReadIOPSDevice": [{"major": 1, "minor": 4294967296}]}}"#,
            "blockIO.throttleReadIOPSDevice[0]",
        ),
        (r#"{"hugepageLimits": [{"pageSize": "2M/", "limit": 1}]}"#, "hugepageLimits[0].pageSize"),
        (r#"{"rdma": {"a b": {"hcaHandles": 1}}}"#, "rdma[\"a b\"]"),
        (r#"{"rdma": {"mlx": {}}}"#, "rdma[\"mlx\"]"),
        (r#"{"network": {"classID": 5}}"#, "network.classID"),
        (r#"{"network": {"priorities": [{"name": "lo", "priority": 1}]}}"#, "network.priorities"),
        (r#"{"unified": {"../escape.x": "1"}}"#, "unified[\"../escape.x\"]"),
        (r#"{"unified": {"nodot": "1"}}"#, "unified[\"nodot\"]"),
        (r#"{"unified": {"cgroup.procs": "1"}}"#, "unified[\"cgroup.procs\"]: is not a limit"),
        (
            r#"{"unified": {"cgroup.subtree_control": "+cpu"}}"#,
            "unified[\"cgroup.subtree_control\"]",
        ),
    ];
    for (json, words) in table {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        match plan(&resources) {
            Err(Error::Spec(text)) => {
                assert!(text.starts_with(&format!("linux.resources.{words}")), "{text}");
            }
            other => panic!("{json}: {other:?}"),
        }
    }
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_where_that_is_asked_for() {
    let used = |json: &str| {
        let stats = super::super::Stats {
            memory_bytes: Some(1000),
            swap_bytes: Some(500),
            ..Default::default()
        };
        check_usage(&serde_json::from_str(json).unwrap(), &stats)
    };
    assert!(used(r#"{"limit": 999}"#).is_ok());
    assert!(used(r#"{"limit": 1000, "swap": 1500, "checkBeforeUpdate": true}"#).is_ok());
    assert!(used(r#"{"limit": -1, "swap": 0, "checkBeforeUpdate": true}"#).is_ok());
    for (json, field) in [
        (
            r#"{"limit": 999, "checkBeforeUpdate": true}"#,
            "linux.resources.memory.limit: rejecting memory limit 999: 1000",
        ),
        (
            r#"{"limit": 1000, "swap": 1499, "checkBeforeUpdate": true}"#,
            "linux.resources.memory.swap: rejecting memory+swap limit 1499: 1500",
        ),
    ] {
        assert!(used(json).unwrap_err().to_string().contains(field), "{json}");
    }
}
