//! Checkpoint and restore: a container's processes end, and go on where they were.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::{place, wait};
use serde_json::json;

/// How long criu, emulated, may take for a thing.
const SLOW: Duration = Duration::from_secs(60);

/// Counts into its output and into a volume.
const COUNT: &str =
    "i=0; while :; do echo $i; echo $i > /vol/count; i=$((i + 1)); usleep 50000; done";

fn counter(oci: &Oci, id: &str) -> Result<Bundle> {
    let bundle = oci.bundle(id)?;
    let volume = bundle.dir.join("volume");
    fs::create_dir(&volume)?;
    Ok(bundle
        .script(COUNT)
        .mount("/vol", "bind", volume.to_str().context("a path")?, &["rbind", "rw"])
        .set("/linux/resources/memory", json!({"limit": 64 << 20})))
}

/// What it has counted. Fails if a number is missing, or there twice.
fn counted(bundle: &Bundle) -> Result<usize> {
    let text = bundle.read("out")?;
    // The last line may be cut off.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for (index, line) in whole.lines().enumerate() {
        ensure!(line == index.to_string(), "line {index} is {line:?}");
    }
    Ok(whole.lines().count())
}

async fn counts_beyond(bundle: &Bundle, number: usize) -> Result<()> {
    wait::until("it counts on", SLOW, async || Ok((counted(bundle)? > number + 5).then_some(())))
        .await
}

/// `restore --detach`, with the output where it was.
async fn restore(oci: &Oci, bundle: &Bundle, images: &str) -> Result<i32> {
    let pid_file = bundle.dir.join("pid");
    let words = ["restore", "--detach", "--bundle", bundle.path(), "--image-path", images];
    let mut command = oci.command(&words);
    command.arg("--pid-file").arg(&pid_file).arg(&bundle.id);
    let file = |name: &str| File::options().append(true).open(bundle.dir.join(name));
    let status = command.stdout(file("out")?).stderr(file("err")?).status().await?;
    ensure!(status.success(), "restore: {status}: {}", log(images, "restore"));
    Ok(fs::read_to_string(pid_file)?.parse()?)
}

