//! What a container can reach, and what others can read of berth's: as little as possible.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use berth_e2e::client::cri::{LinuxContainerSecurityContext, NamespaceMode, NamespaceOption};
use berth_e2e::client::{Container, container, pod};
use berth_e2e::daemon::{Engine, Setup, binaries};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use berth_e2e::{network, process, wait};

const SOON: Duration = Duration::from_secs(10);

/// In the status of a process that ignores and blocks no signal, whatever its parents do.
const FRESH: [&str; 3] = ["Umask:\t0022", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"];

async fn node(place: &Place) -> Result<Node> {
    Node::start(place, Engine::Berthd).await
}

/// Numbers of the descriptors of a process, as the node sees them.
fn descriptors(pid: i32) -> Result<BTreeSet<String>> {
    let dir = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&dir).with_context(|| format!("list {dir}"))?.flatten();
    Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn standard() -> BTreeSet<String> {
    ["0", "1", "2"].map(str::to_owned).into()
}

/// T-FD-4: what a service manager or a shell leaves open in berthd is nobody else's.
#[test]
fn what_the_daemon_was_started_with_stays_with_it() {
    place::native(async |place| {
        let canary = place.dir("canary")?;
        let open = fs::File::open(&canary)?;
        // Passed on by this process, as by one that knows no better.
        rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty())?;
        let setup = Setup::new(Engine::Berthd).network(&network::bridge(1).install(&place)?);
        let mut node = Node::start_with(&place, setup).await?;
        let pod = node.client.run_pod(pod("p")).await?;
        let holds = |pid: i32| -> Result<bool> {
            let mut entries = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
            Ok(entries.any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == canary)))
        };
        let daemon = node.daemon.process()?.pid().context("a daemon")?;
        assert!(holds(daemon.as_raw_nonzero().get())?, "berthd did not inherit it");
        let shims = process::find(&["berth-shim", &pod.id]);
        assert!(!shims.is_empty());
        for pid in shims.into_iter().chain([pod.pause().await?]) {
            assert!(!holds(pid)?, "process {pid} has inherited it");
        }
        Ok(pod.delete().await?)
    });
}

