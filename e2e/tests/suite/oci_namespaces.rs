//! What a bundle says of namespaces: new ones, those of others, and the host's.

use std::fs;

use anyhow::{Context, Result};
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place;
use serde_json::json;

const KINDS: [(&str, &str); 7] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("time", "time"),
    ("uts", "uts"),
];

fn own(file: &str) -> Result<String> {
    Ok(fs::read_link(format!("/proc/self/ns/{file}"))?.to_string_lossy().into_owned())
}

/// All kinds of namespaces but that of users, each as `path` says.
fn with_namespaces(bundle: Bundle, path: impl Fn(&str, &str) -> Option<String>) -> Bundle {
    let list = KINDS.map(|(kind, file)| match path(kind, file) {
        Some(path) => json!({"type": kind, "path": path}),
        None => json!({"type": kind}),
    });
    bundle.set("/linux/namespaces", json!(list))
}

async fn inside(oci: &Oci, id: &str, file: &str) -> Result<String> {
    let link = oci.exec(id, &format!("readlink /proc/1/ns/{file}")).await?;
    Ok(link.trim().to_owned())
}

#[test]
fn every_kind_of_namespace_is_new_or_anothers() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let first = with_namespaces(oci.bundle("first")?, |_, _| None).args(&["sleep", "inf"]);
        oci.start(&first).await?;
        let pid = oci.state("first").await?["pid"].as_i64().context("a pid")?;
        for (kind, file) in KINDS {
            assert_ne!(inside(&oci, "first", file).await?, own(file)?, "{kind} is new");
        }
        // All of them at once, but for that of mounts: the second has a root of its own.
        let second = with_namespaces(oci.bundle("second")?, |kind, file| {
            (kind != "mount").then(|| format!("/proc/{pid}/ns/{file}"))
        });
        let second = second.unset("/hostname").script(
            "for kind in cgroup ipc net pid time uts; do readlink /proc/self/ns/$kind; done; \
             hostname",
        );
        let told = oci.run(&second).await?;
        assert_eq!(told.code, 0, "{told:?}");
        for (kind, file) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
            let shared = inside(&oci, "first", file).await?;
            assert!(told.stdout.contains(&shared), "{kind}: {told:?}");
        }
        assert!(told.stdout.ends_with("bundle\n"), "{told:?}");
        oci.delete("first").await?;
        oci.assert_clean().await
    });
}

#[test]
fn what_is_not_said_is_the_hosts() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let list = json!([{"type": "mount"}]);
        let bundle = oci.bundle("a")?.set("/linux/namespaces", list).unset("/hostname");
        let script = "for kind in cgroup ipc net time uts; do readlink /proc/self/ns/$kind; done";
        let told = oci.script(bundle, script).await?;
        let expected: Result<Vec<_>> =
            ["cgroup", "ipc", "net", "time", "uts"].into_iter().map(own).collect();
        assert_eq!(told.lines().collect::<Vec<_>>(), expected?);
        oci.assert_clean().await
    });
}

/// Its root is a tree of its own: of what it mounts nothing is ever seen, or left, on the host.
#[test]
fn without_a_mount_namespace_the_root_is_still_the_containers() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let list = json!([{"type": "pid"}, {"type": "ipc"}]);
        let bundle = oci.bundle("a")?.set("/linux/namespaces", list).unset("/hostname");
        let bundle = bundle
            .set("/root/readonly", json!(true))
            .set("/linux/maskedPaths", json!(["/proc/kcore", "/etc/secret"]))
            .set("/linux/readonlyPaths", json!(["/proc/sys"]))
            .set("/hooks/createRuntime", json!([{
                "path": "/bin/sh", "args": ["sh", "-c", "grep -c rootfs /proc/mounts > told; true"],
                "env": ["PATH=/usr/bin:/bin"],
            }]))
            .args(&["sleep", "inf"]);
        fs::create_dir_all(bundle.rootfs().join("etc"))?;
        fs::write(bundle.rootfs().join("etc/secret"), "secret")?;
        let mounts = || fs::read_to_string("/proc/self/mountinfo");
        let before = mounts()?;
        oci.start(&bundle).await?;
        assert_eq!(mounts()?, before, "nothing of it is mounted here");
        assert_eq!(bundle.read("told")?, "0\n");
        let script = "readlink /proc/self/ns/mnt; cat /etc/secret
            (echo 1 > /made) 2> /dev/null && echo written
            (echo 60 > /proc/sys/vm/swappiness) 2> /dev/null && echo tuned
            cd /; cd ../../..; test -e bin/busybox && test -c dev/null && echo inside";
        assert_eq!(oci.exec("a", script).await?, format!("{}\ninside\n", own("mnt")?));
        assert!(!bundle.rootfs().join("made").exists());
        let told = oci.exec("a", "cat /proc/self/mountinfo; pwd; cat /proc/1/comm").await?;
        assert_eq!(told, "/\nsleep\n", "no mount of the host is to be seen");
        oci.delete("a").await?;
        assert_eq!(mounts()?, before);
        oci.assert_clean().await
    });
}

