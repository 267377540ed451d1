//! Faults: each does the harm that it says, and no other.

use std::time::Duration;

use berth_e2e::client::{Code, assert_refused, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::fault::SmallDisk;
use berth_e2e::network::{self, Fault, Gate, When};
use berth_e2e::place;

#[test]
fn a_small_disk_can_be_filled_relieved_and_taken_away() {
    place::native(async |place| {
        for disk in [SmallDisk::ext4(&place, 16 << 20)?, SmallDisk::tmpfs(&place, 16 << 20)?] {
            let file = disk.dir().join("file");
            disk.fill(8 << 10)?;
            assert!(disk.free()? <= 12 << 10, "{} bytes are free", disk.free()?);
            let full = std::fs::write(&file, vec![1; 64 << 10]).expect_err("the disk is full");
            assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
            disk.relieve()?;
            std::fs::write(&file, vec![1; 64 << 10])?;
            disk.set_read_only(true)?;
            std::fs::write(&file, "no").expect_err("the disk is read-only");
            disk.set_read_only(false)?;
            std::fs::write(&file, "yes")?;
        }
        Ok(())
    });
}

#[test]
fn plugins_fail_as_they_are_told() {
    place::native(async |place| {
        let faults = [
            (Fault::refuse("bridge", "ADD", When::Before), "refused on purpose"),
            (Fault::garbage("bridge", "ADD", When::After), "invalid character"),
            (Fault::crash("host-local", "ADD", When::Before), "segmentation fault"),
        ];
        for (number, (fault, cause)) in (1..).zip(faults) {
            let network = network::bridge(number).fault(fault).install(&place)?;
            let mut daemon = Setup::new(Engine::Containerd).network(&network).start(&place).await?;
            let client = daemon.client().await?;
            assert_refused(client.run_pod(pod("unlucky")).await, Code::Unknown, &[cause]);
            daemon.terminate().await?;
        }
        Ok(())
    });
}

#[test]
fn a_slow_plugin_is_only_slow() {
    place::native(async |place| {
        let slow = Fault::slow("bridge", "ADD", Duration::from_millis(400));
        let network = network::bridge(1).fault(slow).install(&place)?;
        let daemon = Setup::new(Engine::Containerd).network(&network).start(&place).await?;
        let start = std::time::Instant::now();
        let pod = daemon.client().await?.run_pod(pod("patient")).await?;
        assert!(start.elapsed() >= Duration::from_millis(400));
        pod.delete().await?;
        Ok(())
    });
}

/// The daemon dies while a plugin has done its work and its answer is still to come.
#[test]
fn a_daemon_can_be_killed_in_the_middle_of_add() {
    place::native(async |place| {
        let mut gate = Gate::new(&place)?;
        let fault = Fault::gate("bridge", "ADD", When::After, &gate);
        let network = network::bridge(1).fault(fault).install(&place)?;
        let mut daemon = Setup::new(Engine::Containerd).network(&network).start(&place).await?;
        let client = daemon.client().await?;

        let run = client.run_pod(pod("interrupted"));
        let kill = async {
            let id = gate.reached().await?;
            daemon.kill().await?;
            Ok::<_, anyhow::Error>(id)
        };
        let (ran, id) = tokio::join!(run, kill);
        ran.expect_err("nobody is left to answer");
        let id = id?;
        let addresses: Vec<_> =
            std::fs::read_dir("/var/lib/cni/networks/e2e1")?.flatten().collect();
        let holds =
            |path: std::path::PathBuf| std::fs::read_to_string(path).is_ok_and(|t| t.contains(&id));
        assert!(addresses.iter().any(|entry| holds(entry.path())), "the address was given away");

        gate.let_through()?;
        daemon.start().await?;
        let client = daemon.client().await?;
        assert!(client.condition("RuntimeReady").await?);
        let pod = tokio::join!(client.run_pod(pod("next")), async { gate.let_through() });
        pod.0?.delete().await?;
        Ok(())
    });
}

#[test]
fn a_daemon_that_cannot_start_says_why_and_can_start_later() {
    place::native(async |place| {
        let setup = Setup::new(Engine::Containerd).config("version = \"two\"");
        let mut daemon = setup.prepare(&place)?;
        let err = daemon.start().await.expect_err("its configuration is broken");
        assert!(err.to_string().contains("ended at its start"), "{err:#}");
        assert!(daemon.log()?.contains("TOML"), "{}", daemon.log()?);
        daemon.kill().await.expect_err("it does not run");

        let mut daemon = Setup::new(Engine::Containerd).start(&place).await?;
        assert!(daemon.terminate().await?.success());
        Ok(())
    });
}
