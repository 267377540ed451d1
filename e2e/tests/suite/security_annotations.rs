//! T-ANN: labels, annotations, sysctls, names and images are data. Nothing of them is obeyed but
//! what the CRI has a field for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use berth_e2e::client::cri::NamespaceMode;
use berth_e2e::client::{Code, Container, assert_refused, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::image::{Compression, Image};
use berth_e2e::node::Node;
use berth_e2e::oci::Oci;
use berth_e2e::place;
use serde_json::json;

/// What one engine or another obeys, or has obeyed.
const KEYS: [&str; 24] = [
    "io.containerd.runc.v2.group",
    "containerd.io/restart.loguri",
    "containerd.io/restart.status",
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri-o.Devices",
    "io.kubernetes.cri-o.ShmSize",
    "io.kubernetes.cri-o.userns-mode",
    "io.kubernetes.cri-o.LinkLogs",
    "io.kubernetes.cri-o.UnifiedCgroup.app",
    "io.kubernetes.cri-o.PodLinuxOverhead",
    "io.kubernetes.cri-o.seccompNotifierAction",
    "org.systemd.property.ExecStart",
    "org.systemd.property.MemoryMax",
    "org.systemd.property.CollectMode",
    "run.oci.hooks.stderr",
    "run.oci.systemd.subgroup",
    "run.oci.keep_original_groups",
    "run.oci.mount_context_type",
    "cdi.k8s.io/vendor.com_device",
    "module.wasm.image/variant",
    "nri.io/container.app",
    "cpu-load-balancing.crio.io",
    "irq-load-balancing.crio.io",
    "berth.io/privileged",
];
const VALUES: [&str; 8] = [
    "binary:///bin/touch?/canary",
    "/dev/mem:/dev/mem:rwm",
    "['/bin/touch', '/canary']",
    "private:uidmapping=0:0:4294967295",
    "vendor.com/device=all",
    "unlimited",
    "../../../../etc",
    "disable",
];

/// Thousands of keys: each of the list, with endings and beginnings that look alike, and for a pod
/// and for one of its containers.
fn corpus() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for key in KEYS {
        for (number, value) in VALUES.iter().cycle().take(420).enumerate() {
            let key = match number {
                0 => key.to_owned(),
                1 => format!("{key}/app"),
                2 => format!("{key}.app"),
                3 => format!("{key}x"),
                4 => format!("x{key}"),
                5 => key.to_uppercase(),
                _ => format!("{key}.{number}"),
            };
            all.insert(key, (*value).to_owned());
        }
    }
    all
}

/// All that annotations have ever changed somewhere.
const LOOK: &str = "env | sort; id; cut -d ' ' -f 4- /proc/1/mountinfo | \
    sed 's/[0-9a-f]\\{64\\}/ID/g; s/ [0-9]* - / - /; s/\\(lower\\|upper\\|work\\)dir=[^ ]*//; \
    s/lowerdir+=[^ ]*//g'; \
    grep -E '^(Uid|Gid|Groups|Cap|NoNew|Seccomp|Speculation|Cpus_allowed|Mems)' /proc/1/status; \
    cat /proc/1/limits /proc/1/oom_score_adj; cat /proc/1/cgroup | sed 's/[0-9a-f]\\{64\\}/ID/g'; \
    ls -l /dev | sed 's/.* \\(root\\)/\\1/' | cut -d ' ' -f 1-4; df -k /dev/shm; \
    cat /proc/1/uid_map; ls -d /canary";

/// T-ANN-1.
#[test]
fn no_annotation_and_no_label_is_obeyed() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let corpus = corpus();
        assert!(corpus.len() >= 10_000, "{}", corpus.len());
        let mut builder = Image::busybox()?.compression(Compression::None);
        // Those of an image come from a stranger (CVE-2026-53488).
        for (key, value) in corpus.iter().step_by(10) {
            builder = builder.label(key, value);
        }
        let labelled = node.registry.push("labelled:1", &builder.build()?).await?;
        node.client.pull(&labelled).await?;
        let audit = node.audit()?;
        let mut seen = Vec::new();
        for (image, noisy) in [(&node.image, false), (&node.image, true), (&labelled, true)] {
            let noise = || if noisy { corpus.clone() } else { BTreeMap::new() };
            let spec = pod("p").with(|config| config.annotations = noise().into_iter().collect());
            let spec = spec.with(|config| config.labels = noise().into_iter().collect());
            let spec = spec.with(|config| {
                config.metadata.get_or_insert_default().uid = "the-same".to_owned();
            });
            let pod = node.client.run_pod(spec).await?;
            let spec = container("app").image(image).cmd(["/bin/sleep", "inf"]).with(|config| {
                config.annotations = noise().into_iter().collect();
                config.labels = noise().into_iter().collect();
            });
            let app = pod.run(spec).await?;
            if noisy {
                let told = app.status().await?;
                assert_eq!(told.annotations.len(), corpus.len(), "they are kept, for who asks");
            }
            seen.push(app.exec(["/bin/sh", "-c", LOOK]).await?.stdout);
            pod.delete().await?;
        }
        for other in &seen[1..] {
            for (one, other) in seen[0].lines().zip(other.lines()) {
                assert_eq!(one, other);
            }
            assert_eq!(seen[0].lines().count(), other.lines().count());
        }
        assert!(seen[0].lines().count() > 60, "{}", seen[0]);
        audit.assert_clean().await
    });
}

