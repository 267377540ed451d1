//! T-FD: what a process of a container inherits, and what of ours it can reach or write to. With
//! `berth-oci`, which makes a process in a few milliseconds; `security` has the same of pods.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_e2e::canary::{Canary, UNTOUCHED};
use berth_e2e::daemon::binaries;
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place::{self, Place, needs};
use berth_e2e::{process, wait};
use rustix::fs::{FileType, Mode, makedev, mknodat};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountFlags, mount, mount_bind};
use serde_json::json;
use tokio::process::Command;
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(20);
/// What `ls /proc/self/fd` prints; the last is its own, by which it reads the directory.
const STREAMS: &str = "0\n1\n2\n3\n";

/// A directory of the node that each program started from here inherits, as those of a careless
/// engine do.
fn leak(path: &Path) -> Result<File> {
    let file = File::open(path).context("open a directory")?;
    fcntl_setfd(&file, FdFlags::empty()).context("have it inherited")?;
    Ok(file)
}

/// T-FD-1.
#[test]
fn a_process_has_its_streams_and_nothing_else() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let _leaks: Vec<_> = (0..4).map(|_| leak(place.scratch())).collect::<Result<Vec<_>>>()?;
        let list = oci.bundle("list")?.args(&["/bin/ls", "/proc/self/fd"]);
        assert_eq!(oci.run(&list).await?.stdout, STREAMS);
        oci.start(&list).await?;
        wait::until("it has listed them", SOON, async || {
            Ok((list.read("out")? == STREAMS).then_some(()))
        })
        .await?;
        oci.delete("list").await?;

        let app = oci.bundle("app")?.args(&["/bin/sleep", "1000"]);
        oci.start(&app).await?;
        assert_eq!(oci.ok(&["exec", "app", "/bin/ls", "/proc/self/fd"]).await?, STREAMS);
        oci.delete("app").await?;
        oci.assert_clean().await
    });
}

/// A container that waits for its start has streams, and sockets to its parent and its starter:
/// nothing that leads to a file of the node.
#[test]
fn a_created_process_holds_no_file_of_the_node() {
    place::native(async |place| {
        // A copy that nobody else runs, which would keep it from being written to as well.
        let oci = Oci::begin(&place)?.program(victim(&place)?);
        let _leak = leak(place.scratch())?;
        let bundle = oci.bundle("a")?.args(&["/bin/sleep", "1000"]);
        oci.create(&bundle).await?;
        let pid = oci.state("a").await?["pid"].as_i64().context("a pid")?;
        let mut others = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let entry = entry?;
            let number: i32 = entry.file_name().to_string_lossy().parse()?;
            let target = fs::read_link(entry.path())?.to_string_lossy().into_owned();
            if number > 2 {
                let harmless = ["socket:[", "anon_inode:[signalfd]"];
                let known = harmless.iter().any(|start| target.starts_with(start));
                assert!(known, "{number} is {target}");
                others += 1;
            }
        }
        assert!(others <= 3, "{others} of them");
        let inode = |path: &str| fs::metadata(path).map(|found| (found.dev(), found.ino()));
        let root = inode(&bundle.rootfs().to_string_lossy())?;
        assert_eq!(inode(&format!("/proc/{pid}/root"))?, root);
        assert_eq!(inode(&format!("/proc/{pid}/cwd"))?, root);
        let exe = File::open(format!("/proc/{pid}/exe"))?;
        oci.delete("a").await?;
        let path = format!("/proc/self/fd/{}", exe.as_raw_fd());
        let written = File::options().write(true).open(path).map(drop);
        assert_eq!(written.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        oci.assert_clean().await
    });
}

