//! The log files of containers, in the format of the CRI, which the kubelet, `kubectl logs` and
//! log collectors read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use berth_e2e::client::{Code, Container, Pod, assert_refused, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::fault::SmallDisk;
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use berth_e2e::wait;

/// Longest text of a line; a longer one is cut.
const MAX: usize = 16 << 10;

async fn node(place: &Place) -> Result<Node> {
    Node::start(place, Engine::from_env(Engine::Berthd)?).await
}

/// Runs a script to its end, with success.
async fn ran(node: &Node, pod: &Pod, name: &str, script: &str) -> Result<Container> {
    let app = pod.run(container(name).image(&node.image).script(script)).await?;
    assert_eq!(app.wait_for_exit().await?.exit_code, 0, "{script}");
    Ok(app)
}

#[test]
fn a_log_has_both_streams_with_times_that_rise() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let script = "echo one; echo; echo ' spaces  and \t tabs '; sleep 0.05; echo oops >&2; \
                      sleep 0.05; printf 'no end'";
        let app = ran(&node, &pod, "app", script).await?;
        let lines = app.log()?;
        let seen: Vec<_> =
            lines.iter().map(|l| (l.stream.as_str(), l.full, l.text.as_str())).collect();
        let expected = [
            ("stdout", true, "one"),
            ("stdout", true, ""),
            ("stdout", true, " spaces  and \t tabs "),
            ("stderr", true, "oops"),
            ("stdout", false, "no end"),
        ];
        assert_eq!(seen, expected);
        let times: Vec<_> = lines.iter().map(|line| line.time.as_str()).collect();
        assert!(times.is_sorted(), "{times:?}");
        // 2026-11-21T08:00:00.000000001Z sorts as text because it is as long in any case.
        assert!(times.iter().all(|t| t.len() == 30 && t.ends_with('Z')), "{times:?}");
        let mode = std::fs::metadata(app.log_path())?.permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        pod.delete().await?;
        assert!(app.log_path().exists(), "logs are the kubelet's to remove");
        audit.assert_clean().await
    });
}

#[test]
fn a_long_line_is_cut_into_pieces_that_make_it_whole() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let script = format!(
            "x() {{ head -c $1 /dev/zero | tr '\\0' x; echo; }}; x {MAX}; x {}; x {}",
            MAX + 1,
            3 * MAX
        );
        let app = ran(&node, &pod, "app", &script).await?;
        let pieces: Vec<_> = app.log()?.iter().map(|line| (line.full, line.text.len())).collect();
        let (part, end) = ((false, MAX), (true, MAX));
        assert_eq!(pieces, [end, part, (true, 1), part, part, end]);
        let text = app.log_text()?.replace('x', "");
        assert_eq!(text, "\n\n\n");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn any_bytes_are_kept() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let script = r"printf '\000\001\377\376 \r\t\n\303\n\r\n'";
        let app = ran(&node, &pod, "app", script).await?;
        let bytes = std::fs::read(app.log_path())?;
        let texts = bytes.split_inclusive(|byte| *byte == b'\n');
        // After the time, the stream and the tag.
        let texts: Vec<_> =
            texts.filter_map(|line| line.splitn(4, |b| *b == b' ').nth(3)).collect();
        assert_eq!(texts, [&b"\x00\x01\xff\xfe \r\t\n"[..], b"\xc3\n", b"\r\n"]);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// A writer that ends at once, and one that writes faster than a disk.
