//! What the commands of the OCI command line answer, and how, where engines depend on it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use berth_e2e::daemon::binaries;
use berth_e2e::oci::Oci;
use berth_e2e::place;
use berth_e2e::wait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn versions_and_lists_are_for_programs_too() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        for flag in ["-v", "--version"] {
            let told = oci.ok(&[flag]).await?;
            assert!(told.starts_with("berth-oci version "), "{told}");
            assert!(told.contains("\nspec: 1."), "{told}");
        }
        let mut list = std::process::Command::new(binaries::find("berth-oci")?);
        let none = list.args(["--root", "/no/such/directory", "list"]).output()?;
        assert!(!none.status.success(), "the named root directory is not there");
        oci.start(&oci.bundle("a")?.args(&["/bin/sleep", "1000"])).await?;
        let list = oci.ok(&["list", "--format", "json"]).await?;
        assert_eq!(list.lines().count(), 1, "{list}");
        let list: Value = serde_json::from_str(&list)?;
        assert_eq!(list[0]["id"], "a");
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn debugging_is_told_in_the_log_or_on_standard_error() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        oci.start(&oci.bundle("a")?.args(&["/bin/sleep", "1000"])).await?;
        let told = oci.call(&["--debug", "exec", "a", "/bin/true"]).await?;
        assert!(told.code == 0 && told.stderr.contains("level=debug"), "{told:?}");
        let log = place.scratch().join("log");
        let log = log.to_str().context("a path")?;
        let quiet = oci.call(&["--debug", "--log", log, "exec", "a", "/bin/true"]).await?;
        assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
        assert!(std::fs::read_to_string(log)?.contains("level=debug"));
        std::fs::remove_file(log)?;
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

/// Where a container shares the PID namespace of its host, its processes do not end with the
/// first one.
#[test]
fn a_kill_reaches_those_who_outlive_the_first_process() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?.args(&["/bin/sleep", "1000"]);
        let namespaces = json!([
            {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
            {"type": "cgroup"},
        ]);
        oci.start(&bundle.set("/linux/namespaces", namespaces)).await?;
        assert!(oci.call(&["kill", "a", "0"]).await?.code == 0, "it could be signalled");
        let mut exec = oci.command(&["exec", "--detach", "a", "/bin/sleep", "1001"]);
        let exec = exec.stdout(Stdio::null()).stderr(Stdio::null());
        assert!(exec.status().await?.success());
        let pid = oci.state("a").await?["pid"].to_string();
        assert!(std::process::Command::new("kill").args(["-9", &pid]).status()?.success());
        wait::until("its first process has ended", SOON, async || {
            Ok((oci.state("a").await?["status"] == "stopped").then_some(()))
        })
        .await?;
        let procs = "/sys/fs/cgroup/e2e/a/cgroup.procs";
        assert_eq!(std::fs::read_to_string(procs)?.lines().count(), 1);
        let others = oci.call(&["kill", "a", "TERM"]).await?;
        assert!(others.stderr.contains("container not running"), "{others:?}");
        oci.ok(&["kill", "a", "KILL"]).await?;
        wait::until("all have ended", SOON, async || {
            Ok(std::fs::read_to_string(procs)?.is_empty().then_some(()))
        })
        .await?;
        oci.ok(&["delete", "a"]).await?;
        oci.assert_clean().await
    });
}

#[test]
fn a_variable_that_is_there_twice_has_its_last_value() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let env = json!(["PATH=/bin", "A=1", "A=2", "HOME=/x", "HOME="]);
        let bundle = oci.bundle("a")?.set("/process/env", env);
        let bundle = bundle.script("busybox tr '\\0' '\\n' < /proc/1/environ; true");
        let output = oci.run(&bundle).await?;
        let mut lines: Vec<_> = output.stdout.lines().collect();
        lines.sort();
        assert_eq!(lines, ["A=2", "HOME=/root", "PATH=/bin"], "{output:?}");
        oci.assert_clean().await
    });
}

