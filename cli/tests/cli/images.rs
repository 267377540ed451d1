//! Pulls and imports.

use std::fs;

use super::daemon::admin::pull_response::Event;
use super::daemon::admin::{Layer, PullDone, PullProgress, PullResolved};
use super::daemon::{Daemon, Script, output, text};

fn pulling() -> Daemon {
    let layer = Layer { digest: "sha256:aa".into(), size: 1 << 20, present: false };
    let resolved =
        PullResolved { reference: "docker.io/library/app:1".into(), layers: vec![layer] };
    let digest = "sha256:aa".to_owned();
    let progress = PullProgress { digest, received: 1 << 20, complete: true };
    let done = PullDone { image_id: "sha256:1234".into(), received: 1 << 20, elapsed: 1_000_000 };
    let pull = vec![Event::Resolved(resolved), Event::Progress(progress), Event::Done(done)];
    Daemon::start(Script { pull, ends: true, ..Default::default() })
}

#[test]
fn a_pull_tells_its_progress_beside_the_id() {
    let daemon = pulling();
    let done = output(daemon.berth(&["pull", "app:1"]));
    assert_eq!(text(&done.stdout), "sha256:1234\n");
    let expected = "\
pulling docker.io/library/app:1: 1 layer, 1 MiB
layer aa is complete: 1 MiB
pulled docker.io/library/app:1: 1 MiB in 1 ms
";
    assert_eq!(text(&done.stderr), expected);
    let quiet = output(daemon.berth(&["pull", "-q", "app:1"]));
    assert_eq!(text(&quiet.stderr), "");
}

#[test]
fn credentials_reach_the_daemon_and_nobody_else() {
    let daemon = pulling();
    let mut command = daemon.berth(&["pull", "app:1"]);
    let done = command.env("BERTH_CREDS", "me:secret:x").output().unwrap();
    assert_eq!(daemon.asked(), ["Pull app:1 me:secret:x"]);
    assert!(!format!("{done:?}").contains("secret"));
    let help = command.arg("--help").output().unwrap();
    assert!(!text(&help.stdout).contains("secret"));
}

#[test]
fn a_run_pulls_what_is_missing_and_only_if_it_may() {
    let daemon = pulling();
    let done = output(daemon.berth_with(&["run", "--rm"], &["app:1"]));
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(daemon.asked()[0], "Pull app:1");

    let daemon = pulling();
    let done = output(daemon.berth_with(&["run", "--pull", "never"], &["app:1"]));
    assert_eq!(done.status.code(), Some(125));
    assert!(daemon.asked().is_empty());
}

#[test]
fn a_layout_and_an_archive_are_imported() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir_all(path("blobs/sha256")).unwrap();
    fs::write(path("oci-layout"), "{}").unwrap();
    fs::write(path("index.json"), "{}").unwrap();
    fs::write(path("archive.tar"), "archive").unwrap();

    let daemon = Daemon::start(Script::default());
    let done = output(daemon.berth(&["image", "import", directory.path().to_str().unwrap()]));
    assert_eq!(text(&done.stdout), "sha256:1234 localhost/app:1\n");
    assert!(daemon.imported().unwrap().starts_with(b"oci-layout"));

    let archive = path("archive.tar");
    output(daemon.berth(&["image", "import", "--name", "x:1", archive.to_str().unwrap()]));
    assert_eq!(daemon.imported().unwrap(), b"archive");
    assert_eq!(daemon.asked(), [r#"Import "", 0 bytes"#, r#"Import "x:1", 7 bytes"#]);
}

#[test]
fn an_archive_that_cannot_be_read_to_its_end_is_never_whole() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("oci-layout"), "{}").unwrap();
    let daemon = Daemon::start(Script::default());

    let done = output(daemon.berth(&["image", "import", directory.path().to_str().unwrap()]));

    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("index.json"), "{done:?}");
    assert_eq!(daemon.imported(), None);
}
