//! Huge pages: a volume of them, as a kubelet mounts it, gives a container no more than its limit.

use berth_e2e::client::cri::HugepageLimit;
use berth_e2e::client::{container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::node::Node;
use berth_e2e::place;
use rustix::mount::{MountFlags, mount};

#[test]
fn a_container_gets_no_more_huge_pages_than_its_limit() {
    place::full_machine(async |place| {
        let volume = place.dir("huge")?;
        mount("none", &volume, "hugetlbfs", MountFlags::NOSUID, Some(c"pagesize=2M"))?;
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("huge").host_network()).await?;
        let limit = HugepageLimit { page_size: "2MB".to_owned(), limit: 4 << 20 };
        let app = container("app")
            .image(&node.image)
            .cmd(["/bin/sleep", "inf"])
            .mount(&volume.to_string_lossy(), "/huge", false)
            .resources(|limits| limits.hugepage_limits = vec![limit]);
        let app = pod.run(app).await?;
        assert_eq!(app.cgroup_says("hugetlb.2MB.max").await?, "4194304");

        app.shell("fallocate -l 4194304 /huge/two").await?;
        assert_eq!(app.cgroup_says("hugetlb.2MB.current").await?, "4194304");
        let third = app.exec(["fallocate", "-l", "2097152", "/huge/third"]).await?;
        assert_ne!(third.code, 0, "the node has more, the container may not have it");
        assert!(app.cgroup_says("hugetlb.2MB.events").await?.starts_with("max 1"));

        app.shell("rm /huge/two /huge/third; fallocate -l 2097152 /huge/one").await?;
        app.shell("rm /huge/one").await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}