/// T-FD-1, for what goes wrong once in a hundred times.
#[test]
fn no_descriptor_slips_through_when_many_are_made_at_once() {
    const CONTAINERS: usize = 240;
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?.args(&["/bin/ls", "/proc/self/fd"]);
        let _leak = leak(place.scratch())?;
        let root = json!(bundle.rootfs());
        let bundle = bundle.set("/root/path", root);
        let mut running = JoinSet::new();
        let mut ended = 0;
        for number in 0..CONTAINERS {
            let id = format!("c{number}");
            let dir = place.dir("many")?.join(&id);
            fs::create_dir_all(&dir)?;
            let own = Bundle { id: id.clone(), dir, spec: bundle.spec.clone() };
            let own = own.set("/linux/cgroupsPath", json!(format!("/e2e/{id}")));
            own.write()?;
            let mut command = oci.command(&["run", "--bundle", own.path(), &id]);
            running.spawn(async move { command.output().await });
            if running.len() == 8 {
                ended += check(running.join_next().await)?;
            }
        }
        while !running.is_empty() {
            ended += check(running.join_next().await)?;
        }
        assert_eq!(ended, CONTAINERS);
        oci.assert_clean().await
    });
}

type Joined = Option<Result<std::io::Result<std::process::Output>, tokio::task::JoinError>>;

fn check(ended: Joined) -> Result<usize> {
    let output = ended.context("a container that runs")???;
    ensure!(output.stdout == STREAMS.as_bytes(), "{output:?}");
    Ok(1)
}

/// T-FD-2: CVE-2024-21626. The directory that is made on the way is another way out.
#[test]
fn no_descriptor_is_a_way_out_for_a_working_directory() {
    place::native(async |place| {
        let (oci, canary) = (Oci::begin(&place)?, Canary::new(&place)?);
        let _leaks = [leak(canary.path())?, leak(canary.path())?, leak(canary.path())?];
        let bundle = oci.bundle("a")?.script("ls; pwd");
        for fd in 3..64 {
            symlink(format!("/proc/self/fd/{fd}"), bundle.rootfs().join(format!("w{fd}")))?;
        }
        for fd in 3..64 {
            let ways = [
                format!("/w{fd}"),
                format!("/proc/self/fd/{fd}/made"),
                format!("/proc/self/fd/{fd}"),
                format!("/w{fd}/made"),
            ];
            // Where descriptors are, all of them.
            for cwd in ways.iter().take(if fd < 16 { 4 } else { 2 }) {
                let refused = oci.run(&bundle.clone().set("/process/cwd", json!(cwd))).await?;
                assert!(refused.code != 0 && refused.stdout.is_empty(), "{cwd}: {refused:?}");
                assert!(refused.stderr.contains(cwd), "{refused:?}");
            }
        }
        canary.assert_untouched()?;

        oci.start(&bundle.args(&["/bin/sleep", "1000"])).await?;
        for fd in 3..16 {
            for cwd in [format!("/proc/self/fd/{fd}"), format!("/w{fd}"), format!("/w{fd}/x")] {
                let refused = oci.call(&["exec", "--cwd", &cwd, "a", "/bin/ls"]).await?;
                assert!(refused.code != 0 && refused.stdout.is_empty(), "{cwd}: {refused:?}");
            }
        }
        oci.delete("a").await?;
        canary.assert_untouched()?;
        oci.assert_clean().await
    });
}

/// A descriptor that is to be inherited is the program's, and still no place to work in.
#[test]
fn an_inherited_descriptor_is_no_working_directory() {
    place::native(async |place| {
        let (oci, canary) = (Oci::begin(&place)?, Canary::new(&place)?);
        let leaked = leak(canary.path())?;
        let number = leaked.as_raw_fd();
        let count = (number - 2).to_string();
        let run = async |bundle: &Bundle| {
            bundle.write()?;
            oci.call(&["run", "--preserve-fds", &count, "--bundle", bundle.path(), "a"]).await
        };
        let bundle = oci.bundle("a")?;
        let given = bundle.clone().script(&format!("ls /proc/self/fd/{number}/"));
        assert!(run(&given).await?.stdout.contains(UNTOUCHED), "it was to be inherited");
        for cwd in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/made")] {
            let ls = bundle.clone().args(&["/bin/ls"]).set("/process/cwd", json!(cwd));
            let refused = run(&ls).await?;
            assert!(refused.code != 0 && refused.stdout.is_empty(), "{cwd}: {refused:?}");
        }
        canary.assert_untouched()?;
        oci.assert_clean().await
    });
}

