//! berthd as systemd runs it on a node: what systemd does to the service does nothing to the pods.

use std::path::Path;

use berth_e2e::client::cri::ContainerState;
use berth_e2e::client::{container, pod};
use berth_e2e::daemon::service::{Service, systemctl};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Image, archive};
use berth_e2e::place;

const IMAGE: &str = "localhost/busybox:1";

#[test]
fn containers_outlive_what_systemd_does_to_the_service() {
    place::beside_systemd(async |place| {
        let daemon = Setup::new(Engine::Berthd).prepare(&place)?;
        let service = Service::start(&place, &daemon, "berth-e2e").await?;
        daemon.import(&archive::oci(IMAGE, &Image::busybox()?.build()?)?).await?;
        let client = daemon.client().await?;
        let pod = client.run_pod(pod("p").host_network()).await?;
        let limited = container("app").image(IMAGE).memory(32 << 20).cmd(["/bin/sleep", "inf"]);
        let app = pod.run(limited).await?;
        let process = app.pid().await?;

        systemctl(&["daemon-reload"]).await?;
        assert_eq!(app.cgroup_says("memory.max").await?, "33554432");

        let daemons = [service.property("MainPID").await?, {
            service.ctl("restart").await?;
            service.property("MainPID").await?
        }];
        assert_ne!(daemons[0], daemons[1]);
        let client = daemon.client().await?;
        let app = client.container(&app.id);
        assert_eq!(app.state().await?, ContainerState::ContainerRunning);
        assert_eq!(app.pid().await?, process);
        assert_eq!(app.shell("echo still here").await?, "still here\n");

        client.pod(&pod.id).delete().await?;
        assert!(!Path::new(&format!("/proc/{process}")).exists());
        service.ctl("stop").await
    });
}
