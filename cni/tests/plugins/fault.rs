//! Plugins that misbehave: each gives a precise error in bounded time, and
//! leaves no process behind.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use berth_cni::{Error, Fault};
use serde_json::json;

use crate::node::{Node, answer, container, id};

/// Far above what any of these takes, far below the deadline of a plugin that
/// would really hang.
const SOON: Duration = Duration::from_secs(5);

fn short_deadline() -> Node {
    Node::with(&[json!("bad")], |settings| settings.plugin_timeout = Duration::from_millis(200))
}

/// Runs an ADD that must fail by the plugin's fault.
async fn fault(node: &Node) -> Fault {
    let added = tokio::time::timeout(SOON, node.add(&container())).await.expect("hangs");
    match added.unwrap_err() {
        Error::Plugin { fault, call } => {
            assert_eq!((call.plugin.as_str(), call.container_id), ("bad", id()));
            fault
        }
        other => panic!("not the plugin's fault: {other}"),
    }
}

/// Waits until a process that noted its id is gone.
async fn gone(node: &Node, name: &str) {
    let pid = node.log(name).trim().to_owned();
    assert!(!pid.is_empty(), "{name} was not noted");
    let started = Instant::now();
    // A killed child of a killed plugin is reaped by init; nothing tells us when.
    while is_running(&pid).unwrap() {
        assert!(started.elapsed() < SOON, "process {pid} lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_running(pid: &str) -> io::Result<bool> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(!stat.contains(") Z ")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        // The process ended while its file was open.
        Err(e) if e.raw_os_error() == Some(3) => Ok(false),
        Err(e) => Err(e),
    }
}

#[tokio::test]
async fn one_that_hangs_is_killed_with_its_children() {
    let node = short_deadline();
    node.plugin("bad", "sleep 600 & echo $! > $LOG/child; echo $$ > $LOG/self; wait");
    assert!(matches!(fault(&node).await, Fault::TimedOut(_)));
    gone(&node, "self").await;
    gone(&node, "child").await;
    assert!(node.record().is_some(), "a DEL is owed");
}

#[tokio::test]
async fn one_that_ignores_signals_and_input_is_killed() {
    let node = short_deadline();
    node.plugin("bad", "trap '' TERM INT HUP PIPE; exec <&- >&- 2>&-; while :; do sleep 1; done");
    assert!(matches!(fault(&node).await, Fault::TimedOut(_)));
}

