//! `berth run` and what follows it: logs, exec, stop, rm. The command is the container's, and so
//! are its output, its exit code and its end.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use berth_e2e::berth::{self, Berth};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::{place, process, wait};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout};

const SOON: Duration = Duration::from_secs(20);

async fn start(place: &place::Place) -> Result<(Node, Berth)> {
    let node = Node::start(place, Engine::Berthd).await?;
    let berth = Berth::of(&node.daemon)?;
    Ok((node, berth))
}

/// `berth run --rm` with options, then `sh -c SCRIPT` of busybox.
fn words<'a>(node: &'a Node, options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["run", "--rm"], options, &[&node.image, "sh", "-c", script]].concat()
}

fn logs_of_pods() -> Vec<String> {
    let entries = std::fs::read_dir("/var/log/pods").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_run_is_as_the_command_itself_and_leaves_nothing() {
    place::native(async |place| {
        let (node, berth) = start(&place).await?;
        let audit = node.audit()?;
        let files = place.dir("files")?;
        std::fs::write(files.join("in"), "from the node")?;
        std::fs::write(files.join("env"), "FILED=yes\n")?;
        let volume = format!("{}:/files", files.display());
        let read_only = format!("{volume}:ro");
        let env_file = files.join("env").display().to_string();
        for (options, script, code, stdout, stderr) in [
            (&[][..], "echo out; echo err >&2; exit 7", 7, "out\n", "err\n"),
            (&[], "printf 'no newline'", 0, "no newline", ""),
            (&["-e", "A=1", "-e", "B=x y"], "echo $A $B", 0, "1 x y\n", ""),
            (&["--env-file", &env_file], "echo $FILED", 0, "yes\n", ""),
            (&["-v", &volume], "cat /files/in; echo back > /files/out", 0, "from the node", ""),
            (&["-v", &read_only], "touch /files/x 2>&1 | wc -l", 0, "1\n", ""),
            (&["--name", "box"], "hostname; id -un", 0, "box\nroot\n", ""),
            (&["--hostname", "other"], "hostname", 0, "other\n", ""),
            (&["-w", "/home", "-u", "alice"], "pwd; id -u", 0, "/home\n1000\n", ""),
            (&["-u", "7:8"], "id -u; id -g", 0, "7\n8\n", ""),
            (&["--read-only"], "touch /file 2>/dev/null; echo $?", 0, "1\n", ""),
            (&["--network", "host"], "ls /sys/class/net | grep -c e2e1", 0, "1\n", ""),
        ] {
            let done = berth.run(&words(&node, options, script)).await?;
            let seen = (done.code, done.stdout.as_str(), done.stderr.as_str());
            assert_eq!(seen, (code, stdout, stderr), "{options:?} {script}");
        }
        assert_eq!(std::fs::read_to_string(files.join("out"))?, "back\n");
        let done = berth.run(&["run", "--rm", "--entrypoint", "echo", &node.image, "hi"]).await?;
        assert_eq!(done.stdout, "hi\n");
        assert_eq!(berth.json(&["pods"]).await?, serde_json::json!([]));
        assert!(logs_of_pods().is_empty());
        audit.assert_clean().await
    });
}

#[test]
fn a_detached_run_is_looked_at_and_put_away_by_name() {
    place::native(async |place| {
        let (node, berth) = start(&place).await?;
        let audit = node.audit()?;
        let script = "mkdir /www; echo hello > /www/index.html; echo serving; \
                      exec httpd -f -p 80 -h /www";
        let detached = ["run", "-d", "--name", "web", "-p", "8080:80", &node.image];
        let id = berth.ok(&[&detached[..], &["sh", "-c", script]].concat()).await?;
        let id = id.trim_end();
        assert_eq!(id, node.client.pods().await?[0].id);

        let inspected: serde_json::Value =
            serde_json::from_str(&berth.ok(&["inspect", "web"]).await?)?;
        assert_eq!((&inspected["kind"], &inspected["id"]), (&"pod".into(), &id.into()));
        let address = inspected["ips"][0].as_str().context("an address")?.to_owned();
        for url in [format!("http://{address}/"), format!("http://{address}:80/index.html")] {
            let page = ["run", "--rm", &node.image, "wget", "-qO-", &url];
            wait::until("the server answers", SOON, async || {
                Ok(berth.run(&page).await?.stdout.starts_with("hello").then_some(()))
            })
            .await?;
        }
        let at_the_node = tokio::net::TcpStream::connect("127.0.0.1:8080").await;
        at_the_node.context("the published port")?;

        assert_eq!(berth.ok(&["logs", "web"]).await?, "serving\n");
        assert_eq!(berth.ok(&["exec", "web", "hostname"]).await?, "web\n");
        let failed = berth.run(&["exec", id, "sh", "-c", "echo oops >&2; exit 3"]).await?;
        assert_eq!((failed.code, failed.stderr.as_str()), (3, "oops\n"));
        let second = berth.run(&["run", "-d", "--name", "web", &node.image]).await?;
        assert_eq!(second.code, 125);
        assert!(second.stderr.contains("there is a pod web already"), "{}", second.stderr);

        let refused = berth.run(&["rm", "web"]).await?;
        assert_eq!(refused.code, 1, "it runs");
        assert!(refused.stderr.contains("stop it first, or use -f"), "{}", refused.stderr);
        assert_eq!(berth.ok(&["stop", "-t", "1", "web"]).await?, "web\n");
        assert_eq!(berth.json(&["ps", "-a"]).await?[0]["state"], "exited");
        assert_eq!(berth.ok(&["logs", "web"]).await?, "serving\n", "as long as it is there");
        assert_eq!(berth.ok(&["rm", "web"]).await?, "web\n");
        assert!(logs_of_pods().is_empty());
        audit.assert_clean().await
    });
}

/// Starts a command whose first line of output the test waits for.
async fn begin(
    berth: &Berth,
    words: &[&str],
    first: &str,
) -> Result<(Child, BufReader<ChildStdout>)> {
    let mut command = berth.command(words);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().context("a pipe")?);
    let mut line = String::new();
    tokio::time::timeout(SOON, stdout.read_line(&mut line)).await.context("the first line")??;
    assert_eq!(line, format!("{first}\n"));
    Ok((child, stdout))
}