fn log(images: &str, verb: &str) -> String {
    let log = fs::read_to_string(format!("{images}/{verb}.log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[test]
fn a_container_goes_on_where_it_was() {
    place::full_machine(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = counter(&oci, "count")?;
        let images = bundle.dir.join("images").to_string_lossy().into_owned();
        oci.start(&bundle).await?;
        counts_beyond(&bundle, 0).await?;
        let saved = oci.call(&["checkpoint", "--image-path", &images, "count"]).await?;
        ensure!(saved.code == 0, "{saved:?}: {}", log(&images, "dump"));
        let gone = oci.call(&["state", "count"]).await?;
        assert!(gone.stderr.contains("does not exist"), "{gone:?}");
        oci.assert_clean().await?;

        let before = counted(&bundle)?;
        let pid = restore(&oci, &bundle, &images).await?;
        counts_beyond(&bundle, before).await?;
        let state = oci.state("count").await?;
        assert_eq!(
            (state["status"].as_str(), state["pid"].as_i64()),
            (Some("running"), Some(pid.into()))
        );
        let cgroup = Path::new("/sys/fs/cgroup/e2e/count");
        assert_eq!(fs::read_to_string(cgroup.join("memory.max"))?, "67108864\n");
        assert!(fs::read_to_string(cgroup.join("cgroup.procs"))?.contains(&format!("{pid}\n")));
        // A container like any other.
        assert_eq!(oci.exec("count", "hostname; cat /proc/1/comm").await?, "bundle\nsh\n");
        let masked = oci.exec("count", "cat /proc/kcore | wc -c; cat /proc/self/cgroup").await?;
        assert_eq!(masked, "0\n0::/\n");
        let volume: usize = fs::read_to_string(bundle.dir.join("volume/count"))?.trim().parse()?;
        assert!(volume >= before, "{volume} after {before}");
        oci.ok(&["pause", "count"]).await?;
        oci.ok(&["resume", "count"]).await?;
        oci.delete("count").await?;
        oci.assert_clean().await
    });
}

#[test]
fn a_container_may_run_on_while_it_is_saved() {
    place::full_machine(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = counter(&oci, "count")?;
        let images = |name: &str| bundle.dir.join(name).to_string_lossy().into_owned();
        oci.start(&bundle).await?;
        counts_beyond(&bundle, 0).await?;
        let pid = oci.state("count").await?["pid"].clone();
        oci.ok(&["checkpoint", "--pre-dump", "--image-path", &images("first"), "count"]).await?;
        counts_beyond(&bundle, counted(&bundle)?).await?;
        let whole = images("whole");
        let words = ["checkpoint", "--leave-running", "--parent-path", "../first"];
        oci.ok(&[&words[..], &["--image-path", &whole, "count"]].concat()).await?;
        counts_beyond(&bundle, counted(&bundle)?).await?;
        assert_eq!(oci.state("count").await?["pid"], pid);
        assert_eq!(oci.state("count").await?["status"], "running");
        oci.delete("count").await?;
        oci.assert_clean().await
    });
}

#[test]
fn a_restore_that_stays_answers_how_the_program_ended() {
    place::full_machine(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("brief")?.script("until [ -e /go ]; do usleep 50000; done; exit 7");
        let images = bundle.dir.join("images").to_string_lossy().into_owned();
        oci.start(&bundle).await?;
        oci.ok(&["checkpoint", "--image-path", &images, "brief"]).await?;
        fs::write(bundle.rootfs().join("go"), "")?;
        let words = ["restore", "--bundle", bundle.path(), "--image-path", &images, "brief"];
        let mut command = oci.command(&words);
        let file = |name: &str| File::options().append(true).open(bundle.dir.join(name));
        let status = command.stdout(file("out")?).stderr(file("err")?).status().await?;
        assert_eq!(status.code(), Some(7), "{}", log(&images, "restore"));
        assert_ne!(oci.call(&["state", "brief"]).await?.code, 0, "it is deleted");
        oci.assert_clean().await
    });
}

#[test]
fn what_cannot_be_saved_or_restored_leaves_no_trace() {
    place::full_machine(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = counter(&oci, "count")?;
        oci.start(&bundle).await?;
        counts_beyond(&bundle, 0).await?;
        let file = bundle.dir.join("file");
        fs::write(&file, "")?;
        let below = file.join("images").to_string_lossy().into_owned();
        let new = bundle.dir.join("new").to_string_lossy().into_owned();
        let refused: [(&[&str], &str); 5] = [
            (&["--image-path", &below], "make directory"),
            (&["--image-path", &new, "--parent-path", "nowhere"], "--parent-path"),
            (&["--image-path", &new, "--manage-cgroups-mode", "some"], "--manage-cgroups-mode"),
            (&["--image-path", &new, "--lazy-pages"], "--lazy-pages is not supported"),
            (&["--image-path", &new, "--page-server", "a:1"], "--page-server is not supported"),
        ];
        for (words, why) in refused {
            let told = oci.call(&[&["checkpoint"], words, &["count"]].concat()).await?;
            assert!(told.code != 0 && told.stderr.contains(why), "{words:?}: {told:?}");
            assert!(!Path::new(&new).exists(), "{words:?}");
        }
        counts_beyond(&bundle, counted(&bundle)?).await?;
        oci.delete("count").await?;

        fs::create_dir(&new)?;
        for images in [new.as_str(), below.as_str()] {
            let words = ["restore", "--detach", "--bundle", bundle.path()];
            let told = oci.call(&[&words[..], &["--image-path", images, "count"]].concat()).await?;
            assert_ne!(told.code, 0, "{images}");
            let why = if images == new { "criu: restore: Error" } else { "--image-path" };
            assert!(told.stderr.contains(why), "{told:?}");
        }
        assert_ne!(oci.call(&["state", "count"]).await?.code, 0);
        oci.assert_clean().await
    });
}
