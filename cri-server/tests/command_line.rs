//! The verbs of `berthd` that run no daemon.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::fs;
use std::process::{Command, Output};

fn berthd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_berthd")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A file with this text, and its path.
fn config(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn version_is_told_to_people_and_to_programs() {
    let text = berthd(&["version"]);
    let json = berthd(&["version", "-o", "json"]);

    let release = env!("CARGO_PKG_VERSION");
    assert!(stdout(&text).starts_with(&format!("berthd {release} (revision ")));
    let json: serde_json::Value = serde_json::from_str(stdout(&json)).unwrap();
    assert_eq!(json["version"], release);
    assert!(json["rustc"].as_str().unwrap().starts_with("1."));
}

#[test]
fn the_default_configuration_passes_the_check() {
    let default = berthd(&["config", "default"]);
    let (_place, file) = config(stdout(&default));

    let checked = berthd(&["--config", &file, "config", "check"]);

    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(stdout(&checked), format!("{file}: valid, 0 ignored\n"));
}

#[test]
fn a_check_tells_every_mistake_by_place_and_exits_78() {
    let (_place, file) = config("[grpc]\nsocket_mode = 660\n\n[cni]\nplugin_timeout = \"soon\"\n");

    let checked = berthd(&["config", "check", "--config", &file]);

    assert_eq!(checked.status.code(), Some(78));
    let lines: Vec<_> = stderr(&checked).lines().collect();
    assert_eq!(
        lines,
        [
            format!(
                "berthd: {file}:2:15: grpc.socket_mode: expected permissions in octal like \
                 \"0660\", found 660"
            ),
            format!(
                "berthd: {file}:5:18: cni.plugin_timeout: expected a length of time like \"10s\" \
                 or \"1m30s\", above zero, found \"soon\""
            ),
        ]
    );
}

#[test]
fn a_check_tells_what_is_ignored_and_succeeds() {
    let (_place, file) = config("[image]\npined = []\n");

    let checked = berthd(&["config", "check", "--config", &file]);

    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(
        stderr(&checked),
        format!(
            "berthd: {file}:2:1: image.pined: unknown key, ignoring it; \
             did you mean image.pinned?\n"
        )
    );
}

#[test]
fn show_tells_which_line_set_what() {
    let (_place, file) = config("[runtime]\ncgroup_driver = \"systemd\"\n");

    let shown = berthd(&["config", "show", "--origin", "--config", &file]);

    let line = |key: &str| {
        let line = stdout(&shown).lines().find(|line| line.starts_with(key)).unwrap();
        line.split_once(" # ").map(|(value, origin)| (value.trim_end(), origin)).unwrap()
    };
    assert_eq!(line("cgroup_driver"), ("cgroup_driver = \"systemd\"", &*format!("{file}:2")));
    assert_eq!(line("cgroup_root"), ("cgroup_root = \"/sys/fs/cgroup\"", "default"));
}

#[test]
fn a_named_file_that_is_missing_is_told_and_exits_78() {
    let missing = berthd(&["config", "show", "--config", "/nonexistent/berth.toml"]);

    assert_eq!(missing.status.code(), Some(78));
    assert!(stderr(&missing).contains("read configuration /nonexistent/berth.toml: "));
}

#[test]
fn wrong_usage_exits_2() {
    assert_eq!(berthd(&["--no-such-flag"]).status.code(), Some(2));
}
