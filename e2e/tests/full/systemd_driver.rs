//! Cgroups that systemd makes: what it knows of pods and containers, and what it leaves alone,
//! whatever happens to it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_e2e::client::cri::{ContainerState, HugepageLimit};
use berth_e2e::client::{Code, Container, ContainerSpec, assert_refused, container, pod};
use berth_e2e::daemon::service::systemctl;
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Image, archive};
use berth_e2e::oci::Oci;
use berth_e2e::place::{self, Place};
use berth_e2e::wait;
use serde_json::json;

const IMAGE: &str = "localhost/busybox:1";
const CONFIG: &str = "version = 1\n[runtime]\ncgroup_driver = \"systemd\"\n";
const CGROUPS: &str = "/sys/fs/cgroup";

/// What every container of these tests is limited to, and as what the kernel has it.
const TABLE: [(&str, &str); 6] = [
    ("memory.max", "67108864"),
    ("cpu.max", "50000 100000"),
    ("cpu.weight", "59"),
    ("pids.max", "77"),
    ("cpuset.cpus", "1"),
    ("hugetlb.2MB.max", "4194304"),
];

fn limited(name: &str) -> ContainerSpec {
    let spec = container(name).image(IMAGE).cmd(["/bin/sleep", "inf"]);
    spec.resources(|limits| {
        limits.memory_limit_in_bytes = 64 << 20;
        (limits.cpu_quota, limits.cpu_period, limits.cpu_shares) = (50_000, 100_000, 512);
        limits.cpuset_cpus = "1".to_owned();
        limits.unified = [("pids.max".to_owned(), "77".to_owned())].into();
        // systemd 252 does not know this controller.
        let huge = HugepageLimit { page_size: "2MB".to_owned(), limit: 4 << 20 };
        limits.hugepage_limits = vec![huge];
    })
}

#[test]
fn a_pod_is_a_scope_that_systemd_leaves_to_us() {
    place::beside_systemd(async |place| {
        let slice = Slice::start(&place, "burstable-pod1_2").await?;
        let mut daemon = berthd(&place).await?;
        let client = daemon.client().await?;
        let pod = client.run_pod(pod("p").host_network().cgroup_parent(&slice.name)).await?;
        let scope = format!("cri-berth-{}.scope", pod.id);
        let app = pod.run(limited("app")).await?;
        assert_limited(&app, "at first").await?;
        assert_eq!(show(&scope, "Delegate").await?, "yes");
        assert_eq!(show(&scope, "Slice").await?, slice.name);
        assert_eq!(show(&scope, "ControlGroup").await?, format!("{}/{scope}", slice.cgroup));
        let cgroup = app.info().await?["cgroup"].clone();
        assert_eq!(cgroup, format!("{}/{scope}/{}", slice.cgroup, app.id));

        for verb in ["daemon-reload", "daemon-reexec"] {
            systemctl(&[verb]).await?;
            systemctl(&["set-property", "--runtime", &slice.name, "MemoryHigh=1G"]).await?;
            assert_limited(&app, verb).await?;
            let own = app.shell("cat /proc/self/cgroup").await?;
            ensure!(own.contains("exec"), "an exec is in a cgroup below the container's: {own}");
        }
        app.update(|limits| limits.memory_limit_in_bytes = 96 << 20).await?;
        let process = app.pid().await?;
        daemon.kill().await?;
        systemctl(&["daemon-reload"]).await?;
        daemon.start().await?;
        let client = daemon.client().await?;
        let app = client.container(&app.id);
        assert_eq!(app.state().await?, ContainerState::ContainerRunning);
        assert_eq!(
            (app.pid().await?, app.cgroup_says("memory.max").await?),
            (process, "100663296".into())
        );

        let pod = client.pod(&pod.id);
        pod.stop().await?;
        assert_eq!(units(&[&scope]).await?, "", "stopped: systemd knows no such unit");
        pod.remove().await?;
        assert!(slice.is_empty()?);
        drop(daemon);
        slice.stop().await
    });
}