#[tokio::test]
async fn shutting_down_kills_it() {
    let node = Node::new(&[json!("bad")]);
    node.plugin("bad", "echo $$ > $LOG/self; mkfifo $LOG/started; echo > $LOG/started; sleep 600");
    let cancel = node.cancel.clone();
    let started = node.root.path().join("log/started");
    let stop = async {
        // Reading the fifo returns when the plugin has opened its end.
        while tokio::fs::read(&started).await.is_err() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (fault, ()) = tokio::join!(fault(&node), stop);
    assert!(matches!(fault, Fault::Cancelled));
    gone(&node, "self").await;
}

#[tokio::test]
async fn dropping_the_operation_kills_it() {
    let node = Node::new(&[json!("bad")]);
    node.plugin("bad", "echo $$ > $LOG/self; sleep 600");
    let container = container();
    let mut add = Box::pin(node.add(&container));
    while node.log("self").trim().is_empty() {
        let step = tokio::time::timeout(Duration::from_millis(5), &mut add).await;
        assert!(step.is_err(), "the plugin ended");
    }
    drop(add);
    gone(&node, "self").await;
    assert!(node.record().is_some(), "a DEL is owed");
}

#[tokio::test]
async fn one_that_crashes_leaves_no_child_behind() {
    let node = Node::new(&[json!("bad")]);
    node.plugin("bad", "sleep 600 & echo $! > $LOG/child; echo dying >&2; kill -SEGV $$");
    let fault = fault(&node).await;
    let message = fault.to_string();
    assert!(matches!(fault, Fault::Died { .. }));
    assert!(message.starts_with("signal: 11 (SIGSEGV)"), "{message}");
    assert!(message.ends_with("; stderr: dying"), "{message}");
    gone(&node, "child").await;
}

#[tokio::test]
async fn one_that_refuses_is_quoted() {
    let node = Node::new(&[json!("bad")]);
    node.plugin(
        "bad",
        r#"echo '{"cniVersion": "1.0.0", "code": 11, "msg": "no addresses", "details": "full"}'
           echo context >&2; exit 1"#,
    );
    let message = fault(&node).await.to_string();
    assert_eq!(message, "no addresses; full (code 11); stderr: context");
}

#[tokio::test]
async fn one_that_answers_garbage_is_quoted() {
    let table = [
        ("echo hello", "answered no CNI result: expected value at line 1 column 1; stdout: hello"),
        (":", "answered no CNI result: nothing was written"),
        (
            r#"echo '{"cniVersion": "9.9.9"}'"#,
            r#"answered no CNI result: cniVersion "9.9.9" cannot be converted to 1.0.0"#,
        ),
        ("printf '\\377\\000'; exit 2", r"exit status: 2; stdout: "),
    ];
    for (script, expected) in table {
        let node = Node::new(&[json!("bad")]);
        node.plugin("bad", script);
        let message = fault(&node).await.to_string();
        assert!(message.starts_with(expected), "{message}\nlacks {expected}");
    }
}

#[tokio::test]
async fn one_that_writes_without_end_is_stopped() {
    let node = Node::new(&[json!("bad")]);
    node.plugin("bad", "echo $$ > $LOG/self; head -c 104857600 /dev/zero");
    assert!(matches!(fault(&node).await, Fault::TooMuchOutput { limit: 0x10_0000 }));
    gone(&node, "self").await;
}

#[tokio::test]
async fn only_the_end_of_a_flood_of_complaints_is_kept() {
    let node = Node::new(&[json!("bad")]);
    node.plugin("bad", "head -c 104857600 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1");
    let message = fault(&node).await.to_string();
    assert!(message.ends_with("xxx\\nthe end") || message.ends_with("xthe end"), "{message}");
    assert!(message.len() < 2048, "{} bytes", message.len());
}

#[tokio::test]
async fn a_daemon_that_keeps_the_pipes_open_holds_up_nobody() {
    let node = Node::new(&[json!("bad")]);
    let answer = answer("10.0.0.2/24");
    node.plugin("bad", &format!("sleep 600 & echo $! > $LOG/daemon; echo '{answer}'"));
    let added = tokio::time::timeout(SOON, node.add(&container())).await.expect("hangs");
    assert_eq!(added.unwrap().pod_ips().count(), 1);
    // What a plugin leaves behind after a success is its own affair.
    let daemon = node.log("daemon").trim().to_owned();
    assert!(is_running(&daemon).unwrap());
    let pid = nix::unistd::Pid::from_raw(daemon.parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn one_that_reads_nothing_of_a_large_configuration_is_no_matter() {
    let large = "x".repeat(300_000);
    let node = Node::new(&[json!({"type": "bad", "large": large})]);
    node.plugin("bad", &format!("echo '{}'", answer("10.0.0.2/24")));
    node.add(&container()).await.unwrap();
    node.recorder("bad", &json!({}));
    node.cni.del(&container()).await.unwrap();
    assert_eq!(node.input("bad", "DEL")["large"], large);
}

#[tokio::test]
async fn one_that_is_missing_is_found_out_before_any_runs() {
    let node = Node::new(&[json!("good"), json!("bad"), json!("good")]);
    node.recorder("good", &answer("10.0.0.2/24"));
    assert!(matches!(fault(&node).await, Fault::Missing { .. }));
    assert_eq!((node.calls().len(), node.record()), (0, None), "nothing ran, nothing is owed");
}

#[tokio::test]
async fn one_that_cannot_be_run_is_named() {
    let node = Node::new(&[json!("bad")]);
    node.plugin("bad", "");
    fs::write(node.root.path().join("bin/bad"), "#!/no/such/interpreter\n").unwrap();
    let message = fault(&node).await.to_string();
    let binary = node.root.path().join("bin/bad");
    let expected = format!("start {}: No such file or directory", binary.display());
    assert!(message.starts_with(&expected), "{message}");
}

#[tokio::test]
async fn one_that_is_just_being_written_is_waited_for() {
    let node = Node::new(&[json!("bad")]);
    node.recorder("bad", &answer("10.0.0.2/24"));
    let writer =
        fs::OpenOptions::new().append(true).open(node.root.path().join("bin/bad")).unwrap();
    let finish = async {
        tokio::time::sleep(Duration::from_millis(50)).await; // the installer's time to write
        drop(writer);
    };
    let container = container();
    let (added, ()) = tokio::join!(node.add(&container), finish);
    added.unwrap();
}
