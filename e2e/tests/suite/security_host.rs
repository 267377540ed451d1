//! T-HOST: what the node shows of berth to its users and to containers, what a container cannot
//! take down with it, and the specification that every container starts from.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_e2e::client::{container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::oci::Oci;
use berth_e2e::place::{self, needs};
use berth_e2e::{network, process, wait};
use serde_json::{Value, json};

const CGROUPS: &str = "/sys/fs/cgroup";
const MIB: i64 = 1 << 20;
/// A guest is slow at all that forks.
const SLOW: Duration = Duration::from_secs(60);

/// What a shell script prints that is run by nobody.
fn as_nobody(script: &str) -> Result<String> {
    let shell = needs::program("busybox")?;
    let mut command = Command::new(shell);
    let output = command.args(["sh", "-c", script]).uid(65534).gid(65534).output();
    let output = output.context("run a shell as nobody")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// T-HOST-1.
#[test]
fn a_user_without_rights_reads_and_reaches_nothing() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let oci = Oci::begin(&place)?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).script("echo logged; exec sleep inf");
        let app = pod.run(spec).await?;
        app.wait_for_log("logged").await?;
        // The way there is open, or this would tell nothing.
        let dirs = node.daemon.dirs();
        let open = place.dir("open")?;
        fs::write(open.join("file"), "read")?;
        for dir in [place.scratch(), &dirs.base, &open] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
        assert_eq!(as_nobody(&format!("cat {}/*", open.display()))?, "read");
        let all = format!("{} {}", dirs.root.display(), dirs.state.display());
        let listed = as_nobody(&format!("find {all} -type f -exec cat {{}} + 2>/dev/null"))?;
        assert_eq!(listed, "");
        let sockets = as_nobody(&format!("find {all} -type s 2>/dev/null"))?;
        assert_eq!(sockets, "");
        let log = app.log_path().display().to_string();
        assert_eq!(as_nobody(&format!("cat {log} 2>/dev/null"))?, "");

        // The records of berth-oci, and the socket of a container that waits for its start.
        oci.create(&oci.bundle("a")?).await?;
        let root = place.dir("oci")?.display().to_string();
        assert_eq!(as_nobody(&format!("find {root} -type f -exec cat {{}} + 2>/dev/null"))?, "");
        for entry in fs::read_dir(place.dir("oci")?.join("a"))?.flatten() {
            let mode = entry.metadata()?.permissions().mode();
            assert_eq!(mode & 0o022, 0, "{entry:?}: others can write to it, or connect");
        }
        oci.delete("a").await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Sockets of this network namespace: names in no file system, and those that are files.
fn listening() -> Result<(Vec<String>, Vec<String>)> {
    let table = fs::read_to_string("/proc/net/unix")?;
    let names = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7));
    let (abstract_ones, files): (Vec<_>, Vec<_>) =
        names.map(str::to_owned).partition(|name| name.starts_with('@'));
    Ok((abstract_ones, files))
}

/// T-HOST-2: CVE-2020-15257. Root in a container that shares the node's network.
#[test]
fn the_network_of_the_node_has_no_way_to_our_sockets() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let oci = Oci::begin(&place)?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").host_network()).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["/bin/sleep", "inf"])).await?;
        app.exec(["true"]).await?;
        oci.create(&oci.bundle("a")?).await?;
        let (abstract_ones, files) = listening()?;
        assert!(abstract_ones.is_empty(), "{abstract_ones:?}");
        let base = node.daemon.dirs().base.display().to_string();
        assert!(files.iter().any(|file| file.starts_with(&base)), "{files:?}");
        let inside = app.shell("awk 'NR > 1 { print $8 }' /proc/net/unix").await?;
        assert!(!inside.contains('@'), "{inside}");
        for file in &files {
            let found = app.shell(&format!("[ -e '{file}' ] && echo found || true")).await?;
            assert_eq!(found, "", "{file}");
        }
        // Nothing of ours listens on the network either.
        let ports = app.shell("cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\"'").await?;
        let registry = node.registry.host().to_owned();
        let port: u16 = registry.rsplit(':').next().unwrap_or_default().parse()?;
        for line in ports.lines().filter(|line| !line.contains(&format!(":{port:04X} "))) {
            let local = line.split_whitespace().nth(1).unwrap_or_default();
            assert!(local.starts_with("0100007F") || local.ends_with("0000"), "{line}");
        }
        oci.delete("a").await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// T-HOST-3: CVE-2019-14891. What watches a container is not in its memory's way.