fn interrupt(child: &Child) -> Result<()> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).context("it runs")?;
    kill_process(pid, Signal::INT).context("interrupt it")
}

#[test]
fn an_interrupt_asks_the_command_to_end_and_a_second_kills_it() {
    place::native(async |place| {
        let (node, berth) = start(&place).await?;
        let audit = node.audit()?;
        let polite = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
        let run = words(&node, &[], polite);
        let (child, mut rest) = begin(&berth, &run, "ready").await?;
        interrupt(&child)?;
        let mut said = String::new();
        rest.read_line(&mut said).await?;
        let ended = tokio::time::timeout(SOON, child.wait_with_output()).await??;
        assert_eq!((ended.status.code(), said.as_str()), (Some(5), "bye\n"));

        let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
        let run = words(&node, &[], stubborn);
        let (mut child, _rest) = begin(&berth, &run, "ready").await?;
        interrupt(&child)?;
        let mut stderr = BufReader::new(child.stderr.take().context("a pipe")?);
        let mut line = String::new();
        stderr.read_line(&mut line).await?;
        assert!(line.contains("Ctrl-C again kills"), "{line}");
        interrupt(&child)?;
        let ended = tokio::time::timeout(SOON, child.wait()).await??;
        assert_eq!(ended.code(), Some(137));
        audit.assert_clean().await
    });
}

#[test]
fn logs_are_followed_until_the_container_ends() {
    place::native(async |place| {
        let (node, berth) = start(&place).await?;
        let audit = node.audit()?;
        let script = "echo one; echo two >&2; until [ -e /go ]; do sleep 0.05; done; echo three";
        let run = ["run", "-d", "--name", "teller", &node.image, "sh", "-c", script];
        berth.ok(&run).await?;
        let (child, mut rest) = begin(&berth, &["logs", "-f", "teller"], "one").await?;
        berth.ok(&["exec", "teller", "touch", "/go"]).await?;
        let mut line = String::new();
        tokio::time::timeout(SOON, rest.read_line(&mut line)).await??;
        assert_eq!(line, "three\n");
        let ended = tokio::time::timeout(SOON, child.wait_with_output()).await??;
        assert_eq!((ended.status.code(), ended.stderr), (Some(0), b"two\n".to_vec()));

        for (options, stdout, stderr) in [
            (&[][..], "one\nthree\n", "two\n"),
            (&["--tail", "1"], "three\n", ""),
            (&["--tail", "0"], "", ""),
            (&["--since", "1h"], "one\nthree\n", "two\n"),
            (&["-f"], "one\nthree\n", "two\n"),
        ] {
            let done = berth.run(&[&["logs"], options, &["teller"]].concat()).await?;
            assert_eq!((&done.stdout[..], &done.stderr[..]), (stdout, stderr), "{options:?}");
        }
        let stamped = berth.ok(&["logs", "-t", "--tail", "1", "teller"]).await?;
        assert!(stamped.starts_with("20") && stamped.ends_with("Z three\n"), "{stamped}");
        berth.ok(&["rm", "-f", "teller"]).await?;
        audit.assert_clean().await
    });
}