#[test]
fn sockets_of_a_service_manager_are_passed_on() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?.script("echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd");
        bundle.write()?;
        // A shell stands for the service manager: it knows the PID that the runtime will have.
        let run = oci.command(&["run", "--bundle", bundle.path(), "a"]);
        let words: Vec<_> = std::iter::once(run.as_std().get_program())
            .chain(run.as_std().get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let manager = |pid: &str| {
            let script = format!("LISTEN_PID={pid} LISTEN_FDS=1 exec \"$@\" 3</dev/null");
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &script, "sh"]).args(&words).output()
        };
        let ours = String::from_utf8(manager("$$")?.stdout)?;
        assert!(ours.starts_with("1 1\n") && ours.contains("\n3\n"), "{ours}");
        let others = String::from_utf8(manager("1")?.stdout)?;
        assert!(others.starts_with("\n"), "{others}");
        oci.assert_clean().await
    });
}

#[test]
fn statistics_are_one_line() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        oci.start(&oci.bundle("a")?.args(&["/bin/sleep", "1000"])).await?;
        let told = oci.ok(&["events", "--stats", "a"]).await?;
        assert!(told.starts_with(r#"{"type":"stats","id":"a","data":{"#), "{told}");
        let told: Value = serde_json::from_str(&told)?;
        assert!(told["data"]["cpu"]["usage"]["total"].is_u64(), "{told}");
        let mut watch = oci.command(&["events", "--interval", "50ms", "a"]);
        let mut watch = watch.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(watch.stdout.take().context("its output")?).lines();
        let first = tokio::time::timeout(SOON, lines.next_line()).await??.context("a line")?;
        assert!(first.starts_with(r#"{"type":"stats","id":"a","data":{"#), "{first}");
        oci.delete("a").await?;
        let ended = tokio::time::timeout(SOON, watch.wait()).await??;
        assert!(ended.success(), "it ends with the container");
        let stopped = oci.call(&["events", "--stats", "a"]).await?;
        assert!(stopped.code != 0, "{stopped:?}");
        oci.assert_clean().await
    });
}

/// With the memory controller there is a file to watch, which once was ready all the time.
#[test]
fn events_tell_what_is_used_and_that_memory_ran_out() {
    place::with_controllers(async |place| {
        let oci = Oci::begin(&place)?;
        let memory = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
        let bundle = oci.bundle("a")?.set("/linux/resources", memory);
        oci.start(&bundle.args(&["/bin/sleep", "1000"])).await?;
        let mut watch = oci.command(&["events", "--interval", "50ms", "a"]);
        let mut watch = watch.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(watch.stdout.take().context("its output")?).lines();
        let mut next =
            async || tokio::time::timeout(SOON, lines.next_line()).await??.context("a line");
        for _ in 0..2 {
            let line = next().await?;
            assert!(line.starts_with(r#"{"type":"stats","id":"a","data":{"#), "{line}");
        }
        let hog = ["exec", "a", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
        assert_eq!(oci.call(&hog).await?.code, 128 + 9, "it is killed");
        let mut told = false;
        for _ in 0..100 {
            told |= next().await? == r#"{"type":"oom","id":"a"}"#;
            if told {
                break;
            }
        }
        assert!(told);
        assert!(next().await?.contains("stats"), "it goes on");
        oci.delete("a").await?;
        assert!(tokio::time::timeout(SOON, watch.wait()).await??.success(), "it ends");
        oci.assert_clean().await
    });
}

#[test]
fn what_is_not_supported_is_refused_in_words() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        for words in [["checkpoint", "--leave-running", "a"], ["restore", "--detach", "a"]] {
            let refused = oci.call(&[&["--criu", "/no/criu"][..], &words].concat()).await?;
            let why = "not supported without criu";
            assert!(refused.code != 0 && refused.stderr.contains(why), "{refused:?}");
        }
        for command in ["update", "events", "checkpoint", "restore", "exec", "run"] {
            assert!(!oci.ok(&[command, "--help"]).await?.is_empty());
        }
        oci.assert_clean().await
    });
}