#[test]
fn a_pod_that_runs_out_of_memory_over_and_over_takes_nothing_of_ours_along() {
    const ROUNDS: u32 = 20;
    place::with_controllers(async |place| {
        let network = network::bridge(1).install(&place)?;
        let node = Node::start_with(&place, Setup::new(Engine::Berthd).network(&network)).await?;
        let parent = "/kubepods/burstable/podoom";
        fs::create_dir_all(format!("{CGROUPS}{parent}"))?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").host_network().cgroup_parent(parent)).await?;
        fs::write(format!("{CGROUPS}{parent}/memory.max"), (32 * MIB).to_string())?;
        let shims = || process::find(&["berth-shim", &pod.id]);
        let before = (shims(), pod.pause().await?);
        assert_eq!(before.0.len(), 1, "{before:?}");
        let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", before.0[0]))?;
        assert!(score.trim().parse::<i32>()? <= -998, "{score}");
        let own = fs::read_to_string(format!("/proc/{}/cgroup", before.0[0]))?;
        assert!(!own.contains(parent), "the shim is in the pod's own cgroup: {own}");
        for round in 0..ROUNDS {
            // Its own limit, then that of the whole pod.
            let spec = container("hungry").image(&node.image).with(|config| {
                config.metadata.get_or_insert_default().attempt = round;
            });
            let spec = if round % 2 == 0 { spec.memory(8 * MIB) } else { spec };
            let app = pod.run(spec.cmd(["/usr/bin/tail", "/dev/zero"])).await?;
            let status = app.wait_for_exit().await?;
            assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"), "{round}");
            assert_eq!((shims(), pod.pause().await?), before, "round {round}");
            app.remove().await?;
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// T-HOST-5: CVE-2024-3056. What a container leaves in shared memory is its pod's to answer for.
#[test]
fn shared_memory_is_charged_to_the_pod_and_goes_with_it() {
    place::with_controllers(async |place| {
        let network = network::bridge(1).install(&place)?;
        let node = Node::start_with(&place, Setup::new(Engine::Berthd).network(&network)).await?;
        let parent = "/kubepods/burstable/podshm";
        let dir = PathBuf::from(format!("{CGROUPS}{parent}"));
        fs::create_dir_all(&dir)?;
        let audit = node.audit()?;
        let charged = || -> Result<i64> {
            Ok(fs::read_to_string(dir.join("memory.current"))?.trim().parse()?)
        };
        let spec = || pod("p").host_network().cgroup_parent(parent);
        let one = node.client.run_pod(spec()).await?;
        let fill = container("fill").image(&node.image);
        let fill = fill.script("dd if=/dev/zero of=/dev/shm/x bs=1M count=24 2>/dev/null");
        let app = one.run(fill).await?;
        assert_eq!(app.wait_for_exit().await?.exit_code, 0);
        app.remove().await?;
        let kept = charged()?;
        assert!(kept >= 24 * MIB, "what is left in /dev/shm is charged to nobody: {kept}");
        one.delete().await?;
        wait::until("it is given back", SLOW, async || {
            Ok((charged()? < kept - 20 * MIB).then_some(()))
        })
        .await?;
        audit.assert_clean().await
    });
}

/// The record of a container, wherever the daemon keeps it.
fn record_of(root: &Path, id: &str) -> Result<Value> {
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)?.flatten() {
            let path = entry.path();
            if path.file_name().is_some_and(|name| name == format!("{id}.json").as_str()) {
                let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                return Ok(serde_json::from_slice(&text)?);
            }
            if entry.file_type()?.is_dir() && !path.ends_with("layers") {
                dirs.push(path);
            }
        }
    }
    anyhow::bail!("no record of {id}")
}

/// The first object in a record that is an OCI specification.
fn specification(record: &Value) -> Option<&Value> {
    match record {
        Value::Object(object) if object.contains_key("ociVersion") => Some(record),
        Value::Object(object) => object.values().find_map(specification),
        Value::Array(list) => list.iter().find_map(specification),
        _ => None,
    }
}

/// What security hangs on, in a fixed order and without what differs from run to run.
fn essence(spec: &Value) -> Value {
    let sorted = |list: &Value| {
        let list = list.as_array().into_iter().flatten().map(Value::to_string);
        list.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let process = &spec["process"];
    let sets = process["capabilities"].as_object().cloned().unwrap_or_default();
    let sets: serde_json::Map<_, _> =
        sets.iter().map(|(name, set)| (name.clone(), json!(sorted(set)))).collect();
    let mounts = spec["mounts"].as_array().cloned().unwrap_or_default();
    let mounts = mounts.iter().map(|mount| {
        let options = sorted(&mount["options"]).join(" ").replace('"', "");
        let text = |key: &str| mount[key].as_str().unwrap_or("-").to_owned();
        format!("{} {} {options}", text("destination"), text("type"))
    });
    let linux = &spec["linux"];
    let kinds = linux["namespaces"].as_array().cloned().unwrap_or_default();
    let kinds = kinds.iter().map(|one| {
        let own = if one.get("path").is_some() { "of the pod" } else { "its own" };
        format!("{} {own}", one["type"].as_str().unwrap_or("-"))
    });
    json!({
        "capabilities": sets,
        "noNewPrivileges": process["noNewPrivileges"],
        "rlimits": process["rlimits"],
        "user": process["user"],
        "mounts": mounts.collect::<Vec<_>>(),
        "namespaces": kinds.collect::<BTreeSet<_>>(),
        "devices": linux["devices"],
        "deviceRules": linux["resources"]["devices"],
        "maskedPaths": sorted(&linux["maskedPaths"]),
        "readonlyPaths": sorted(&linux["readonlyPaths"]),
        "rootfsPropagation": linux["rootfsPropagation"],
        "readonlyRootfs": spec["root"]["readonly"],
        "hooks": spec["hooks"],
    })
}

/// T-HOST-4: a change of what every container gets is a change of a file that people review. With
/// `UPDATE_GOLDEN=1` it is written anew.
#[test]
fn the_specification_of_a_container_is_the_one_that_was_reviewed() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").privileged()).await?;
        let spec = |name: &str| container(name).image(&node.image).cmd(["sleep", "inf"]);
        let user = spec("user").security(|security| {
            security.run_as_username = "alice".into();
            security.no_new_privs = true;
            security.readonly_rootfs = true;
            security.masked_paths = vec!["/proc/kcore".into()];
            security.readonly_paths = vec!["/proc/sys".into()];
        });
        let mut seen = serde_json::Map::new();
        for (name, spec) in [
            ("plain", spec("plain")),
            ("user", user),
            ("privileged", spec("almighty").privileged()),
        ] {
            let app = pod.create(spec).await?;
            let dirs = node.daemon.dirs();
            let record =
                record_of(&dirs.root, &app.id).or_else(|_| record_of(&dirs.state, &app.id));
            let record = record?;
            let spec = specification(&record).context("a record without a specification")?;
            let mut told = essence(spec);
            if name == "privileged" {
                // All that this machine has, which differs.
                for list in ["devices", "capabilities"] {
                    let count = told[list]
                        .as_object()
                        .map_or(told[list].as_array().map_or(0, Vec::len), serde_json::Map::len);
                    ensure!(count > 0, "{list} of a privileged container");
                    told[list] = json!("as the machine has them");
                }
            }
            seen.insert(name.to_owned(), told);
        }
        pod.delete().await?;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/specifications.json");
        let text = format!("{}\n", serde_json::to_string_pretty(&seen)?);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(file.parent().context("a directory")?)?;
            fs::write(&file, &text)?;
        }
        let reviewed = fs::read_to_string(&file).context("read the golden file")?;
        for (number, (now, then)) in text.lines().zip(reviewed.lines()).enumerate() {
            assert_eq!(now, then, "line {} of {}", number + 1, file.display());
        }
        assert_eq!(text.len(), reviewed.len());
        audit.assert_clean().await
    });
}