#[test]
fn what_cannot_start_has_the_code_of_a_shell_and_leaves_nothing() {
    place::native(async |place| {
        let (node, berth) = start(&place).await?;
        let audit = node.audit()?;
        let missing = node.registry.reference("none:1");
        let image = node.image.as_str();
        for (words, code, said) in [
            (&[image, "/no/such"][..], 127, "\"/no/such\""),
            (&[image, "no-such"], 127, "no-such"),
            (&[image, "/etc/passwd"], 126, "/etc/passwd"),
            (&["-w", "/etc/passwd", image, "true"], 125, "/etc/passwd"),
            (&["-u", "nobody-here", image, "true"], 125, "nobody-here"),
            (&["--pull", "never", "never/was:here"], 125, "never/was:here is not on this node"),
            (&[&missing], 125, &missing),
            (&["Not/A/Reference"], 125, "Not/A/Reference"),
            (&["-it", image, "sh"], 125, "streaming server"),
        ] {
            let done = berth.run(&[&["run"], words].concat()).await?;
            assert_eq!(done.code, code, "{words:?}: {}", done.stderr);
            assert!(done.stderr.contains(said), "{words:?}: {}", done.stderr);
            let last = done.stderr.lines().last().unwrap_or_default();
            assert!(last.starts_with("berth: ") && done.stdout.is_empty(), "{words:?}: {done:?}");
            assert_eq!(berth.ok(&["pods", "-q"]).await?, "", "{words:?}");
        }
        for (words, code) in [
            (&["true"][..], 0),
            (&["/no/such"], 127),
            (&["/etc/passwd"], 126),
            (&["sh", "-c", "kill -TERM $$"], 143),
        ] {
            berth.ok(&["run", "-d", "--name", "box", image, "sleep", "inf"]).await?;
            let done = berth.run(&[&["exec", "box"], words].concat()).await?;
            assert_eq!(done.code, code, "{words:?}: {}", done.stderr);
            berth.ok(&["rm", "-f", "box"]).await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn a_daemon_that_dies_takes_the_view_and_not_the_container() {
    place::native(async |place| {
        let (mut node, berth) = start(&place).await?;
        let audit = node.audit()?;
        let script = "echo ready; while :; do sleep 7654; done";
        let image = node.image.clone();
        let run = ["run", "--name", "box", &image, "sh", "-c", script];
        let (child, _rest) = begin(&berth, &run, "ready").await?;
        node.kill_and_restart().await?;
        let ended = tokio::time::timeout(SOON, child.wait_with_output()).await??;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(125), "{said}");
        assert!(said.contains("lost sight of the container in the pod"), "{said}");
        assert_eq!(process::find(&["sleep", "7654"]).len(), 2, "the shell and its sleep");
        assert_eq!(berth.ok(&["logs", "box"]).await?, "ready\n");
        berth.ok(&["rm", "-f", "box"]).await?;
        audit.assert_clean().await
    });
}

#[test]
fn limits_hold_and_are_shown() {
    place::with_controllers(async |place| {
        let daemon = Setup::new(Engine::Berthd);
        let node = Node::start_with(&place, daemon).await?;
        let berth = Berth::of(&node.daemon)?;
        let audit = node.audit()?;
        let limits = ["--network", "host", "--memory", "64m", "--cpus", "0.5"];
        let show = "cd /sys/fs/cgroup; cat memory.max cpu.max";
        let done = berth.run(&words(&node, &limits, show)).await?;
        assert_eq!((done.code, &done.stdout[..]), (0, "67108864\n50000 100000\n"), "{done:?}");

        let eat = "tail /dev/zero";
        let done = berth::output(berth.command(&words(&node, &limits, eat))).await?;
        assert_eq!(done.code, 137);
        assert!(done.stderr.contains("out of memory"), "{}", done.stderr);

        let image = [&node.image[..], "sleep", "inf"];
        berth.ok(&[&["run", "-d", "--name", "box"], &limits[..], &image].concat()).await?;
        let stats = berth.json(&["stats"]).await?;
        assert!(stats[0]["memory"].as_u64() > Some(0), "{stats}");
        let table = berth.ok(&["stats", "--no-stream"]).await?;
        assert!(table.contains("of 64 MiB"), "{table}");
        berth.ok(&["rm", "-f", "box"]).await?;
        audit.assert_clean().await
    });
}
