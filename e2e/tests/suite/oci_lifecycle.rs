//! A container's life by the OCI command line (`runtime.md`, "Lifecycle").

use std::time::Duration;

use anyhow::{Context, Result};
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place;
use berth_e2e::wait;

const SOON: Duration = Duration::from_secs(10);

async fn stopped(oci: &Oci, id: &str) -> Result<()> {
    let ended = wait::until("the container has stopped", SOON, async || {
        Ok((oci.state(id).await?["status"] == "stopped").then_some(()))
    });
    ended.await.map(drop)
}

#[test]
fn run_answers_with_the_programs_output_and_code() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        let output = oci.run(&bundle.script("echo out; echo err >&2; exit 7")).await?;
        assert_eq!((output.code, output.stdout.as_str()), (7, "out\n"));
        assert_eq!(output.stderr, "err\n");
        oci.assert_clean().await
    });
}

#[test]
fn a_container_goes_through_all_its_states() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle =
            oci.bundle("a")?.script("echo begun; trap 'exit 3' TERM; while :; do sleep 0.1; done");
        oci.create(&bundle).await?;
        let state = oci.state("a").await?;
        assert_eq!((&state["status"], &state["id"]), (&"created".into(), &"a".into()));
        assert_eq!(state["bundle"], bundle.path());
        assert!(state["pid"].as_i64().context("a pid")? > 1);
        assert_eq!(bundle.read("out")?, "", "it does not run yet");
        oci.ok(&["start", "a"]).await?;
        assert_eq!(oci.state("a").await?["status"], "running");
        assert!(oci.call(&["start", "a"]).await?.code != 0, "it runs already");
        assert!(oci.call(&["delete", "a"]).await?.stderr.contains("running"));
        wait::until("it has begun", SOON, async || {
            Ok((bundle.read("out")? == "begun\n").then_some(()))
        })
        .await?;
        oci.ok(&["pause", "a"]).await?;
        assert_eq!(oci.state("a").await?["status"], "paused");
        assert!(oci.call(&["exec", "a", "/bin/true"]).await?.stderr.contains("paused"));
        oci.ok(&["resume", "a"]).await?;
        assert!(oci.ok(&["list", "-q"]).await?.contains("a\n"));
        oci.ok(&["kill", "a", "TERM"]).await?;
        stopped(&oci, "a").await?;
        let state = oci.state("a").await?;
        assert_eq!(state["pid"], 0);
        assert!(oci.call(&["kill", "a", "KILL"]).await?.stderr.contains("not running"));
        oci.ok(&["delete", "a"]).await?;
        assert!(oci.call(&["state", "a"]).await?.stderr.contains("not found"));
        oci.assert_clean().await
    });
}

#[test]
fn start_says_why_the_program_does_not_run() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        std::fs::write(bundle.rootfs().join("bin/garbage"), [0xff; 64])?;
        std::fs::write(bundle.rootfs().join("bin/plain"), "")?;
        bundle.install(&bundle.rootfs().join("bin/plain"), "bin/script")?;
        std::fs::write(bundle.rootfs().join("bin/script"), "#!/no/such/shell\n")?;
        let missing = oci.try_create(&bundle.clone().args(&["nowhere"])).await?;
        assert!(missing.stderr.contains("executable file not found"), "{missing:?}");
        let plain = oci.try_create(&bundle.clone().args(&["/bin/plain"])).await?;
        assert!(plain.stderr.contains("permission denied"), "{plain:?}");
        oci.create(&bundle.args(&["/bin/script"])).await?;
        let started = oci.call(&["start", "a"]).await?;
        assert!(started.code != 0 && started.stderr.contains("no such file"), "{started:?}");
        stopped(&oci, "a").await?;
        oci.ok(&["delete", "a"]).await?;
        oci.assert_clean().await
    });
}

