//! Limits, where the kernel has controllers for them: what is asked for is what the cgroup says,
//! and what the kernel does about it is what the daemon tells.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use berth_e2e::client::cri::{
    ContainerStatus, LinuxContainerResources, PodSandboxState, UInt64Value,
};
use berth_e2e::client::{Code, ContainerSpec, Pod, assert_refused, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::{network, place, process, wait};

const CGROUPS: &str = "/sys/fs/cgroup";
const MIB: i64 = 1 << 20;
/// The test boots a kernel, in which all that forks is slow.
const SLOW: Duration = Duration::from_secs(60);

/// Runs a container that does nothing, and compares its cgroup with a table.
async fn limited(pod: &Pod, spec: ContainerSpec, table: &[(&str, &str)]) -> Result<()> {
    let app = pod.run(spec.cmd(["/bin/sleep", "inf"])).await?;
    for (file, expected) in table {
        assert_eq!(app.cgroup_says(file).await?, *expected, "{file}");
    }
    app.stop(0).await?;
    assert_eq!(app.status().await?.reason, "Error", "killed, and not for memory");
    Ok(app.remove().await?)
}

#[test]
fn limits_are_in_the_cgroup_and_what_comes_of_them_is_told() {
    place::with_controllers(async |place| {
        let network = network::bridge(1).install(&place)?;
        let node = Node::start_with(&place, Setup::new(Engine::Berthd).network(&network)).await?;
        // As the kubelet does: the limits of a whole pod are its own affair.
        let parent = "/kubepods/burstable/pod123";
        fs::create_dir_all(format!("{CGROUPS}{parent}"))?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").host_network().cgroup_parent(parent)).await?;
        let spec = |name: &str| container(name).image(&node.image);

        let all = spec("all").resources(|limits| {
            limits.cpu_shares = 1024;
            limits.cpu_quota = 50_000;
            limits.cpu_period = 100_000;
            limits.memory_limit_in_bytes = 64 * MIB;
            limits.memory_swap_limit_in_bytes = 96 * MIB;
            let unified = [("pids.max", "77"), ("memory.high", "50331648"), ("cgroup.freeze", "0")];
            limits.unified = unified.map(|(key, value)| (key.into(), value.into())).into();
        });
        let table = [
            ("cpu.weight", "100"),
            ("cpu.max", "50000 100000"),
            ("memory.max", "67108864"),
            ("memory.swap.max", "33554432"),
            ("memory.high", "50331648"),
            ("pids.max", "77"),
        ];
        limited(&pod, all, &table).await?;
        let none = [("cpu.weight", "100"), ("cpu.max", "max 100000"), ("memory.max", "max")];
        limited(&pod, spec("none"), &none).await?;
        if place.has_controller("cpuset") {
            let pinned = spec("pinned").resources(|limits| limits.cpuset_cpus = "0".to_owned());
            limited(&pod, pinned, &[("cpuset.cpus", "0"), ("cpuset.cpus.effective", "0")]).await?;
        }

        // What the kernel refuses, and what it has no controller for, leaves nothing.
        let wrong =
            |change: fn(&mut LinuxContainerResources)| pod.create(spec("wrong").resources(change));
        let refused = wrong(|limits| drop(limits.unified.insert("memory.max".into(), "x".into())));
        assert_refused(refused.await, Code::InvalidArgument, &["memory.max", "\"x\""]);
        let refused = wrong(|limits| drop(limits.unified.insert("rdma.max".into(), "1".into())));
        assert_refused(refused.await, Code::FailedPrecondition, &["rdma"]);
        let refused = wrong(|limits| limits.memory_swap_limit_in_bytes = MIB);
        assert_refused(refused.await, Code::InvalidArgument, &["swap"]);
        assert!(node.client.containers().await?.is_empty());

        changed(&pod, spec("changed")).await?;
        out_of_memory(&pod, &spec).await?;
        statistics(&pod, spec("busy")).await?;
        fs::write(format!("{CGROUPS}{parent}/memory.max"), "33554432")?;
        let of_pod = pod.run(spec("of-pod").cmd(["/usr/bin/tail", "/dev/zero"])).await?;
        let ended = of_pod.wait_for_exit().await?;
        assert_eq!(ended.reason, "OOMKilled", "by the limit of its pod");
        assert!(ended.message.contains("limit of its pod was reached"), "{}", ended.message);
        assert!(ended.message.contains(&format!("(cgroup {parent})")), "{}", ended.message);
        fs::write(format!("{CGROUPS}{parent}/memory.max"), "max")?;
        let above = "/kubepods/burstable";
        fs::write(format!("{CGROUPS}{above}/memory.max"), "33554432")?;
        let of_all = pod.run(spec("of-all").cmd(["/usr/bin/tail", "/dev/zero"])).await?;
        let ended = of_all.wait_for_exit().await?;
        assert_eq!(ended.reason, "OOMKilled", "by the limit of all pods");
        assert!(ended.message.contains(&format!("(cgroup {above})")), "{}", ended.message);
        assert_eq!(pod.state().await?, PodSandboxState::SandboxReady, "pause is not the victim");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Limits of a container that runs are changed all at once or not at all, and told as they are.
async fn changed(pod: &Pod, spec: ContainerSpec) -> Result<()> {
    let first = |limits: &mut LinuxContainerResources| {
        limits.cpu_quota = 20_000;
        limits.cpu_period = 100_000;
        limits.memory_limit_in_bytes = 32 * MIB;
        limits.memory_swap_limit_in_bytes = 32 * MIB;
    };
    let app = pod.create(spec.resources(first).cmd(["/bin/sleep", "inf"])).await?;
    app.update(|limits| limits.cpu_shares = 512).await.context("before it is started")?;
    app.start().await?;
    app.update(|limits| {
        limits.cpu_quota = 50_000;
        limits.memory_limit_in_bytes = 64 * MIB;
        limits.memory_swap_limit_in_bytes = 80 * MIB;
        let unified = [("pids.max", "9"), ("memory.high", "50331648"), ("memory.oom.group", "1")];
        limits.unified = unified.map(|(key, value)| (key.into(), value.into())).into();
    })
    .await?;
    let table = [
        ("cpu.weight", "59"),
        ("cpu.max", "50000 100000"),
        ("memory.max", "67108864"),
        ("memory.swap.max", "16777216"),
        ("memory.high", "50331648"),
        ("memory.oom.group", "1"),
        ("pids.max", "9"),
    ];
    let as_told = async || -> Result<()> {
        for (file, expected) in table {
            assert_eq!(app.cgroup_says(file).await?, expected, "{file}");
        }
        let told = app.status().await?.resources.and_then(|told| told.linux).context("limits")?;
        assert_eq!((told.cpu_shares, told.cpu_quota, told.cpu_period), (512, 50_000, 100_000));
        assert_eq!(told.memory_limit_in_bytes, 64 * MIB);
        assert_eq!(told.unified["pids.max"], "9");
        Ok(())
    };
    as_told().await?;

    // What is raised comes first, and of that the kernel refuses the last: nothing of it stays, and
    // what would have been lowered has not been.
    let refused = app.update(|limits| {
        limits.cpu_shares = 1024;
        limits.memory_limit_in_bytes = 70 * MIB;
        limits.unified = [("pids.max", "5"), ("memory.low", "x")]
            .map(|(key, value)| (key.into(), value.into()))
            .into();
    });
    let words =
        ["memory.low", "\"x\"", "memory.max is \"67108864\" again", "cpu.weight is \"59\" again"];
    assert_refused(refused.await, Code::InvalidArgument, &words);
    as_told().await.context("after an update that was refused")?;
    let refused = app.update(|limits| limits.memory_swap_limit_in_bytes = MIB).await;
    assert_refused(refused, Code::InvalidArgument, &["linux.resources.memory.swap"]);
    as_told().await.context("after an update that made no sense")?;

    app.stop(0).await?;
    app.update(|limits| limits.cpu_shares = 2).await.context("after its end")?;
    let told = app.status().await?.resources.and_then(|told| told.linux).context("limits")?;
    assert_eq!(told.cpu_shares, 2);
    Ok(app.remove().await?)
}

/// The kernel's kill is told from every other, whoever was its victim.
async fn out_of_memory(pod: &Pod, spec: &impl Fn(&str) -> ContainerSpec) -> Result<()> {
    let how = |status: ContainerStatus| (status.exit_code, status.reason);
    let hungry =
        pod.run(spec("hungry").memory(16 * MIB).cmd(["/usr/bin/tail", "/dev/zero"])).await?;
    let ended = hungry.wait_for_exit().await?;
    assert!(ended.message.contains("limit of the container was reached"), "{}", ended.message);
    assert_eq!(how(ended), (137, "OOMKilled".to_owned()));

    // A child is the victim; the container goes on, and what ends it later is something else.
    let parent = spec("parent").memory(16 * MIB).script(
        "echo 500 > /proc/self/oom_score_adj; tail /dev/zero; echo \"code $?\"; \
         echo 0 > /proc/self/oom_score_adj; exec sleep inf",
    );
    let parent = pod.run(parent).await?;
    parent.wait_for_log("code 137").await?;
    assert!(parent.cgroup_says("memory.events").await?.contains("oom_kill 1"));
    parent.stop(0).await?;
    assert_eq!(how(parent.wait_for_exit().await?), (137, "Error".to_owned()));

    let by_hand = pod.run(spec("by-hand").memory(16 * MIB).cmd(["/bin/sleep", "inf"])).await?;
    process::kill(by_hand.pid().await?)?;
    assert_eq!(how(by_hand.wait_for_exit().await?), (137, "Error".to_owned()));
    Ok(())
}

/// Numbers that a container cannot help producing.
async fn statistics(pod: &Pod, spec: ContainerSpec) -> Result<()> {
    let busy = "dd if=/dev/zero of=/dev/shm/held bs=1M count=8 2>/dev/null; \
                i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep inf";
    let busy = pod.run(spec.memory(64 * MIB).script(busy)).await?;
    busy.wait_for_log("done").await?;
    let first = busy.stats().await?;
    let cpu = first.cpu.context("CPU usage")?.usage_core_nano_seconds.unwrap_or_default().value;
    assert!(cpu > 0);
    let memory = first.memory.context("memory usage")?;
    let value = |number: Option<UInt64Value>| number.map_or(0, |n| n.value);
    let (usage, set) = (value(memory.usage_bytes), value(memory.working_set_bytes));
    assert!((8 << 20..=64 << 20).contains(&usage), "{usage}");
    assert!((8 << 20..=usage).contains(&set), "{set}");
    assert_eq!(value(memory.available_bytes), (64 << 20) - set);
    assert!(value(memory.page_faults) > 0);
    // The rate needs two looks with some work between them.
    wait::until("a rate is told", SLOW, async || {
        busy.shell("true").await?;
        let stats = busy.stats().await?.cpu.unwrap_or_default();
        Ok(stats.usage_nano_cores.filter(|rate| rate.value > 0).map(drop))
    })
    .await?;
    busy.stop(0).await?;
    assert_refused(busy.stats().await, Code::FailedPrecondition, &[&busy.id, "exited"]);
    Ok(())
}

/// A node without controllers, such as one that was booted for cgroup v1: a limit that could not
/// be kept is not taken, unless the administrator says so.
#[test]
fn a_limit_without_its_controller_is_refused_by_name() {
    place::native(async |place| {
        let refuse = "version = 1\n[runtime]\nmissing_controllers = \"refuse\"\n";
        let network = network::bridge(1).install(&place)?;
        let setup = Setup::new(Engine::Berthd).network(&network).config(refuse);
        let node = Node::start_with(&place, setup).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let create = |change: fn(&mut LinuxContainerResources)| {
            let spec = container("app").image(&node.image).cmd(["/bin/sleep", "inf"]);
            pod.create(spec.resources(change))
        };
        let unknown = |limits: &mut LinuxContainerResources| {
            drop(limits.unified.insert("nonesuch.max".into(), "1".into()));
        };
        let refused = create(unknown).await;
        assert_refused(refused, Code::FailedPrecondition, &["nonesuch", "nonesuch.max"]);
        if !place.has_controller("memory") {
            let refused = create(|limits| limits.memory_limit_in_bytes = MIB).await;
            assert_refused(refused, Code::FailedPrecondition, &["memory", "memory.max"]);
            let refused = create(|limits| limits.cpu_shares = 512).await;
            assert_refused(refused, Code::FailedPrecondition, &["cpu", "cpu.weight"]);
        }
        assert!(node.client.containers().await?.is_empty());
        // No limit needs no controller; and the core of cgroup v2 is always there.
        let app = create(|limits| drop(limits.unified.insert("cgroup.freeze".into(), "0".into())));
        app.await?.start().await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}
