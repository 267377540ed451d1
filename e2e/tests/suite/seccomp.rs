//! Filters of system calls as a kubelet asks for them: the default profile, one of the node, none.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_e2e::client::cri::{Capability, SecurityProfile};
use berth_e2e::client::{Code, Container, ContainerSpec, Pod, assert_refused, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Image, Layer, probe};
use berth_e2e::network;
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const EAFNOSUPPORT: i32 = 97;

/// What is refused of a default container: a name, the number and the arguments of the call, and
/// its answer.
const REFUSED: [(&str, u64, &[u64], i32); 14] = [
    ("unshare-user", 272, &[0x1000_0000], EPERM),
    ("setns", 308, &[0], EPERM),
    ("clone-user", 56, &[0x1000_0000 | 17], EPERM),
    ("clone3", 435, &[], ENOSYS),
    ("mount", 165, &[], EPERM),
    ("keyctl", 250, &[], EPERM),
    ("x32-keyctl", 1 << 30 | 250, &[], EPERM),
    ("bpf", 321, &[], EPERM),
    ("io-uring", 425, &[], EPERM),
    ("af-alg", 41, &[38, 5], EPERM),
    ("af-alg-upper-half", 41, &[1 << 32 | 38, 5], EPERM),
    ("af-vsock", 41, &[40, 1], EPERM),
    ("unknown", 1000, &[], ENOSYS),
    ("listns", 470, &[], ENOSYS),
];

/// What is not.
const ALLOWED: [(&str, u64, &[u64], i32); 4] = [
    ("af-unix", 41, &[1, 1], 0),
    ("no-family", 41, &[60, 1], EAFNOSUPPORT),
    ("personality", 135, &[0xffff_ffff], 0),
    ("futex-wake", 454, &[], 22),
];

async fn node(place: &Place) -> Result<(Node, String)> {
    let node = Node::start(place, Engine::from_env(Engine::Berthd)?).await?;
    let probes = REFUSED.iter().chain(&ALLOWED);
    let probes = probes.map(|(name, number, args, _)| probe(&format!("bin/{name}"), *number, args));
    let image = Image::busybox()?.layer(Layer::new().with_all(probes)).build()?;
    let image = node.registry.push("probes:1", &image).await?;
    node.client.pull(&image).await?;
    Ok((node, image))
}

fn profile(spec: ContainerSpec, kind: i32, path: &str) -> ContainerSpec {
    let profile = SecurityProfile { profile_type: kind, localhost_ref: path.to_owned() };
    spec.security(|security| security.seccomp = Some(profile))
}

fn localhost(spec: ContainerSpec, path: &Path) -> ContainerSpec {
    profile(spec, 2, &path.to_string_lossy())
}

fn write(place: &Place, name: &str, text: &str) -> Result<PathBuf> {
    let path = place.dir("profiles")?.join(name);
    std::fs::write(&path, text).context("write a profile")?;
    Ok(path)
}

async fn sleeper(pod: &Pod, spec: ContainerSpec) -> Result<Container> {
    Ok(pod.run(spec.cmd(["/bin/sleep", "inf"])).await?)
}

