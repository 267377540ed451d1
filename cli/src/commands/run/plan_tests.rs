use std::path::Path;

use clap::Parser;

use super::identity::Identity;
use super::options::Run;
use super::plan::{Plan, Surroundings, plan};
use super::variable::Variable;
use crate::api::runtime::*;
use crate::exit::Failure;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    run: Run,
}

/// The plan for a command line after `berth run`.
fn planned(words: &[&str]) -> Result<Plan, Failure> {
    let line = Line::try_parse_from([&["run"], words].concat()).unwrap();
    let around = Surroundings {
        identity: Identity { name: "box-1".into(), uid: "u1".into() },
        from_files: vec![Variable::from(std::ffi::OsString::from("FILE=1"))],
        directory: Path::new("/home/me"),
        environment: &|name| (name == "HOME").then(|| "/root".into()),
    };
    plan(&line.run, &around)
}

fn container(words: &[&str]) -> ContainerConfig {
    planned(words).unwrap().container
}

fn security(words: &[&str]) -> LinuxContainerSecurityContext {
    container(words).linux.unwrap().security_context.unwrap()
}

fn resources(words: &[&str]) -> LinuxContainerResources {
    container(words).linux.unwrap().resources.unwrap()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn own_namespaces() -> NamespaceOption {
    let pid = NamespaceMode::Container.into();
    NamespaceOption { pid, ..Default::default() }
}

#[test]
fn an_image_alone_becomes_an_unprivileged_container_in_a_pod_of_its_own() {
    let labels = [("created-by".to_owned(), "berth-run".to_owned())];
    let pod = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "box-1".into(),
            uid: "u1".into(),
            namespace: "berth".into(),
            attempt: 0,
        }),
        hostname: "box-1".into(),
        log_directory: "/var/log/pods/berth_box-1_u1".into(),
        labels: labels.clone().into(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(own_namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let masked = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    let read_only = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
    let container = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "box-1".into(), attempt: 0 }),
        envs: vec![KeyValue { key: "FILE".into(), value: "1".into() }],
        labels: labels.into(),
        log_path: "box-1/0.log".into(),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources::default()),
            security_context: Some(LinuxContainerSecurityContext {
                capabilities: Some(Capability::default()),
                namespace_options: Some(own_namespaces()),
                masked_paths: strings(&masked),
                readonly_paths: strings(&read_only),
                ..Default::default()
            }),
        }),
        ..Default::default()
    };
    assert_eq!(planned(&["busybox"]), Ok(Plan { pod, container }));
}

#[test]
fn words_after_the_image_take_the_place_of_its_arguments() {
    let plan = container(&["busybox", "echo", "-n"]);
    assert_eq!((plan.command, plan.args), (vec![], strings(&["echo", "-n"])));
    let plan = container(&["--entrypoint", "/bin/sh", "busybox", "-c", "true"]);
    assert_eq!((plan.command, plan.args), (strings(&["/bin/sh"]), strings(&["-c", "true"])));
    let plan = container(&["--entrypoint", "", "busybox", "ls", "/"]);
    assert_eq!((plan.command, plan.args), (strings(&["ls", "/"]), vec![]));
}

#[test]
fn limits_reach_the_container() {
    let resources = resources(&["--memory", "64m", "--cpus", "0.5", "busybox"]);
    assert_eq!(resources.memory_limit_in_bytes, 64 << 20);
    assert_eq!(resources.memory_swap_limit_in_bytes, 64 << 20);
    assert_eq!((resources.cpu_quota, resources.cpu_period), (50_000, 100_000));
}

#[test]
fn variables_of_options_follow_those_of_files() {
    let envs = container(&["-e", "A=1", "-e", "HOME", "--env", "UNSET", "busybox"]).envs;
    let pairs: Vec<_> =
        envs.iter().map(|pair| (pair.key.as_str(), pair.value.as_slice())).collect();
    assert_eq!(pairs, [("FILE", &b"1"[..]), ("A", b"1"), ("HOME", b"/root")]);
}

#[test]
fn ports_mounts_and_names_reach_pod_and_container() {
    let words = [
        "-p",
        "127.0.0.1:80:8080",
        "-v",
        "./data:/data:ro",
        "--hostname",
        "h",
        "-w",
        "/w",
        "busybox",
    ];
    let Plan { pod, container } = planned(&words).unwrap();
    let mapping = &pod.port_mappings[0];
    assert_eq!((mapping.host_port, mapping.container_port), (80, 8080));
    assert_eq!((pod.hostname.as_str(), container.working_dir.as_str()), ("h", "/w"));
    let mount = &container.mounts[0];
    assert_eq!((mount.host_path.as_str(), mount.readonly), ("/home/me/data", true));
}

#[test]
fn the_nodes_network_comes_with_its_name() {
    let Plan { pod, container } = planned(&["--network", "host", "busybox"]).unwrap();
    let of_pod = pod.linux.unwrap().security_context.unwrap().namespace_options.unwrap();
    let linux = container.linux.unwrap().security_context.unwrap();
    assert_eq!(of_pod.network(), NamespaceMode::Node);
    assert_eq!(linux.namespace_options.unwrap().network(), NamespaceMode::Node);
    assert_eq!(pod.hostname, "");
}

#[test]
fn rights_are_given_and_taken() {
    let words = ["--cap-add", "NET_ADMIN", "--cap-drop", "ALL", "--read-only", "-u", "7:8", "x"];
    let limited = security(&words);
    let capabilities = limited.capabilities.unwrap();
    assert_eq!(capabilities.add_capabilities, ["NET_ADMIN"]);
    assert_eq!(capabilities.drop_capabilities, ["ALL"]);
    assert!(limited.readonly_rootfs);
    assert_eq!(limited.run_as_user.map(|user| user.value), Some(7));

    let everything = security(&["--privileged", "x"]);
    assert!(everything.privileged && everything.masked_paths.is_empty());
    let pod = planned(&["--privileged", "x"]).unwrap().pod;
    assert!(pod.linux.unwrap().security_context.unwrap().privileged);
}

#[test]
fn what_contradicts_itself_is_refused() {
    for words in [
        &["--network", "host", "-p", "80:80", "x"][..],
        &["--network", "host", "--hostname", "h", "x"],
        &["--entrypoint", "", "x"],
        &["-e", "=1", "x"],
    ] {
        assert!(planned(words).is_err(), "{words:?}");
    }
    assert!(Line::try_parse_from(["run", "--rm", "-d", "x"]).is_err());
}
