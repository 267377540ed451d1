//! `berth run`: what becomes of pod and container, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::daemon::admin::{LogLine, log_line};
use super::daemon::{Daemon, Script, output, text};

fn line(stream: log_line::Stream, bytes: &[u8], partial: bool) -> LogLine {
    LogLine { stream: stream.into(), time: 1, text: bytes.to_vec(), partial }
}

/// A container that writes `started` and then runs until it is stopped.
fn serving(stubborn: bool) -> Daemon {
    let log = vec![line(log_line::Stream::Stdout, b"started", false)];
    Daemon::start(Script { log, stubborn, exit_code: 143, ..Default::default() })
}

/// Starts a command and waits for the container's first line.
fn start(daemon: &Daemon, options: &[&str]) -> (Child, BufReader<impl Read + use<>>) {
    let mut command = daemon.berth_with(options, &["busybox"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    assert_eq!(first, "started\n");
    (child, stdout)
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// Reads a child's standard error up to a line that contains `words`.
fn wait_for(child: &mut Child, words: &str) {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "ended without saying {words:?}");
    }
}

#[test]
fn the_containers_streams_and_code_are_ours() {
    let log = vec![
        line(log_line::Stream::Stdout, b"out\xff", false),
        line(log_line::Stream::Stderr, b"err", false),
        line(log_line::Stream::Stdout, b"a", true),
        line(log_line::Stream::Stdout, b"b", true),
    ];
    let daemon = Daemon::start(Script { log, ends: true, exit_code: 7, ..Default::default() });

    let words = ["busybox", "echo", "-n"];
    let done = output(daemon.berth_with(&["run", "--rm", "--name", "box"], &words));

    assert_eq!(done.status.code(), Some(7));
    assert_eq!(done.stdout, b"out\xff\nab");
    assert_eq!(text(&done.stderr), "err\n");
    let asked = [
        "RunPodSandbox berth/box",
        "CreateContainer sha256:1234 echo -n",
        "StartContainer container-1",
        "Logs container-1",
        "StopPodSandbox pod-1",
        "RemovePodSandbox pod-1",
    ];
    assert_eq!(daemon.asked(), asked);
}

#[test]
fn without_rm_the_pod_stays_and_is_named() {
    let daemon = Daemon::start(Script { ends: true, ..Default::default() });
    let done = output(daemon.berth_with(&["run"], &["busybox"]));
    assert_eq!(done.status.code(), Some(0));
    assert!(text(&done.stderr).contains("`berth rm pod-1` removes it"), "{done:?}");
    assert_eq!(daemon.asked().last().unwrap(), "StopPodSandbox pod-1");
}

#[test]
fn detached_it_prints_the_pods_id_and_leaves() {
    let daemon = serving(false);
    let done = output(daemon.berth_with(&["run", "-d"], &["busybox"]));
    assert_eq!(text(&done.stdout), "pod-1\n");
    assert_eq!(daemon.asked().last().unwrap(), "StartContainer container-1");
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let missing = r#"execute "/x": executable file not found in the container"#;
    for (why, code) in [(missing, 127), ("no more memory", 125)] {
        let daemon = Daemon::start(Script { start_fails: Some(why), ..Default::default() });
        let done = output(daemon.berth_with(&["run"], &["busybox", "/x"]));
        assert_eq!(done.status.code(), Some(code));
        assert_eq!(text(&done.stderr), format!("berth: {why}\n"));
        assert_eq!(daemon.asked()[3..], ["StopPodSandbox pod-1", "RemovePodSandbox pod-1"]);
    }
}

#[test]
fn one_interrupt_asks_the_container_to_end() {
    let daemon = serving(false);
    let (mut child, _stdout) = start(&daemon, &["run", "--rm"]);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let asked = daemon.asked();
    assert!(asked.contains(&"StopContainer container-1 10".to_owned()), "{asked:?}");
    assert_eq!(asked.last().unwrap(), "RemovePodSandbox pod-1");
}

#[test]
fn two_interrupts_kill_it() {
    let daemon = serving(true);
    let (mut child, _stdout) = start(&daemon, &["run", "--rm"]);
    interrupt(&child);
    wait_for(&mut child, "Ctrl-C again kills");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let asked = daemon.asked();
    assert!(asked.contains(&"StopContainer container-1 0".to_owned()), "{asked:?}");
    assert_eq!(asked.last().unwrap(), "RemovePodSandbox pod-1");
}

#[test]
fn an_interrupt_while_it_starts_leaves_nothing_behind() {
    let daemon = Daemon::start(Script { start_waits: true, ..Default::default() });
    let mut command = daemon.berth_with(&["run", "--rm"], &["busybox"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    daemon.wait_for("StartContainer");
    interrupt(&child);
    wait_for(&mut child, "finishing the start first");
    daemon.go_on();
    child.wait().unwrap();
    let asked = daemon.asked();
    assert!(asked.contains(&"StopContainer container-1 10".to_owned()), "{asked:?}");
    assert_eq!(asked.last().unwrap(), "RemovePodSandbox pod-1");
}

#[test]
fn a_container_whose_output_nobody_reads_is_stopped() {
    let log = vec![line(log_line::Stream::Stdout, b"never read", false)];
    let daemon = Daemon::start(Script { log, exit_code: 5, ..Default::default() });
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = daemon.berth_with(&["run", "--rm"], &["busybox"]);
    assert_eq!(command.stdout(writer).status().unwrap().code(), Some(5));
    assert_eq!(daemon.asked().last().unwrap(), "RemovePodSandbox pod-1");
}