#[test]
fn who_ran_out_of_memory_is_told_below_a_scope() {
    place::beside_systemd(async |place| {
        let slice = Slice::start(&place, "burstable-oom").await?;
        let daemon = berthd(&place).await?;
        let client = daemon.client().await?;
        let hungry = |name| container(name).image(IMAGE).cmd(["/usr/bin/tail", "/dev/zero"]);
        // A sandbox without a slice of its own is in one that systemd makes.
        for parent in [slice.name.as_str(), ""] {
            let spec = pod("p").host_network().cgroup_parent(parent);
            let pod = client.run_pod(spec).await?;
            let own = pod.run(hungry("own").memory(32 << 20)).await?.wait_for_exit().await?;
            assert_eq!((own.exit_code, own.reason.as_str()), (137, "OOMKilled"));
            if !parent.is_empty() {
                systemctl(&["set-property", "--runtime", parent, "MemoryMax=32M"]).await?;
                let told = pod.run(hungry("pods")).await?.wait_for_exit().await?;
                assert_eq!(told.reason, "OOMKilled");
                assert!(told.message.contains("limit of its pod was reached"), "{}", told.message);
                assert!(told.message.contains(&slice.cgroup), "{}", told.message);
            }
            let scope = format!("cri-berth-{}.scope", pod.id);
            assert_eq!(show(&scope, "ActiveState").await?, "active", "the pod goes on");
            pod.delete().await?;
            assert_eq!(units(&[&scope]).await?, "");
        }
        let bad = client.run_pod(pod("p").host_network().cgroup_parent("/kubepods/pod1")).await;
        assert_refused(bad, Code::InvalidArgument, &["config.linux.cgroup_parent"]);
        drop(daemon);
        systemctl(&["stop", "berth.slice"]).await?;
        slice.stop().await
    });
}

#[test]
fn a_bundle_is_a_scope_whose_limits_systemd_is_told() {
    place::beside_systemd(async |place| {
        let slice = Slice::start(&place, "a-b").await?;
        let oci = Oci::begin(&place)?.option("--systemd-cgroup");
        let bundle = oci
            .bundle("box")?
            .args(&["/bin/sleep", "inf"])
            .set("/linux/cgroupsPath", json!(format!("{}:e2e:x+y", slice.name)))
            .set("/linux/resources", resources(64 << 20, 50_000))
            .set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 4 << 20}]));
        oci.start(&bundle).await?;
        let scope = "e2e-x\\x2by.scope";
        let cgroup = format!("{CGROUPS}{}/{scope}", slice.cgroup);
        let kernel = |file: &str| read(&format!("{cgroup}/{file}"));
        let check = async |memory: &str, cpu: &str, when: &str| -> Result<()> {
            let expected = [memory, cpu, "59", "77", "1", "4194304"];
            for ((file, _), expected) in TABLE.iter().zip(expected) {
                assert_eq!(kernel(file)?, expected, "{file} {when}");
            }
            Ok(())
        };
        check("67108864", "50000 100000", "at first").await?;
        for (name, value) in [
            ("Delegate", "yes"),
            ("Description", "container box"),
            ("MemoryMax", "67108864"),
            ("CPUQuotaPerSecUSec", "500ms"),
            ("CPUWeight", "59"),
            ("TasksMax", "77"),
            ("AllowedCPUs", "1"),
        ] {
            assert_eq!(show(scope, name).await?, value, "{name}");
        }
        reload(scope).await?;
        check("67108864", "50000 100000", "after a reload").await?;

        oci.ok(&["update", "--memory", "100663296", "--cpu-quota", "30000", "box"]).await?;
        check("100663296", "30000 100000", "once it is updated").await?;
        assert_eq!(show(scope, "MemoryMax").await?, "100663296");
        assert_eq!(show(scope, "CPUQuotaPerSecUSec").await?, "300ms");
        reload(scope).await?;
        check("100663296", "30000 100000", "updated, and after a reload").await?;
        systemctl(&["daemon-reexec"]).await?;
        oci.ok(&["update", "--pids-limit", "66", "box"]).await?;
        assert_eq!(
            (kernel("pids.max")?.as_str(), show(scope, "TasksMax").await?.as_str()),
            ("66", "66")
        );

        // What the kernel refuses, systemd does not hear of.
        let refused =
            oci.call(&["update", "--pids-limit", "5", "--cpuset-cpus", "900", "box"]).await?;
        assert_ne!(refused.code, 0);
        assert_eq!(
            (kernel("pids.max")?.as_str(), show(scope, "TasksMax").await?.as_str()),
            ("66", "66")
        );

        assert_eq!(oci.exec("box", "echo inside").await?, "inside\n");
        oci.ok(&["kill", "box", "KILL"]).await?;
        wait::until("it has ended", Duration::from_secs(20), async || {
            Ok((oci.state("box").await?["status"] == "stopped").then_some(()))
        })
        .await?;
        oci.ok(&["delete", "box"]).await?;
        assert_eq!(units(&[scope]).await?, "");
        oci.assert_clean().await?;
        slice.stop().await
    });
}