/// A copy of berth-oci that nobody will miss.
fn victim(place: &Place) -> Result<std::path::PathBuf> {
    let copy = place.dir("victim")?.join("berth-oci");
    fs::copy(binaries::find("berth-oci")?, &copy).context("copy berth-oci")?;
    Ok(copy)
}

/// T-FD-3.
#[test]
fn a_program_that_is_proc_self_exe_fails_and_changes_nothing() {
    place::native(async |place| {
        let copy = victim(&place)?;
        let before = fs::read(&copy)?;
        let oci = Oci::begin(&place)?.program(copy.clone());
        let bundle = oci.bundle("a")?;
        fs::write(bundle.rootfs().join("bin/script"), "#!/proc/self/exe\n")?;
        bundle.install(&bundle.rootfs().join("bin/script"), "bin/self")?;
        fs::write(bundle.rootfs().join("bin/self"), "#!/proc/self/exe\n")?;
        for program in ["/proc/self/exe", "/bin/self"] {
            let failed = oci.run(&bundle.clone().args(&[program])).await?;
            assert!(failed.code != 0 && failed.stdout.is_empty(), "{program}: {failed:?}");
        }
        oci.start(&bundle.args(&["/bin/sleep", "1000"])).await?;
        for program in ["/proc/self/exe", "/bin/self"] {
            let failed = oci.call(&["exec", "a", program]).await?;
            assert!(failed.code != 0 && failed.stdout.is_empty(), "{program}: {failed:?}");
        }
        oci.delete("a").await?;
        assert!(fs::read(&copy)? == before, "berth-oci was written to");
        oci.assert_clean().await
    });
}

/// CVE-2019-5736 as it was used: the runtime is made to run itself in the container, somebody
/// there holds on to its file, and writes when nobody runs it any more.
#[test]
fn the_file_of_the_runtime_cannot_be_written_to_from_inside() {
    place::native(async |place| {
        let copy = victim(&place)?;
        let before = fs::read(&copy)?;
        let oci = Oci::begin(&place)?.program(copy.clone());
        let bundle = oci.bundle("a")?.args(&["/bin/sleep", "1000"]);
        // It waits for a configuration that nobody writes.
        fs::create_dir(bundle.rootfs().join("trap"))?;
        let fifo = bundle.rootfs().join("trap/config.json");
        let kind = FileType::Fifo;
        mknodat(rustix::fs::CWD, &fifo, kind, Mode::from_raw_mode(0o600), 0)?;
        oci.start(&bundle).await?;
        let words = ["exec", "a", "/proc/self/exe", "--root", "/tmp/r", "run", "-b", "/trap", "x"];
        let mut own = oci.command(&words).spawn()?;
        let inside = ["/proc/self/exe", "/trap"];
        let theirs = wait::until("our program runs in the container", SOON, async || {
            let found = process::find(&inside).into_iter().find(|pid| {
                let root = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
                Some(pid.cast_unsigned()) != own.id() && root == Path::new("/") && waits(*pid)
            });
            Ok(found)
        })
        .await?;
        let script = "for p in /proc/[0-9]*; do \
            if tr '\\0' ' ' < $p/cmdline | grep -q '^/proc/self/exe .*trap'; then pid=$p; fi; \
            done; [ -n \"$pid\" ] || exit 9; exec 9< $pid/exe || exit 8; \
            (echo bad > $pid/exe) 2>/dev/null && exit 7; kill -9 ${pid#/proc/}; \
            while [ -e $pid/exe ]; do :; done; (echo bad > /proc/self/fd/9) 2>&1 && exit 6; \
            (chmod 777 /proc/self/fd/9) 2>&1 && exit 5; exit 0";
        let output = oci.call(&["exec", "a", "/bin/sh", "-c", script]).await?;
        assert_eq!(output.code, 0, "{theirs}: {output:?}");
        assert_eq!(output.stdout.matches("ead-only").count(), 2, "{output:?}");
        own.wait().await?;
        oci.delete("a").await?;
        assert!(fs::read(&copy)? == before, "berth-oci was written to");
        oci.assert_clean().await
    });
}