#[test]
fn the_default_profile_refuses_what_reaches_past_the_container() {
    place::native(async |place| {
        let (node, image) = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").seccomp_default()).await?;
        let app = sleeper(&pod, container("app").image(&image).seccomp_default()).await?;
        for (name, _, _, answer) in REFUSED.iter().chain(&ALLOWED) {
            assert_eq!(app.exec([name]).await?.code, *answer, "{name} of a command");
        }
        for (name, _, _, answer) in [REFUSED[0], REFUSED[3], ALLOWED[0]] {
            let spec = container(name).image(&image).cmd([name]).seccomp_default();
            let ended = pod.run(spec).await?.wait_for_exit().await?;
            assert_eq!(ended.exit_code, answer, "{name} of the first process");
        }
        // A capability brings what it is for.
        let capable = container("capable").image(&image).seccomp_default().security(|security| {
            security.capabilities = Some(Capability {
                add_capabilities: vec!["SYS_ADMIN".into()],
                ..Default::default()
            });
        });
        let capable = sleeper(&pod, capable).await?;
        for (name, answer) in [("unshare-user", 0), ("keyctl", EPERM), ("af-alg", EPERM)] {
            assert_eq!(capable.exec([name]).await?.code, answer, "{name} with CAP_SYS_ADMIN");
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Root or not, with new privileges or not: one filter, and no capability that it took.
#[test]
fn a_filter_changes_nothing_else_of_a_process() {
    place::native(async |place| {
        let (node, image) = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        for (number, (user, no_new_privs)) in
            [("root", false), ("root", true), ("alice", false), ("alice", true)]
                .into_iter()
                .enumerate()
        {
            let spec = |name: &str| {
                let spec = container(&format!("{name}-{number}")).image(&image);
                spec.security(|security| {
                    security.run_as_username = user.into();
                    security.no_new_privs = no_new_privs;
                    security.capabilities = Some(Capability {
                        add_ambient_capabilities: vec!["NET_BIND_SERVICE".into()],
                        ..Default::default()
                    });
                })
            };
            let plain = sleeper(&pod, profile(spec("plain"), 1, "")).await?;
            let filtered = sleeper(&pod, spec("filtered").seccomp_default()).await?;
            let privileges =
                "grep -hE '^(Cap|NoNewPrivs|Uid|Groups)' /proc/1/status /proc/$$/status";
            let filters = "grep -h '^Seccomp' /proc/1/status /proc/self/status";
            assert_eq!(filtered.shell(privileges).await?, plain.shell(privileges).await?);
            let of = |mode: u8, count: u8| {
                format!("Seccomp:\t{mode}\nSeccomp_filters:\t{count}\n").repeat(2)
            };
            assert_eq!(filtered.shell(filters).await?, of(2, 1), "{user} {no_new_privs}");
            assert_eq!(plain.shell(filters).await?, of(0, 0));
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_profile_of_the_node_is_applied_as_it_was_at_creation() {
    place::native(async |place| {
        let (node, image) = node(&place).await?;
        let audit = node.audit()?;
        let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 100},
            {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 55,
             "args": [{"index": 1, "value": 511, "op": "SCMP_CMP_EQ"}]},
            {"names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 55,
             "args": [{"index": 2, "value": 511, "op": "SCMP_CMP_EQ"}]},
            {"names": ["rmdir"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
        let path = write(&place, "local.json", text)?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.create(localhost(container("app").image(&image), &path).script(
            "mkdir /tmp/x; chmod 777 /tmp; chmod 1777 /tmp && echo other; rmdir /proc; echo $?",
        ));
        let app = app.await?;
        std::fs::write(&path, "{")?;
        app.start().await?;
        app.wait_for_exit().await?;
        let said: String = app.log()?.into_iter().map(|line| line.text + "\n").collect();
        for words in ["mkdir: can't create directory '/tmp/x': Network is down", "No anode"] {
            assert!(said.contains(words), "{words:?} in {said}");
        }
        assert!(said.contains("other") && said.contains("159"), "{said}");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_profile_that_makes_no_sense_is_refused_by_its_name() {
    place::native(async |place| {
        let (node, image) = node(&place).await?;
        let pod = node.client.run_pod(pod("p")).await?;
        let audit = node.audit()?;
        let half = write(&place, "half.json", "{\"defaultAction\": ")?;
        let odd = write(&place, "odd.json", "{\"defaultAction\": \"SCMP_ACT_FLY\"}")?;
        let index = write(
            &place,
            "index.json",
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
                "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#,
        )?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        for (path, why) in [
            (String::new(), "is not an absolute path"),
            ("operator/x.json".to_owned(), "is not an absolute path"),
            (text(&half) + ".gone", "No such file"),
            (text(&half), "EOF"),
            (text(&odd), "SCMP_ACT_FLY"),
            (text(&index), "linux.seccomp.syscalls[0].args[0].index: 9"),
            ("/".to_owned(), "is not a file"),
        ] {
            let spec = profile(container("odd").image(&image).cmd(["true"]), 2, &path);
            let words = [path.as_str(), why, "seccomp.localhost_ref"];
            assert_refused(pod.create(spec).await, Code::InvalidArgument, &words);
        }
        let spec = profile(container("odd").image(&image).cmd(["true"]), 7, "");
        assert_refused(pod.create(spec).await, Code::InvalidArgument, &["seccomp 7 is unknown"]);
        assert!(node.client.containers().await?.is_empty());
        audit.assert_clean().await?;
        Ok(pod.delete().await?)
    });
}

#[test]
fn the_administrator_may_have_another_default() {
    place::native(async |place| {
        let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 100}]}"#;
        let path = write(&place, "default.json", text)?;
        let config = format!("version = 1\n[runtime]\nseccomp_profile = {path:?}\n");
        let network = network::bridge(1).install(&place)?;
        let setup = Setup::new(Engine::Berthd).network(&network).config(&config);
        let node = Node::start_with(&place, setup).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).seccomp_default();
        let app = sleeper(&pod, spec).await?;
        let refused = app.exec(["mkdir", "/tmp/x"]).await?;
        assert!(refused.stderr.contains("Network is down"), "{refused:?}");
        std::fs::remove_file(&path)?;
        assert_eq!(app.exec(["mkdir", "/tmp/x"]).await?, refused);
        let spec = container("late").image(&node.image).cmd(["true"]).seccomp_default();
        let words = ["runtime.seccomp_profile", "No such file"];
        assert_refused(pod.create(spec).await, Code::FailedPrecondition, &words);
        pod.delete().await?;
        audit.assert_clean().await
    });
}