#[test]
fn a_bundle_that_names_no_slice_is_in_the_systems() {
    place::beside_systemd(async |place| {
        let oci = Oci::begin(&place)?.option("--systemd-cgroup");
        let id = format!("{}-default", place.slice().trim_end_matches(".slice"));
        let bundle = oci.bundle(&id)?.unset("/linux/cgroupsPath").args(&["/bin/sleep", "inf"]);
        let scope = format!("berth-{id}.scope");
        oci.start(&bundle).await?;
        assert_eq!(show(&scope, "ControlGroup").await?, format!("/system.slice/{scope}"));
        assert_eq!(show(&scope, "TasksMax").await?, "infinity");
        // Killed, not told: systemd forgets it by itself.
        oci.delete(&id).await?;
        assert_eq!(units(&[&scope]).await?, "");

        // What cannot be made leaves neither a unit nor a failed one.
        let missing = bundle.clone().args(&["/no/such/program"]);
        let refused = oci.try_create(&missing).await?;
        assert!(refused.stderr.contains("/no/such/program"), "{refused:?}");
        let path = |path: &str| bundle.clone().set("/linux/cgroupsPath", json!(path));
        for bad in ["/a/b", "a:b", "a--b.slice:p:n", "system.slice:p:"] {
            let refused = oci.try_create(&path(bad)).await?;
            assert_ne!(refused.code, 0, "{bad}");
            assert!(refused.stderr.contains("linux.cgroupsPath"), "{}", refused.stderr);
        }
        let wrong = bundle.clone().set("/linux/resources/unified", json!({"memory.max": "x"}));
        assert!(oci.try_create(&wrong).await?.stderr.contains("memory.max"));
        assert_eq!(units(&[&scope]).await?, "");
        oci.assert_clean().await
    });
}

fn resources(memory: i64, quota: i64) -> serde_json::Value {
    json!({
        "memory": {"limit": memory},
        "cpu": {"quota": quota, "period": 100_000, "shares": 512, "cpus": "1"},
        "pids": {"limit": 77},
    })
}

/// A berthd whose pods are systemd's to know, and with an image.
async fn berthd(place: &Place) -> Result<Daemon> {
    let daemon = Setup::new(Engine::Berthd).config(CONFIG).start(place).await?;
    daemon.import(&archive::oci(IMAGE, &Image::busybox()?.build()?)?).await?;
    Ok(daemon)
}

/// Has systemd read all units again, and realize the cgroup of one anew.
async fn reload(scope: &str) -> Result<()> {
    systemctl(&["daemon-reload"]).await?;
    systemctl(&["set-property", "--runtime", scope, "MemoryHigh=infinity"]).await.map(drop)
}

async fn assert_limited(app: &Container, when: &str) -> Result<()> {
    for (file, expected) in TABLE {
        assert_eq!(app.cgroup_says(file).await?, expected, "{file}: {when}");
    }
    Ok(())
}

async fn show(unit: &str, property: &str) -> Result<String> {
    let said = systemctl(&["show", "--value", "--property", property, unit]).await?;
    Ok(said.trim_end().to_owned())
}

/// What systemd still knows of the units of these names, failed ones too.
async fn units(names: &[&str]) -> Result<String> {
    systemctl(&[&["list-units", "--all", "--plain", "--no-legend"], names].concat()).await
}

fn read(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(text.trim_end().to_owned())
}

/// A slice of the test's own, as a kubelet makes one for a pod.
struct Slice {
    name: String,
    cgroup: String,
}

impl Slice {
    /// Starts the slice `levels` below the place's.
    async fn start(place: &Place, levels: &str) -> Result<Self> {
        let name = format!("{}-{levels}.slice", place.slice().trim_end_matches(".slice"));
        systemctl(&["start", &name]).await?;
        let cgroup = show(&name, "ControlGroup").await?;
        Ok(Self { name, cgroup })
    }

    /// Whether no cgroup is left in it.
    fn is_empty(&self) -> Result<bool> {
        let entries = fs::read_dir(Path::new(CGROUPS).join(self.cgroup.trim_start_matches('/')))?;
        Ok(!entries.flatten().any(|entry| entry.path().is_dir()))
    }

    async fn stop(self) -> Result<()> {
        systemctl(&["stop", &self.name]).await?;
        let failed = systemctl(&["list-units", "--failed", "--plain", "--no-legend"]).await?;
        ensure!(!failed.contains("berth") && !failed.contains("e2e"), "{failed}");
        Ok(())
    }
}