/// T-FD-1: CVE-2024-21626 and its family began with one descriptor too many.
#[test]
fn a_container_inherits_its_streams_and_nothing_else() {
    place::native(async |place| {
        let network = network::bridge(1).install(&place)?;
        let setup = Setup::new(Engine::Berthd).network(&network).env("SECRET_OF_BERTHD", "hunter2");
        let node = Node::start_with(&place, setup).await?;
        let audit = node.audit()?;
        for spec in [pod("own"), pod("shared").shared_pid(), pod("host").host_network()] {
            let pod = node.client.run_pod(spec).await?;
            let sleeper = || container("app").image(&node.image).cmd(["/bin/sleep", "inf"]);
            let app = pod.run(sleeper()).await?;
            assert_eq!(descriptors(app.pid().await?)?, standard());
            let pause = descriptors(pod.pause().await?)?;
            assert!(pause.is_subset(&standard()), "pause has {pause:?}");

            // The descriptor by which ls reads the directory is its own.
            let listed = app.exec(["/bin/ls", "/proc/self/fd"]).await?.stdout;
            assert_eq!(listed, "0\n1\n2\n3\n");
            let cwd = app.shell("pwd -P; cd ..; pwd -P").await?;
            assert_eq!(cwd, "/\n/\n");
            for env in [app.exec(["/usr/bin/env"]).await?.stdout, environ(app.pid().await?)?] {
                assert!(!env.contains("hunter2") && !env.contains("NOTIFY_SOCKET"), "{env}");
            }
            let command = app.exec(["/bin/cat", "/proc/self/status"]).await?.stdout;
            let first = fs::read_to_string(format!("/proc/{}/status", app.pid().await?))?;
            for (line, status) in FRESH.iter().flat_map(|line| [(line, &first), (line, &command)]) {
                assert!(status.lines().any(|found| found == *line), "{line} in {status}");
            }
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

fn environ(pid: i32) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/environ"))?).into_owned())
}

/// T-FD-2: a working directory that names a descriptor of whoever starts the container.
#[test]
fn no_working_directory_leads_out_by_a_descriptor() {
    place::native(async |place| {
        let node = node(&place).await?;
        let links =
            (3..24).map(|fd| Entry::symlink(&format!("w{fd}"), &format!("/proc/self/fd/{fd}")));
        let image = Image::busybox()?.layer(Layer::new().with_all(links)).build()?;
        let image = node.registry.push("links:1", &image).await?;
        node.client.pull(&image).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        for fd in 3..24 {
            for dir in [format!("/proc/self/fd/{fd}"), format!("/w{fd}")] {
                let spec = container(&format!("c{}", dir.replace('/', "-"))).image(&image);
                let spec = spec.cmd(["/bin/pwd"]).with(|config| config.working_dir = dir.clone());
                let refused = pod.run(spec).await;
                let status = refused.expect_err(&format!("{dir} is no place to work in"));
                assert!(status.message().contains(&dir), "{}", status.message());
            }
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// T-FD-3: CVE-2019-5736 wrote to the runtime by way of the process that it had become.
#[test]
fn no_program_of_ours_can_be_run_or_written_from_inside() {
    place::native(async |place| {
        let node = node(&place).await?;
        let ours = ["berthd", "berth-shim", "berth"].map(binaries::find);
        let ours: Vec<PathBuf> = ours.into_iter().collect::<Result<_>>()?;
        let contents = || ours.iter().map(fs::read).collect::<std::io::Result<Vec<_>>>();
        let before = contents()?;
        let script = Entry::file("self", "#!/proc/self/exe\n").mode(0o755);
        let image = Image::busybox()?.layer(Layer::new().with(script)).build()?;
        let image = node.registry.push("self:1", &image).await?;
        node.client.pull(&image).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").shared_pid()).await?;
        for (name, program) in [("exe", "/proc/self/exe"), ("script", "/self")] {
            let own = |spec: berth_e2e::client::ContainerSpec| spec.image(&image).cmd([program]);
            if let Ok(started) = pod.run(own(container(name))).await {
                let status = started.wait_for_exit().await?;
                assert_ne!(status.exit_code, 0, "{program} did something");
            }
        }
        let app = pod.run(container("app").image(&image).cmd(["/bin/sleep", "inf"])).await?;
        // PID 1 is pause here.
        let write = "for pid in 1 self; do (echo x > /proc/$pid/exe) 2>&1 && exit 1; done; exit 0";
        app.shell(write).await?;
        assert!(contents()? == before, "a program of ours was written to");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// The doors that procfs has to the root of another process.
#[test]
fn no_process_that_a_container_sees_leads_to_the_root_of_the_node() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let canary = place.scratch().join("canary");
        fs::write(&canary, "reached")?;
        let node_pid = |options: &mut NamespaceOption| options.pid = NamespaceMode::Node.into();
        for spec in [pod("own"), pod("shared").shared_pid(), pod("node").namespaces(node_pid)] {
            let pod = node.client.run_pod(spec).await?;
            let spec = container("app").image(&node.image).cmd(["/bin/sleep", "inf"]);
            let app = pod.run(spec.clone()).await?;
            let look = format!(
                "for p in /proc/[0-9]*; do cat $p/root{0} $p/cwd{0}; done",
                canary.display()
            );
            let seen = app.exec(["/bin/sh", "-c", &look]).await?;
            assert!(!seen.stdout.contains("reached") && !seen.stderr.is_empty(), "{seen:?}");
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

/// What the node's kernel shows of the node, a container does not see or cannot change.
#[test]
fn the_kernels_own_files_are_masked_and_nothing_of_the_node_is_mounted() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).cmd(["/bin/sleep", "inf"]);
        let app = pod.run(spec.security(as_the_kubelet_asks)).await?;
        for masked in ["kcore", "keys", "timer_list", "latency_stats", "sched_debug"] {
            let text = app.shell(&format!("cat /proc/{masked} 2>/dev/null || true")).await?;
            assert_eq!(text, "", "/proc/{masked}");
        }
        for masked in ["/proc/acpi", "/proc/scsi", "/sys/firmware"] {
            let text = app.shell(&format!("ls {masked} 2>/dev/null || true")).await?;
            assert_eq!(text, "", "{masked}");
        }
        for fixed in [
            "/proc/sysrq-trigger",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/vm/drop_caches",
            "/proc/irq/default_smp_affinity",
            "/sys/kernel/uevent_helper",
            "/sys/fs/cgroup/cgroup.procs",
        ] {
            let output = app.shell(&format!("(echo x > {fixed}) 2>&1 || true")).await?;
            assert!(
                output.contains("ead-only") || output.contains("nonexistent"),
                "{fixed}: {output}"
            );
        }
        let mounts = mount_points(&app).await?;
        let allowed = [
            "/",
            "/proc",
            "/dev",
            "/dev/pts",
            "/dev/mqueue",
            "/dev/shm",
            "/sys",
            "/sys/fs/cgroup",
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
        ];
        let strange: Vec<_> = mounts
            .iter()
            .filter(|point| !allowed.contains(&point.as_str()))
            .filter(|point| !point.starts_with("/proc/") && !point.starts_with("/sys/"))
            .collect();
        assert!(strange.is_empty(), "{strange:?} of {mounts:?}");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// What every kubelet sends unless a pod asks for `procMount: Unmasked`.
fn as_the_kubelet_asks(security: &mut LinuxContainerSecurityContext) {
    let paths = |text: &str| text.split(' ').map(str::to_owned).collect();
    security.masked_paths = paths(
        "/proc/asound /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list \
         /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware",
    );
    security.readonly_paths = paths("/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger");
}

async fn mount_points(app: &Container) -> Result<Vec<String>> {
    let text = app.shell("cut -d ' ' -f 5 /proc/self/mountinfo").await?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// T-HOST-1: sockets, records, images and logs are root's. The group of the socket is the one
/// thing that is shared.
#[test]
fn others_can_read_nothing_of_berths() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pods = [
            node.client.run_pod(pod("p").port(8080, 80)).await?,
            node.client.run_pod(pod("q").host_network()).await?,
        ];
        for pod in &pods {
            let app =
                pod.run(container("app").image(&node.image).cmd(["/bin/sleep", "inf"])).await?;
            app.exec(["true"]).await?;
            assert!(is_id(&pod.id) && is_id(&app.id), "{} {}", pod.id, app.id);
        }
        assert_ne!(pods[0].id[..16], pods[1].id[..16], "ids are no numbers that go up");

        let dirs = node.daemon.dirs();
        let mut open = Vec::new();
        for dir in [&dirs.root, &dirs.state] {
            collect_open(dir, &mut open)?;
        }
        assert!(open.is_empty(), "{open:#?}");
        for (socket, mode) in
            [(dirs.base.join("cri.sock"), 0o660), (dirs.state.join("admin.sock"), 0o660)]
        {
            assert_eq!(fs::metadata(&socket)?.permissions().mode() & 0o777, mode);
        }
        let abstract_ones = fs::read_to_string("/proc/net/unix")?;
        let abstract_ones: Vec<_> =
            abstract_ones.lines().filter(|line| line.contains(" @")).collect();
        assert!(abstract_ones.is_empty(), "T-HOST-2, CVE-2020-15257: {abstract_ones:?}");
        for pod in &pods {
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}

fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a user without any rights can list, read or connect to at and below `path`.
fn collect_open(path: &Path, open: &mut Vec<String>) -> Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let mode = metadata.permissions().mode();
    if metadata.is_symlink() {
        return Ok(());
    }
    if mode & 0o006 != 0 {
        open.push(format!("{} {:o}", path.display(), mode & 0o7777));
    }
    if metadata.is_dir() && mode & 0o001 != 0 {
        for entry in fs::read_dir(path)?.flatten() {
            collect_open(&entry.path(), open)?;
        }
    }
    Ok(())
}

/// A process that tried to get away from its container does not outlive it.
#[test]
fn nothing_survives_a_container_and_pause_reaps_what_nobody_waits_for() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        // Its own session, no parent, no terminal, no signal that it would listen to.
        let escape = "(trap '' TERM HUP INT; setsid sleep 777001 & setsid sleep 777002 &) & ";
        for shared in [false, true] {
            let spec = pod("p");
            let pod = node.client.run_pod(if shared { spec.shared_pid() } else { spec }).await?;
            let spec = |name: &str| container(name).image(&node.image);
            let brief = spec("brief").script(&format!("{escape} sleep 0.05; exit 4"));
            assert_eq!(pod.run(brief).await?.wait_for_exit().await?.exit_code, 4);
            gone("sleep 77700").await?;

            let long = pod.run(spec("long").script(&format!("{escape} exec sleep 777000"))).await?;
            wait::until("it has children", SOON, async || {
                Ok((process::find(&["sleep 77700"]).len() == 3).then_some(()))
            })
            .await?;
            // What an exec leaves behind belongs to the container as well.
            long.shell("setsid sleep 777003 >/dev/null 2>&1 & true").await?;
            long.stop(0).await?;
            gone("sleep 77700").await?;
            pod.delete().await?;
        }

        let pod = node.client.run_pod(pod("orphans").shared_pid()).await?;
        let orphans = "for i in 1 2 3; do (sh -c 'sleep 0.05; echo gone' &); done; exec sleep inf";
        let app = pod.run(container("app").image(&node.image).script(orphans)).await?;
        app.wait_for_log("gone\ngone\ngone").await?;
        // Pause, the container, and ls itself: a zombie would be in the list.
        wait::until("no orphan is left", SOON, async || {
            let listed = app.exec(["/bin/ls", "/proc"]).await?.stdout;
            Ok((listed.lines().filter(|name| name.parse::<u32>().is_ok()).count() == 3)
                .then_some(()))
        })
        .await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

async fn gone(command: &str) -> Result<()> {
    wait::until(&format!("no {command} runs"), SOON, async || {
        Ok(process::find(&[command]).is_empty().then_some(()))
    })
    .await
}

/// Two containers of one image, one of which does its worst.
#[test]
fn an_image_stays_as_it_is_whatever_its_containers_do() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = |name: &str| container(name).image(&node.image).cmd(["/bin/sleep", "inf"]);
        let (good, bad) = (pod.run(spec("good")).await?, pod.run(spec("bad")).await?);
        let sum = "cat /etc/passwd /etc/group | md5sum; md5sum /bin/busybox; ls -ld /tmp /home/*; \
                   ls -a /";
        let before = good.shell(sum).await?;
        bad.shell(
            "rm /etc/group; echo root::0:0::/:/bin/sh > /etc/passwd; chmod 777 /home/alice; \
             rmdir /tmp; mv /home /was-home; echo new > /new; \
             cp /bin/busybox /busybox && /busybox rm /bin/busybox && \
             echo x > /bin/busybox",
        )
        .await?;
        assert_eq!(good.shell(sum).await?, before);
        let later = pod.run(spec("later")).await?;
        assert_eq!(later.shell(sum).await?, before);
        pod.delete().await?;
        audit.assert_clean().await
    });
}