#[test]
fn more_processes_run_in_it() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?.args(&["/bin/sleep", "1000"]);
        oci.start(&bundle).await?;
        let output =
            oci.call(&["exec", "a", "/bin/sh", "-c", "echo $A; pwd; id -u; exit 9"]).await?;
        assert_eq!((output.code, output.stdout.as_str()), (9, "\n/\n0\n"));
        let changed = ["exec", "--env", "A=b", "--cwd", "/tmp", "--user", "1000:50", "a"];
        let script = ["/bin/sh", "-c", "echo $A; pwd; id -u; id -g"];
        assert_eq!(
            oci.call(&[&changed[..], &script].concat()).await?.stdout,
            "b\n/tmp\n1000\n50\n"
        );
        for bad in ["4294967296", "-1", "root", "0x0"] {
            let refused = oci.call(&["exec", "--user", bad, "a", "/bin/id"]).await?;
            assert!(refused.code != 0 && refused.stdout.is_empty(), "{bad}: {refused:?}");
        }
        let init = oci.exec("a", "cat /proc/1/cmdline").await?;
        assert_eq!(init, "/bin/sleep\x001000\x00");
        let missing = oci.call(&["exec", "a", "nowhere"]).await?;
        assert!(missing.stderr.contains("executable file not found"), "{missing:?}");
        let pids = oci.ok(&["ps", "--format", "json", "a"]).await?;
        let state = oci.state("a").await?;
        assert_eq!(pids.trim(), format!("[{}]", state["pid"]));
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn what_fails_leaves_nothing() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let good = oci.bundle("a")?.args(&["/bin/sleep", "1000"]);
        let broken: [fn(Bundle) -> Bundle; 4] = [
            |bundle| bundle.mount("/data", "bind", "/no/such/source", &["bind"]),
            |bundle| bundle.set("/root/path", "nowhere".into()),
            |bundle| bundle.set("/linux/cgroupsPath", "/../../escape".into()),
            |bundle| bundle.set("/process/cwd", "relative".into()),
        ];
        for break_it in broken {
            let refused = oci.try_create(&break_it(good.clone())).await?;
            assert!(refused.code != 0 && !refused.stderr.is_empty(), "{refused:?}");
            oci.assert_clean().await?;
        }
        oci.create(&good).await?;
        let taken = oci.try_create(&good).await?;
        assert!(taken.stderr.contains("exists"), "{taken:?}");
        assert_eq!(oci.state("a").await?["status"], "created", "the first one is untouched");
        oci.ok(&["delete", "a"]).await?;
        for bad in ["", "../a", "a/b", "."] {
            assert!(oci.call(&["delete", "--force", bad]).await?.code != 0, "{bad:?}");
        }
        oci.ok(&["delete", "--force", "never-made"]).await?;
        assert!(oci.call(&["delete", "never-made"]).await?.code != 0);
        oci.assert_clean().await
    });
}

#[test]
fn errors_are_in_the_log_that_an_engine_reads() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let log = place.scratch().join("log.json");
        let log = log.to_str().context("a path")?;
        let failed = oci.call(&["--log", log, "--log-format", "json", "state", "nobody"]).await?;
        assert_eq!(failed.code, 1);
        let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(log)?)?;
        assert_eq!(line["level"], "error");
        assert!(line["msg"].as_str().context("a message")?.contains("nobody"), "{line}");
        oci.assert_clean().await
    });
}

/// Whoever ends a container kills what is in its cgroup.
#[test]
fn a_cgroup_that_is_in_use_is_refused() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        oci.start(&oci.bundle("a")?.args(&["/bin/sleep", "1000"])).await?;
        let second = oci.bundle("b")?.set("/linux/cgroupsPath", "/e2e/a".into());
        for words in [["create", "--bundle"], ["run", "--bundle"]] {
            second.write()?;
            let refused = oci.call(&[&words[..], &[second.path(), "b"]].concat()).await?;
            assert!(refused.stderr.contains("cgroup is not empty"), "{refused:?}");
        }
        assert_eq!(oci.state("a").await?["status"], "running");
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}