/// The same of a bundle, whose annotations come from an engine.
#[test]
fn no_annotation_of_a_bundle_is_obeyed() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let annotations: BTreeMap<_, _> = corpus().into_iter().step_by(20).collect();
        let bundle = oci.bundle("a")?;
        let plain = oci.script(bundle.clone(), &format!("{LOOK}; true")).await?;
        let noisy = bundle.set("/annotations", json!(annotations));
        assert_eq!(oci.script(noisy, &format!("{LOOK}; true")).await?, plain);
        oci.assert_clean().await
    });
}

/// All kernel parameters of this place, but those that change by themselves.
fn parameters() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for dir in ["kernel", "fs/mqueue", "net/ipv4", "net/core", "vm"] {
        let mut dirs = vec![Path::new("/proc/sys").join(dir)];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
                let path = entry?.path();
                let name = path.display().to_string();
                let moving = ["random", "_state", "ns_last_pid", "stat_refresh", "compact", "pty"];
                // Network interfaces come and go.
                let of_interface = ["/conf/", "/neigh/"].iter().any(|part| name.contains(part))
                    && !["/all", "/default"].iter().any(|part| name.contains(part));
                if path.is_dir() {
                    dirs.push(path);
                } else if of_interface {
                } else if !moving.iter().any(|part| name.contains(part))
                    && let Ok(value) = fs::read_to_string(&path)
                {
                    found.insert(name, value);
                }
            }
        }
    }
    Ok(found)
}

/// Fails with the first parameter that is not what it was.
fn assert_same(before: &BTreeMap<String, String>, when: &str) -> Result<()> {
    for (name, value) in parameters()? {
        assert_eq!(before.get(&name), Some(&value), "{name}, {when}");
    }
    Ok(())
}

/// Names that are the node's, or nobody's, and what is in their way: each must be refused, and is
/// sent with the value that the node has already, should it not be.
const SYSCTLS: [&str; 20] = [
    "kernel.core_pattern",
    "kernel/core_pattern",
    "net.ipv4.ip_forward/../../../kernel/core_pattern",
    "net/../kernel/core_pattern",
    "net/./core/somaxconn",
    "../sys/kernel/core_pattern",
    "/proc/sys/kernel/core_pattern",
    "net..core.somaxconn",
    "net.core.somaxconn.",
    ".net.core.somaxconn",
    "net",
    "",
    "net.core.somaxconn\0",
    "kernel.shm_rmid_forced+kernel.core_pattern",
    "kernel.shmmax=1+kernel.core_pattern",
    "kernel.hostname",
    "vm.overcommit_memory",
    "fs.mqueuex.msg_max",
    "fs.binfmt_misc.register",
    "user.max_user_namespaces",
];

/// The value of a parameter that is named as it should be.
fn now(name: &str) -> String {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
}

/// The value that a parameter has on the node.
fn present(name: &str) -> String {
    let path =
        ["core_pattern", "somaxconn", "hostname", "overcommit_memory", "max_user_namespaces"]
            .iter()
            .find(|known| name.contains(*known))
            .map_or("", |known| match *known {
                "somaxconn" => "net/core/somaxconn",
                "overcommit_memory" => "vm/overcommit_memory",
                "max_user_namespaces" => "user/max_user_namespaces",
                "hostname" => "kernel/hostname",
                _ => "kernel/core_pattern",
            });
    let value = fs::read_to_string(Path::new("/proc/sys").join(path)).unwrap_or_default();
    value.trim_end().to_owned()
}