#[test]
fn nothing_is_lost_of_a_fast_writer() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        for number in 0..5 {
            let app = ran(&node, &pod, &format!("brief{number}"), "echo last words").await?;
            assert_eq!(app.log_text()?, "last words\n", "there as soon as the exit is known");
        }
        let count = 200_000;
        let app = ran(&node, &pod, "fast", &format!("seq {count}; seq {count} >&2")).await?;
        let lines = app.log()?;
        for stream in ["stdout", "stderr"] {
            let numbers = lines.iter().filter(|line| line.stream == stream);
            let right = numbers.zip(1..).filter(|(line, number)| line.text == number.to_string());
            assert_eq!(right.count(), count, "{stream}");
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// What the kubelet does when a log has grown: renames the file, has a new one opened.
#[test]
fn a_rotation_loses_nothing() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let script = "i=0; while [ ! -e /end ]; do i=$((i + 1)); echo $i; done";
        let app = pod.run(container("app").image(&node.image).script(script)).await?;
        let mut files = Vec::new();
        for number in 1..=5 {
            app.wait_for_log("\n").await?;
            let rotated = app.log_path().with_extension(format!("log.{number}"));
            std::fs::rename(app.log_path(), &rotated)?;
            app.reopen_log().await?;
            assert!(app.log_path().exists(), "it is there when the call returns");
            files.push(rotated);
        }
        app.shell("touch /end").await?;
        app.wait_for_exit().await?;
        files.push(app.log_path().to_owned());
        let mut last = 0;
        for file in &files {
            let text = std::fs::read(file).with_context(|| format!("{}", file.display()))?;
            assert!(text.ends_with(b"\n"), "the last line of {} is whole", file.display());
            for line in berth_e2e::client::parse_logs(&text)? {
                last += 1;
                assert_eq!(line.text, last.to_string(), "in {}", file.display());
            }
        }
        assert!(last > 5, "{last}");
        let refused = app.reopen_log().await;
        assert_refused(refused, Code::FailedPrecondition, &[&app.id, "exited"]);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_log_goes_on_in_the_file_that_is_there() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let first = ran(&node, &pod, "app", "echo first").await?;
        first.remove().await?;
        ran(&node, &pod, "app", "echo second").await?;
        assert_eq!(first.log_text()?, "first\nsecond\n");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn directories_of_a_log_are_made() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        std::fs::remove_dir(pod.log_dir())?;
        let spec = container("app").image(&node.image).cmd(["echo", "hello"]);
        let app = pod.run(spec.with(|config| config.log_path = "deep/in/0.log".into())).await?;
        app.wait_for_exit().await?;
        assert_eq!(app.log_text()?, "hello\n");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_container_need_not_have_a_log() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let script = "seq 100000; touch /written; sleep inf";
        let spec = container("app").image(&node.image).script(script);
        let app = pod.run(spec.with(|config| config.log_path.clear())).await?;
        wait::until("the writer is done", Duration::from_secs(10), async || {
            Ok((app.exec(["test", "-e", "/written"]).await?.code == 0).then_some(()))
        })
        .await?;
        assert_eq!(app.status().await?.log_path, "");
        app.reopen_log().await?;
        assert_eq!(std::fs::read_dir(pod.log_dir())?.count(), 0);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Somebody who may write to the log directory cannot have berth write elsewhere.
#[test]
fn a_link_does_not_lead_a_log_elsewhere() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let victim = place.scratch().join("victim");
        std::fs::write(&victim, "precious\n")?;
        let link = |name: &str, target: &Path| {
            std::os::unix::fs::symlink(target, pod.log_dir().join(name))
        };
        link("file.log", &victim)?;
        link("dir", place.scratch())?;
        for (number, path) in ["file.log", "dir/victim"].into_iter().enumerate() {
            let spec = container(&format!("c{number}")).image(&node.image).cmd(["echo", "x"]);
            let app = pod.create(spec.with(|config| config.log_path = path.into())).await?;
            let log = format!("open log {}", pod.log_dir().join(path).display());
            assert_refused(app.start().await, Code::InvalidArgument, &[&log]);
        }
        assert_eq!(std::fs::read_to_string(&victim)?, "precious\n");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// The shim logs on, whatever becomes of the daemon.
#[test]
fn a_log_has_no_gap_over_a_restart_of_the_daemon() {
    place::native(async |place| {
        let mut node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let script = "i=0; while [ ! -e /end ]; do i=$((i + 1)); echo $i; sleep 0.01; done";
        let app = pod.run(container("app").image(&node.image).script(script)).await?;
        app.wait_for_log("5\n").await?;
        node.daemon.kill().await?;
        let grown = app.log()?.len() + 5;
        wait::until("the log grows on", Duration::from_secs(10), async || {
            Ok((app.log()?.len() > grown).then_some(()))
        })
        .await?;
        node.daemon.start().await?;
        let client = node.daemon.client().await?;
        client.container(&app.id).shell("touch /end").await?;
        client.container(&app.id).wait_for_exit().await?;
        let numbers: Vec<_> = app.log()?.into_iter().map(|line| line.text).collect();
        let expected: Vec<_> = (1..=numbers.len()).map(|number| number.to_string()).collect();
        assert_eq!(numbers, expected);
        client.pod(&pod.id).delete().await?;
        audit.assert_clean().await
    });
}

/// A container is not stopped by a full disk. What could not be logged is said.
#[test]
fn what_a_full_disk_did_not_take_is_said_in_the_log() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let disk = SmallDisk::tmpfs(&place, 1 << 20)?;
        let logs = disk.dir().to_string_lossy().into_owned();
        let pod = node.client.run_pod(pod("p").with(|config| config.log_directory = logs)).await?;
        let script = "echo before; read go; seq 100000; touch /done; read go; echo after; read go";
        let spec = container("app").image(&node.image).script(script);
        let app = pod.run(spec.with(|config| config.stdin = true)).await?;
        app.wait_for_log("before\n").await?;
        disk.fill(0)?;
        app.shell("echo > /proc/1/fd/0").await?;
        wait::until("the writer is done", Duration::from_secs(10), async || {
            Ok((app.exec(["test", "-e", "/done"]).await?.code == 0).then_some(()))
        })
        .await?;
        disk.relieve()?;
        app.shell("echo > /proc/1/fd/0").await?;
        app.wait_for_log("after\n").await?;
        let mut lines: Vec<_> = app.log()?.into_iter().map(|line| line.text).collect();
        assert_eq!(lines.pop().as_deref(), Some("after"));
        let said = lines.pop().unwrap_or_default();
        assert!(said.contains("bytes of log lost"), "{said}");
        // Before that are the lines that there was room for, each of them whole.
        assert_eq!(lines.remove(0), "before");
        let expected: Vec<_> = (1..=lines.len()).map(|number| number.to_string()).collect();
        assert_eq!(lines, expected);
        pod.delete().await?;
        drop(disk);
        audit.assert_clean().await
    });
}
