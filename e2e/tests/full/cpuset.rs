//! Pinned to CPUs and memory nodes: the kernel says of the processes themselves where they may run.

use anyhow::Result;
use berth_e2e::client::{Code, assert_refused, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::node::Node;
use berth_e2e::place;

#[test]
fn a_container_runs_where_its_cpuset_says() {
    place::full_machine(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("pinned").host_network()).await?;
        let spec = |name: &str, cpus: &str, mems: &str| {
            container(name).image(&node.image).cmd(["/bin/sleep", "inf"]).resources(|limits| {
                limits.cpuset_cpus = cpus.to_owned();
                limits.cpuset_mems = mems.to_owned();
            })
        };

        let app = pod.run(spec("app", "1", "0")).await?;
        assert_eq!(app.cgroup_says("cpuset.cpus").await?, "1");
        assert_eq!(app.cgroup_says("cpuset.mems").await?, "0");
        // Of the first process, and of one that came later.
        for process in ["1", "self"] {
            let status = app.shell(&format!("cat /proc/{process}/status")).await?;
            assert_eq!(field(&status, "Cpus_allowed_list:")?, "1", "{process}");
            assert_eq!(field(&status, "Mems_allowed_list:")?, "0", "{process}");
        }

        let free = pod.run(spec("free", "", "")).await?;
        let status = free.shell("cat /proc/1/status").await?;
        assert_eq!(field(&status, "Cpus_allowed_list:")?, "0-1");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_cpu_that_is_none_is_refused_by_name() {
    place::full_machine(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("pinned").host_network()).await?;
        for nonsense in ["no-cpu", "100000"] {
            let spec = container("app").image(&node.image).cmd(["/bin/sleep", "inf"]);
            let spec = spec.resources(|limits| limits.cpuset_cpus = nonsense.to_owned());
            assert_refused(pod.run(spec).await, Code::InvalidArgument, &["cpuset.cpus", nonsense]);
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.ok_or_else(|| anyhow::anyhow!("no {name} in {status}"))?.trim())
}