#[test]
fn clocks_of_a_time_namespace_are_ahead_also_for_added_processes() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?.set("/linux/namespaces/-", json!({"type": "time"}));
        let offsets = json!({
            "monotonic": {"secs": 7881, "nanosecs": 2_718_281}, "boottime": {"secs": 1_000_000},
        });
        let bundle = bundle.set("/linux/timeOffsets", offsets).args(&["sleep", "inf"]);
        oci.start(&bundle).await?;
        let told =
            oci.exec("a", "cat /proc/self/timens_offsets; cut -d . -f 1 /proc/uptime").await?;
        let words: Vec<_> = told.split_whitespace().collect();
        assert_eq!(words[..6], ["monotonic", "7881", "2718281", "boottime", "1000000", "0"]);
        assert!(words[6].parse::<u64>()? >= 1_000_000, "{told}");
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

/// The process is replaced on its way: it is the second that is started, waited for and killed.
#[test]
fn a_process_that_was_born_twice_lives_as_any_other() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let timed = |id: &str| -> Result<Bundle> {
            Ok(oci.bundle(id)?.set("/linux/namespaces/-", json!({"type": "time"})))
        };
        let output = oci.run(&timed("a")?.script("echo $$; exit 7")).await?;
        assert_eq!((output.code, output.stdout.as_str()), (7, "1\n"), "{output:?}");
        let output = oci.run(&timed("b")?.args(&["/no/such"])).await?;
        assert!(output.code != 0 && output.stderr.contains("/no/such"), "{output:?}");
        oci.create(&timed("c")?.args(&["sleep", "inf"])).await?;
        let pid = oci.state("c").await?["pid"].as_i64().context("a pid")?;
        assert!(fs::exists(format!("/proc/{pid}"))?);
        oci.ok(&["start", "c"]).await?;
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm"))?, "sleep\n");
        oci.delete("c").await?;
        oci.assert_clean().await
    });
}

#[test]
fn namespaces_that_make_no_sense_are_refused_by_their_field() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let namespaces =
            |list| Ok::<_, anyhow::Error>(oci.bundle("a")?.set("/linux/namespaces", list));
        let mount = json!({"type": "mount"});
        let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
        for (bundle, words) in [
            (namespaces(json!([mount, mount]))?, "linux.namespaces[1]"),
            (
                namespaces(json!([mount, {"type": "ipc", "path": "ipc"}]))?,
                "linux.namespaces[1].path",
            ),
            (
                namespaces(json!([mount, {"type": "ipc", "path": "/no/such"}]))?.unset("/hostname"),
                "/no/such",
            ),
            (namespaces(json!([mount, {"type": "uts", "path": "/proc/self/ns/net"}]))?, "uts"),
            (
                namespaces(json!([{"type": "uts"}]))?
                    .set("/linux/rootfsPropagation", json!("shared")),
                "linux.rootfsPropagation: it needs a mount namespace",
            ),
            (namespaces(json!([mount]))?, "hostname: the container has no uts namespace"),
            (namespaces(json!([mount, {"type": "user"}]))?.unset("/hostname"), "linux.uidMappings"),
            (oci.bundle("a")?.set("/linux/uidMappings", maps), "linux.gidMappings: missing"),
            (
                oci.bundle("a")?.set("/linux/timeOffsets", json!({"boottime": {"secs": 1}})),
                "linux.timeOffsets",
            ),
        ] {
            let output = oci.run(&bundle).await?;
            assert!(output.code != 0 && output.stderr.contains(words), "{words}: {output:?}");
        }
        oci.assert_clean().await
    });
}