/// T-ANN-2: CVE-2022-0811, CVE-2022-0532.
#[test]
fn no_sysctl_of_a_pod_reaches_the_node() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let before = parameters()?;
        for name in SYSCTLS {
            let refused = node.client.run_pod(pod("p").sysctl(name, &present(name))).await;
            assert_refused(refused, Code::InvalidArgument, &["config.linux.sysctls"]);
        }
        let host = |kind: &str| {
            let kind = kind.to_owned();
            pod("p").namespaces(move |options| match kind.as_str() {
                "network" => options.network = NamespaceMode::Node.into(),
                _ => options.ipc = NamespaceMode::Node.into(),
            })
        };
        for (kind, name) in [
            ("network", "net.core.somaxconn"),
            ("network", "net/ipv4/ip_forward"),
            ("ipc", "kernel.shm_rmid_forced"),
            ("ipc", "fs.mqueue.msg_max"),
        ] {
            let refused = node.client.run_pod(host(kind).sysctl(name, &now(name))).await;
            assert_refused(refused, Code::InvalidArgument, &[name]);
        }
        // What could be split by somebody who is careless is one value, and the kernel's to judge.
        for value in ["1+kernel.core_pattern=x", "1=kernel.core_pattern=x", "1 kernel", "x"] {
            // A bridge would change parameters of the node by itself.
            let spec = pod("p").host_network().sysctl("kernel.shm_rmid_forced", value);
            let tried = node.client.run_pod(spec).await;
            if let Ok(pod) = tried {
                pod.delete().await?;
            }
            assert_same(&before, value)?;
        }
        let lines = pod("p").sysctl("kernel.shm_rmid_forced", "1\nkernel.core_pattern=x");
        assert_refused(node.client.run_pod(lines).await, Code::InvalidArgument, &["lines"]);
        assert_same(&before, "afterwards")?;
        audit.assert_clean().await
    });
}

/// The same of a bundle, for each way to share a namespace with the node.
#[test]
fn no_sysctl_of_a_bundle_reaches_the_node() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let before = parameters()?;
        let bundle = oci.bundle("a")?.script("echo ran");
        let all = bundle.spec["linux"]["namespaces"].as_array().context("a list")?.clone();
        let without = |kind: &str, path: Option<&str>| {
            let mut list: Vec<_> = all.iter().filter(|one| one["type"] != kind).cloned().collect();
            list.extend(path.map(|path| json!({"type": kind, "path": path})));
            // The name of the host would be refused first.
            bundle.clone().unset("/hostname").set("/linux/namespaces", json!(list))
        };
        let refused = async |bundle: berth_e2e::oci::Bundle, name: &str, value: &str| {
            let sysctl = BTreeMap::from([(name, value)]);
            let output = oci.run(&bundle.set("/linux/sysctl", json!(sysctl))).await?;
            assert!(output.code != 0 && output.stdout.is_empty(), "{name}={value}: {output:?}");
            assert!(output.stderr.contains("sysctl"), "{name}: {output:?}");
            anyhow::Ok(())
        };
        for name in SYSCTLS {
            refused(bundle.clone(), name, &present(name)).await?;
        }
        refused(bundle.clone(), "net.core.somaxconn", "1\0").await?;
        for (kind, name) in [
            ("network", "net.core.somaxconn"),
            ("ipc", "kernel.shm_rmid_forced"),
            ("ipc", "fs.mqueue.msg_max"),
            ("uts", "kernel.domainname"),
        ] {
            let link = match kind {
                "network" => "net",
                other => other,
            };
            refused(without(kind, None), name, &now(name)).await?;
            refused(without(kind, Some(&format!("/proc/self/ns/{link}"))), name, &now(name))
                .await?;
            refused(without(kind, Some(&format!("/proc/1/ns/{link}"))), name, &now(name)).await?;
        }
        assert_same(&before, "afterwards")?;
        let own = json!({"net.core.somaxconn": "77", "kernel.shm_rmid_forced": "1"});
        let own = bundle.clone().set("/linux/sysctl", own);
        let look = "cd /proc/sys; cat net/core/somaxconn kernel/shm_rmid_forced";
        assert_eq!(oci.script(own, look).await?, "77\n1\n");
        assert_same(&before, "afterwards")?;
        oci.assert_clean().await
    });
}

/// T-ANN-3, for what is in the way of a log. `containers_refused` and `logs_files` have names that
/// lead elsewhere, and links.
#[test]
fn a_log_is_a_file_or_is_refused() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let logs = pod.log_dir();
        let elsewhere = place.dir("elsewhere")?;
        fs::create_dir(logs.join("dir.log"))?;
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, logs.join("fifo.log"), fifo, mode, 0)?;
        symlink(elsewhere.join("made"), logs.join("link.log"))?;
        symlink(&elsewhere, logs.join("out"))?;
        for (number, log) in
            ["dir.log", "fifo.log", "link.log", "out/x.log"].into_iter().enumerate()
        {
            let spec = container(&format!("c{number}")).image(&node.image).cmd(["true"]);
            let spec = spec.with(|config| config.log_path = log.to_owned());
            let tried = tokio::time::timeout(Duration::from_secs(20), pod.run(spec)).await;
            let told = tried.with_context(|| format!("{log}: it hangs"))?;
            assert!(told.is_err(), "{log} is no file of the pod's");
        }
        assert_eq!(fs::read_dir(&elsewhere)?.count(), 0);
        let long = "x".repeat(200);
        let spec = container("long").image(&node.image).script("echo logged");
        let spec = spec.with(|config| config.log_path = format!("{long}/{long}.log"));
        let app = pod.run(spec).await?;
        app.wait_for_log("logged").await?;
        let made = fs::metadata(app.log_path())?;
        assert_eq!(made.permissions().mode() & 0o7777, 0o640);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// T-ANN-4: CVE-2021-21334. Two of one image, at the same time, over and over.
