//! Specifications in, configurations and errands out.

use super::*;

const SPEC: &str = r#"{"ociVersion": "1.3.0", "root": {"path": "", "readonly": true},
    "process": {"user": {"uid": 1, "gid": 2}, "args": ["a"], "cwd": "/", "oomScoreAdj": -7},
    "mounts": [{"destination": "/dev/shm", "type": "bind", "source": "/proc/42/root/shm"},
        {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "rro"]}],
    "linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/proc/42/ns/net"},
            {"type": "ipc", "path": "/proc/43/ns/ipc"}],
        "resources": {"memory": {"limit": 1000}, "devices": [{"allow": false, "access": "rwm"}]}}}"#;

struct Case {
    oci: Spec,
    env: Vec<Vec<u8>>,
    rootfs: Rootfs,
    cgroup: CgroupPath,
    members: Vec<Member>,
    lowest_oom_score: Option<i32>,
}

impl Case {
    fn new() -> Self {
        Self {
            oci: serde_json::from_str(SPEC).unwrap(),
            env: vec![b"A=b c".to_vec()],
            rootfs: Rootfs::Overlay {
                lowers: vec!["/l/1/fs".into()],
                upper: "/s/upper".into(),
                work: "/s/work".into(),
            },
            cgroup: CgroupPath::parse("/pod/c1").unwrap(),
            members: vec![Member { key: "pause".to_owned(), pid: 42 }],
            lowest_oom_score: None,
        }
    }

    fn order(&self) -> Order<'_> {
        Order {
            id: "c1",
            oci: &self.oci,
            env: &self.env,
            rootfs: &self.rootfs,
            cgroup: &self.cgroup,
            members: &self.members,
            lowest_oom_score: self.lowest_oom_score,
        }
    }

    fn contents(&self) -> Result<Contents, Error> {
        Bundle::of(Path::new("/b"), "c1").contents(&self.order(), &runtime())
    }

    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self.contents().unwrap().config).unwrap()
    }
}

fn runtime() -> Runtime {
    Runtime::new("r", "/bin/r".into(), Vec::new(), "/state".into())
}

#[test]
fn what_is_of_a_member_is_found_in_the_bundle() {
    let case = Case::new();
    let errand = case.contents().unwrap().errand;
    let pin = Pin { of: 0, name: "net".to_owned(), at: "/b/c1/ns/net".to_owned() };
    assert_eq!(errand.pins, [pin]);
    let shm = Shared { of: 0, path: "/shm".to_owned() };
    assert_eq!(errand.shares, [Share { what: Some(shm), at: "/b/c1/shm".to_owned() }]);
    let config = case.config();
    assert_eq!(config["linux"]["namespaces"][1]["path"], "/b/c1/ns/net");
    assert_eq!(config["linux"]["namespaces"][2]["path"], "/proc/43/ns/ipc");
    assert_eq!(config["mounts"][0]["source"], "/b/c1/shm");
    assert_eq!(config["mounts"][1]["source"], "/srv");
}

#[test]
fn limits_are_ours_and_devices_are_said_twice() {
    let config = Case::new().config();
    let resources = config["linux"]["resources"].as_object().unwrap();
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["devices"]);
    assert_eq!(resources["devices"][0]["allow"], false);
    assert!(resources["devices"].as_array().unwrap().len() > 5, "those of every container");
    assert_eq!(config["linux"]["cgroupsPath"], "/pod/c1");
}

#[test]
fn the_runtime_gets_a_version_that_it_takes_and_the_environment() {
    let config = Case::new().config();
    assert_eq!(config["ociVersion"], "1.0.2");
    assert_eq!(config["root"], serde_json::json!({"path": "rootfs", "readonly": true}));
    assert_eq!(config["process"]["env"], serde_json::json!(["A=b c"]));
    assert_eq!(config["process"]["oomScoreAdj"], -7);
    let bad = Case { env: vec![b"A=b".to_vec(), b"B=\xff".to_vec()], ..Case::new() };
    let error = bad.contents().unwrap_err().to_string();
    assert!(error.contains("process.env[1]: is not UTF-8"), "{error}");
    let bounded = Case { lowest_oom_score: Some(3), ..Case::new() };
    assert_eq!(bounded.config()["process"]["oomScoreAdj"], 3);
}

#[test]
fn a_container_is_created_and_then_started() {
    let contents = Case::new().contents().unwrap();
    let errand = contents.errand(Path::new("/run")).unwrap();
    let global = "/bin/r --root /state --log /b/c1/log --log-format json";
    let create = format!("{global} create --bundle /b/c1 --pid-file /b/c1/pid c1");
    assert_eq!(errand.create.join(" "), create);
    assert_eq!(errand.start.join(" "), format!("{global} start c1"));
    assert_eq!((errand.cut_off.as_str(), errand.console.as_str()), ("/run", ""));
}

#[test]
fn a_terminal_comes_over_a_socket() {
    let mut case = Case::new();
    let mut process = case.oci.process().clone().unwrap();
    process.set_terminal(Some(true));
    case.oci.set_process(Some(process));
    let errand = case.contents().unwrap().errand;
    assert_eq!(errand.console, "/b/c1/tty");
    assert!(errand.create.join(" ").contains("--console-socket /b/c1/tty c1"));
}

#[test]
fn a_command_is_added_in_a_cgroup_of_its_own_where_the_runtime_can() {
    let directory = tempfile::tempdir().unwrap();
    let (case, bundle) = (Case::new(), Bundle::of(directory.path(), "c1"));
    bundle.make(&bundle.contents(&case.order(), &runtime()).unwrap()).unwrap();
    for (exec_cgroup, expected) in [(true, true), (false, false)] {
        let runtime = Runtime { exec_cgroup, ..runtime() };
        let exec = bundle.exec(&case.order(), &runtime, "exec-1", vec!["x".to_owned()]).unwrap();
        let words = exec.errand.create.join(" ");
        assert_eq!(words.contains("--cgroup exec-1"), expected, "{words}");
        assert!(exec.errand.root.is_none() && exec.errand.start.is_empty());
        let file = bundle.directory.join("exec-1.json");
        let process: Process = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(process.args().as_deref(), Some(&["x".to_owned()][..]));
        exec.clean();
        assert!(!file.exists());
    }
    bundle.remove().unwrap();
    bundle.remove().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
