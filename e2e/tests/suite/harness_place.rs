//! The places themselves: a test really runs inside, cannot pass by accident, and nothing of it
//! stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use berth_e2e::audit::{Class, Snapshot};
use berth_e2e::place::{self, Kind};
use berth_e2e::wait;

#[test]
fn a_native_place_is_private() {
    place::native(async |place| {
        assert_eq!(place.kind(), Kind::Native);
        let links: Vec<_> =
            fs::read_dir("/sys/class/net")?.flatten().map(|e| e.file_name()).collect();
        assert_eq!(links, ["lo"]);
        assert_eq!(fs::read_dir("/var/lib/cni")?.count(), 0);
        let init = fs::read("/proc/1/cmdline")?;
        assert_eq!(init, fs::read("/proc/self/cmdline")?, "PID 1 is this binary too");
        let own = fs::read_to_string("/proc/self/cgroup")?;
        assert!(own.lines().any(|line| line == "0::/harness"), "{own}");
        // Loopback is up.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:80").await?;
        tokio::net::TcpStream::connect(listener.local_addr()?).await?;
        Ok(())
    });
}

/// Outside, this function looks at the machine before and after; inside, it makes a mess.
#[test]
fn a_native_place_leaves_the_machine_as_it_was() {
    let machine = || {
        let snapshot = Snapshot::take(&[]).unwrap();
        let of = |class| owned(snapshot.of(class));
        [Class::Mount, Class::Namespace, Class::Link, Class::Cni].map(of)
    };
    let before = machine();
    place::native(async |place| {
        fs::create_dir("/sys/fs/cgroup/left-by-a-test")?;
        fs::create_dir_all("/run/netns")?;
        fs::write("/run/netns/left-by-a-test", "")?;
        fs::write("/var/lib/cni/left-by-a-test", "")?;
        for command in
            ["ip link add left0 type bridge", "mount -t tmpfs tmpfs /mnt", "sleep 98765432"]
        {
            let mut words = command.split(' ');
            let mut command = Command::new(words.next().unwrap_or_default());
            command.args(words).spawn()?;
        }
        wait::until("the mess is made", Duration::from_secs(5), async || {
            let links = fs::read_dir("/sys/class/net")?.count();
            let mounts = fs::read_to_string("/proc/mounts")?;
            Ok((links == 2 && mounts.contains(" /mnt ")).then_some(()))
        })
        .await?;
        fs::write(place.disk().join("left-by-a-test"), "")?;
        Ok(())
    });
    if place::is_inside() {
        return;
    }
    assert_eq!(before, machine());
    let after = Snapshot::take(&[]).unwrap();
    let left = |what: &&str| what.contains("left-by-a-test") || what.contains("98765432");
    for class in [Class::Cgroup, Class::Process] {
        assert_eq!(after.of(class).into_keys().find(left), None);
    }
}

fn owned(things: BTreeMap<&str, i64>) -> BTreeMap<String, i64> {
    things.into_iter().map(|(what, count)| (what.to_owned(), count)).collect()
}

#[test]
#[should_panic(expected = "failed in its place")]
fn a_test_that_fails_inside_fails() {
    place::native(async |_| anyhow::bail!("on purpose"));
}

#[test]
#[should_panic(expected = "failed in its place")]
fn a_test_that_panics_inside_fails() {
    place::native(async |_| panic!("on purpose"));
}

#[test]
#[should_panic(expected = "no verdict")]
fn a_test_that_ends_its_process_inside_fails() {
    place::native(async |_| std::process::exit(0));
}

#[test]
#[should_panic(expected = "failed in its place")]
fn a_test_that_waits_for_ever_fails_at_its_deadline() {
    place::native_within(Duration::from_secs(1), async |_| {
        std::future::pending::<()>().await;
        Ok(())
    });
}

#[test]
#[should_panic(expected = "was killed after")]
fn a_test_that_blocks_for_ever_is_killed() {
    place::native_within(Duration::from_secs(1), async |_| {
        loop {
            std::thread::park();
        }
    });
}

#[test]
fn orphans_are_reaped() {
    place::native(async |_| {
        let status =
            Command::new("sh").args(["-c", "sh -c 'exit 0' & sleep 0.1 & exit 0"]).status()?;
        assert!(status.success());
        wait::until("no process is left", Duration::from_secs(5), async || {
            let processes = Snapshot::take(&[])?;
            let others = processes.of(Class::Process).into_keys();
            Ok((others.filter(|what| what.contains("zombie") || what.contains("sleep")).count()
                == 0)
                .then_some(()))
        })
        .await
    });
}

#[test]
fn controllers_work() {
    place::with_controllers(async |place| {
        for controller in ["cpu", "memory", "pids"] {
            assert!(place.has_controller(controller), "no {controller}");
        }
        let cgroup = Path::new("/sys/fs/cgroup/small");
        fs::create_dir(cgroup)?;
        fs::write(cgroup.join("memory.max"), "8M")?;
        // The shell joins, then tail tries to keep an endless line in memory.
        let script = "echo $$ > /sys/fs/cgroup/small/cgroup.procs && exec tail /dev/zero";
        let status = Command::new("sh").args(["-c", script]).status()?;
        assert!(!status.success());
        let events = fs::read_to_string(cgroup.join("memory.events"))?;
        assert!(events.contains("oom_kill 1"), "{events}");
        Ok(())
    });
}

/// Where the machine has what a test needs, no guest is booted. Such a machine is made here by
/// starting anew inside a place with controllers.
#[test]
fn a_machine_with_controllers_is_used_directly() {
    place::with_controllers(async |_| {
        let stages = tempfile::tempdir_in("/tmp")?;
        let again = Command::new(std::env::current_exe()?)
            .args(["--exact", "harness_place::controllers_work", "--nocapture"])
            .env("E2E_DISK", stages.path())
            .env_remove("BERTH_E2E_STEP")
            .output()?;
        let said = String::from_utf8_lossy(&again.stdout).into_owned();
        assert!(again.status.success(), "{said}{}", String::from_utf8_lossy(&again.stderr));
        assert!(said.contains("1 passed") && !said.contains("mmapper"), "{said}");
        assert_eq!(fs::read_dir(stages.path())?.count(), 0);
        Ok(())
    });
}

#[test]
#[should_panic(expected = "failed in its place")]
fn a_test_that_fails_with_controllers_fails() {
    place::with_controllers(async |_| anyhow::bail!("on purpose"));
}
