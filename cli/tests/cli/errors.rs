//! What goes wrong: one line that helps, and the exit code.

use std::process::Command;

use super::daemon::runtime::{Container, ContainerMetadata, ExecSyncResponse};
use super::daemon::{Daemon, Script, output, text};

#[test]
fn without_a_daemon_one_line_says_what_to_do() {
    for words in [&["pods"][..], &["run", "busybox"], &["info"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.env("BERTH_ADDRESS", "/nowhere/x").env("BERTH_ADMIN_ADDRESS", "/nowhere/x");
        let done = command.args(words).output().unwrap();
        let code = if words[0] == "run" { 125 } else { 1 };
        assert_eq!(done.status.code(), Some(code), "{words:?}");
        let stderr = text(&done.stderr);
        assert!(stderr.starts_with("berth: berthd is not running"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn what_the_daemon_refuses_is_told_in_its_words() {
    let daemon = Daemon::start(Script::default());
    let done = output(daemon.berth(&["info"]));
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(text(&done.stderr), "berth: Not yet implemented\n");
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let daemon = Daemon::start(Script::default());
    for words in [&["pods", "--typo"][..], &["stop"], &["pull", "--creds", "secret", "x"]] {
        let done = output(daemon.berth(words));
        assert_eq!(done.status.code(), Some(2), "{words:?}");
        assert!(!text(&done.stderr).contains("secret"), "{done:?}");
    }
}

#[test]
fn exec_ends_with_the_commands_code() {
    let metadata = Some(ContainerMetadata { name: "app".into(), attempt: 0 });
    let container = Container { id: "c1".into(), metadata, ..Default::default() };
    let exec = ExecSyncResponse { stdout: b"o".into(), stderr: b"e".into(), exit_code: 42 };
    let daemon = Daemon::start(Script { containers: vec![container], exec, ..Default::default() });

    let done = output(daemon.berth_with(&["exec"], &["app", "ls", "-l"]));

    assert_eq!(done.status.code(), Some(42));
    assert_eq!((done.stdout, done.stderr), (b"o".to_vec(), b"e".to_vec()));
    assert_eq!(daemon.asked(), ["ExecSync c1 ls -l"]);
    let unknown = output(daemon.berth_with(&["exec"], &["web", "ls"]));
    let expected = "berth: no container is called \"web\"; there are: container c1 (app)\n";
    assert_eq!(text(&unknown.stderr), expected);
}

#[test]
fn sessions_that_cannot_be_had_are_refused_with_the_reason() {
    let daemon = Daemon::start(Script::default());
    for options in [&["exec", "-it"][..], &["run", "-t"]] {
        let done = output(daemon.berth_with(options, &["busybox", "sh"]));
        assert!(text(&done.stderr).contains("streaming server"), "{done:?}");
        assert!(daemon.asked().is_empty());
    }
}
