//! Lists and audits, for people and for programs.

use super::daemon::admin::audit_response::Event;
use super::daemon::admin::{AuditSummary, Stray};
use super::daemon::runtime::{PodSandbox, PodSandboxMetadata};
use super::daemon::{Daemon, Script, output, text};

fn pod(id: &str, name: &str) -> PodSandbox {
    let metadata = PodSandboxMetadata {
        name: name.into(),
        uid: name.into(),
        namespace: "default".into(),
        attempt: 0,
    };
    PodSandbox { id: id.into(), metadata: Some(metadata), ..Default::default() }
}

fn daemon() -> Daemon {
    let pods = vec![pod("0123456789abcdef", "web"), pod("fedcba", "db")];
    Daemon::start(Script { pods, ..Default::default() })
}

#[test]
fn a_list_is_a_table_or_one_json_value() {
    let daemon = daemon();
    let table = text(&output(daemon.berth(&["pods"])).stdout);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("0123456789abc   default/web"), "{table}");

    let json = output(daemon.berth(&["pods", "-o", "json"])).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json[0]["id"], "0123456789abcdef");
    assert_eq!(json[1]["name"], "db");

    let ids = text(&output(daemon.berth(&["ls", "-q"])).stdout);
    assert_eq!(ids, "0123456789abcdef\nfedcba\n");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let daemon = daemon();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done = daemon.berth(&["pods"]).stdout(writer).output().unwrap();
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(text(&done.stderr), "");
}

#[test]
fn several_things_are_done_though_one_of_them_fails() {
    let daemon = daemon();
    let done = output(daemon.berth(&["rm", "-f", "web", "nothing", "db"]));
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(text(&done.stdout), "web\ndb\n");
    let asked = daemon.asked();
    assert!(asked.contains(&"RemovePodSandbox 0123456789abcdef".to_owned()), "{asked:?}");
    assert!(asked.contains(&"RemovePodSandbox fedcba".to_owned()), "{asked:?}");
}

#[test]
fn what_runs_is_removed_only_by_force() {
    let daemon = daemon();
    let done = output(daemon.berth(&["rm", "web"]));
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("stop it first, or use -f"), "{done:?}");
    assert!(daemon.asked().is_empty());
}

#[test]
fn an_audit_fails_for_strays_and_without_its_end() {
    let stray = || Event::Stray(Stray { object: "/x".into(), ..Default::default() });
    let summary = || Event::Summary(AuditSummary::default());
    for (audit, code) in [(vec![summary()], 0), (vec![stray(), summary()], 1), (vec![], 1)] {
        let daemon = Daemon::start(Script { audit, ..Default::default() });
        assert_eq!(output(daemon.berth(&["audit"])).status.code(), Some(code));
    }
}
