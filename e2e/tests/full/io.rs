//! Disk bandwidth: what a container writes to a real disk is accounted to it, and throttled.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use berth_e2e::client::{container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::node::Node;
use berth_e2e::place;

#[test]
fn a_container_writes_no_faster_than_its_limit() {
    place::full_machine(async |place| {
        let disk = disk_of(place.disk())?;
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("slow").host_network()).await?;
        let limit = format!("{disk} wbps=1048576");
        let app = container("app")
            .image(&node.image)
            .cmd(["/bin/sleep", "inf"])
            .mount(&place.disk().to_string_lossy(), "/disk", false)
            .resources(|limits| limits.unified = [("io.max".to_owned(), limit)].into());
        let app = pod.run(app).await?;
        let max = app.cgroup_says("io.max").await?;
        assert_eq!(max, format!("{disk} rbps=max wbps=1048576 riops=max wiops=max"));

        let begun = Instant::now();
        app.shell("dd if=/dev/zero of=/disk/file bs=1M count=4 conv=fsync; rm /disk/file").await?;
        assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
        let stat = app.cgroup_says("io.stat").await?;
        let written = stat.lines().find_map(|line| line.strip_prefix(&disk)).context("its disk")?;
        let written = written.split(' ').find_map(|word| word.strip_prefix("wbytes="));
        assert!(written.context("wbytes")?.parse::<u64>()? >= 4 << 20, "{stat}");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// `MAJOR:MINOR` of the whole disk below a directory: limits know no partitions.
fn disk_of(dir: &Path) -> Result<String> {
    let device = fs::metadata(dir)?.dev();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let link = format!("/sys/dev/block/{number}");
    let device = fs::canonicalize(&link).with_context(|| format!("find {link}"))?;
    if !device.join("partition").exists() {
        return Ok(number);
    }
    let disk = device.parent().context("the disk of a partition")?;
    Ok(fs::read_to_string(disk.join("dev"))?.trim().to_owned())
}