/// Whether a process has no one to wait for but the writer of a pipe.
fn waits(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.starts_with(b"/proc/self/exe\0")
}

/// Root in a container may change what it holds a descriptor of, and what it sees.
#[test]
fn the_null_device_of_the_node_is_not_given_away() {
    place::native(async |place| {
        // Not the machine's own, should this go wrong.
        let devices = place.dir("devices")?;
        mount("tmpfs", &devices, "tmpfs", MountFlags::empty(), None).context("mount a tmpfs")?;
        let null = devices.join("null");
        let mode = Mode::from_raw_mode(0o666);
        mknodat(rustix::fs::CWD, &null, FileType::CharacterDevice, mode, makedev(1, 3))?;
        rustix::fs::chmod(&null, mode)?;
        mount_bind(&null, "/dev/null").context("bind a null device")?;
        let look = || fs::metadata(&null).map(|found| (found.mode(), found.uid(), found.gid()));
        let before = look()?;
        assert!(fs::metadata("/dev/null")?.file_type().is_char_device());

        let oci = Oci::begin(&place)?;
        let harm = "for f in /proc/self/fd/0 /dev/stdin /proc/kcore /proc/keys; do \
                    chmod 600 $f; chown 7:7 $f; touch -t 200001010000 $f; done 2>/tmp/said; \
                    cat /proc/self/fd/0; echo x > /proc/self/fd/0; echo done";
        let bundle = oci.bundle("a")?;
        assert_eq!(oci.script(bundle.clone(), harm).await?, "done\n");
        assert_eq!(look()?, before, "by the first process");
        oci.start(&bundle.args(&["/bin/sleep", "1000"])).await?;
        assert_eq!(oci.exec("a", harm).await?, "done\n");
        assert_eq!(look()?, before, "by a command");
        // With nothing in the container that could take its place.
        oci.exec("a", "rm -f /dev/null; mkfifo /dev/null").await?;
        assert_eq!(oci.exec("a", harm).await?, "done\n");
        assert_eq!(look()?, before, "where /dev/null is a pipe");
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

/// T-FD-4: a descriptor that is not made close-on-exec at once can be inherited by who is started
/// in between.
#[test]
fn every_descriptor_is_made_close_on_exec() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?.args(&["/bin/true"]);
        bundle.write()?;
        let lines = place.scratch().join("lines");
        let own = oci.command(&["run", "--bundle", bundle.path(), "a"]);
        let mut traced = Command::new(needs::program("strace")?);
        traced.args(["-f", "-q", "-o"]).arg(&lines).args([
            "-e",
            "trace=open,openat,openat2,open_tree,fsopen,fsmount,socket,socketpair,accept,accept4,\
             memfd_create,signalfd4,epoll_create1,eventfd2,pipe,pipe2,dup,dup3,inotify_init1",
        ]);
        traced.arg(own.as_std().get_program()).args(own.as_std().get_args());
        assert!(traced.status().await?.success());
        let lines = fs::read_to_string(&lines)?;
        let made: Vec<_> = lines.lines().filter(|line| line.contains(") = ")).collect();
        let open: Vec<_> = made
            .iter()
            .filter(|line| !line.contains("= -1 ") && !line.contains("CLOEXEC"))
            .collect();
        assert!(made.len() > 20, "{lines}");
        assert!(open.is_empty(), "{open:#?}");
        oci.assert_clean().await
    });
}