#[test]
fn two_containers_of_one_image_have_nothing_of_each_other() {
    const ROUNDS: usize = 25;
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let dirs = ["one", "two"].map(|name| place.dir(name));
        let [one, two] = dirs;
        let (one, two) = (one?, two?);
        for round in 0..ROUNDS {
            let start = async |who: &str, dir: &Path| -> Result<Container> {
                let spec = container(&format!("{who}{round}")).image(&node.image);
                let spec = spec.env(&format!("ONLY_{who}"), who).env("WHO", who);
                let dir = dir.to_string_lossy();
                let spec = spec.mount(&dir, &format!("/{who}"), false);
                Ok(pod
                    .run(spec.script(&format!("env; ls -d /ONE /TWO; touch /{who}/here")))
                    .await?)
            };
            let (first, second) = tokio::join!(start("ONE", &one), start("TWO", &two));
            for (app, own, other) in [(first?, "ONE", "TWO"), (second?, "TWO", "ONE")] {
                app.wait_for_exit().await?;
                let told = app.log_text()?;
                assert!(told.contains(&format!("WHO={own}\n")), "{told}");
                assert!(told.contains(&format!("ONLY_{own}={own}\n")), "{told}");
                assert!(!told.contains(&format!("ONLY_{other}")), "{told}");
                assert!(told.contains(&format!("/{own}\n")), "{told}");
                assert!(!told.contains(&format!("\n/{other}\n")), "{told}");
                app.remove().await?;
            }
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// T-ANN-5: CVE-2026-57231. An entry of an image's environment is taken as it is, or not at all.
#[test]
fn odd_variables_of_an_image_bring_nothing_of_the_node() {
    place::native(async |place| {
        let network = berth_e2e::network::bridge(1).install(&place)?;
        let setup = berth_e2e::daemon::Setup::new(Engine::Berthd).network(&network);
        let setup = setup.env("SECRET", "of-the-node").env("TOKEN", "of-the-node");
        let node = Node::start_with(&place, setup).await?;
        let odd = [
            json!(["SECRET", "TOKEN", "A=b", "PATH=/bin"]),
            json!(["SECRET*", "*", "", "=x", "PATH=/bin"]),
            json!(["PATH=/nowhere", "PATH=/bin", "A=1", "A=2"]),
            json!(["A=x\u{0}SECRET=y", "PATH=/bin"]),
            json!(["A=line\nSECRET", "PATH=/bin", "B==", "C=${SECRET}$(TOKEN)`env`"]),
        ];
        let mut images = Vec::new();
        for (number, env) in odd.into_iter().enumerate() {
            let builder = Image::busybox()?.compression(Compression::None).set("Env", env);
            let image = node.registry.push(&format!("odd{number}:1"), &builder.build()?).await?;
            if node.client.pull(&image).await.is_ok() {
                images.push(image);
            }
        }
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let mut ran = 0;
        for (number, image) in images.iter().enumerate() {
            let spec = container(&format!("c{number}")).image(image).cmd(["/bin/busybox", "env"]);
            let Ok(app) = pod.run(spec).await else { continue };
            app.wait_for_exit().await?;
            let told = app.log_text()?;
            assert!(!told.contains("of-the-node"), "{told}");
            assert!(told.matches("PATH=").count() == 1, "{told}");
            assert!(told.contains("PATH=/bin"), "the last one counts: {told}");
            ran += 1;
        }
        assert!(ran >= 2, "{ran} ran");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Nothing above has run a program on the node.
#[test]
fn what_looks_like_a_command_is_none() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let canary = place.scratch().join("ran");
        let touch = format!("binary:///usr/bin/touch?{}", canary.display());
        let spec = pod("p").annotation("io.kubernetes.cri-o.LinkLogs", &touch);
        let pod = node.client.run_pod(spec.label("containerd.io/restart.loguri", &touch)).await?;
        let spec = container("app").image(&node.image).cmd(["true"]).with(|config| {
            config.labels.insert("containerd.io/restart.loguri".into(), touch.clone());
            config.annotations.insert("run.oci.hooks.stderr".into(), touch.clone());
        });
        pod.run(spec).await?.wait_for_exit().await?;
        pod.delete().await?;
        assert!(!canary.exists());
        audit.assert_clean().await
    });
}
