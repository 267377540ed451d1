//! Pressure: the kernel keeps a container's stalls in the container's own cgroup, where a kubelet
//! looks for them, and limits cause them.

use std::time::Duration;

use anyhow::{Context, Result};
use berth_e2e::client::{Container, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::node::Node;
use berth_e2e::{place, wait};

#[test]
fn pressure_is_told_of_the_container_that_suffers_it() {
    place::full_machine(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").host_network()).await?;
        let idle = container("idle").image(&node.image).cmd(["/bin/sleep", "inf"]);
        let idle = pod.run(idle).await?;
        let busy = container("busy").image(&node.image).script("while :; do :; done");
        let busy = busy.resources(|limits| {
            limits.cpu_quota = 10_000;
            limits.cpu_period = 100_000;
        });
        let busy = pod.run(busy).await?;
        // A tenth of a CPU for a program that wants a whole one: nine tenths of the time it waits.
        let limit = Duration::from_secs(1);
        wait::until("a second of stalls", Duration::from_secs(60), async || {
            Ok((stalled(&busy, "cpu").await? >= limit).then_some(()))
        })
        .await?;
        assert!(stalled(&idle, "cpu").await? < limit);
        for resource in ["memory", "io"] {
            stalled(&busy, resource).await?;
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// For how long some process of a container has waited for a resource.
async fn stalled(container: &Container, resource: &str) -> Result<Duration> {
    let text = container.cgroup_says(&format!("{resource}.pressure")).await?;
    let some = text.lines().find(|line| line.starts_with("some ")).context("a line `some`")?;
    let total = some.rsplit_once("total=").context("a total")?.1;
    Ok(Duration::from_micros(total.parse().with_context(|| format!("parse {some}"))?))
}
