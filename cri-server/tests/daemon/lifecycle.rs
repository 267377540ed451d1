//! Starting, not starting, stopping.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use berth_cri_server::api::runtime::{VersionRequest, VersionResponse};
use rustix::process::Signal;
use tokio::net::UnixStream;

use super::harness::{Berthd, Client, Place};

async fn is_served(berthd: &Berthd<'_>) {
    version(&mut berthd.cri()).await;
}

async fn version(client: &mut Client) {
    let answer = client.call::<_, VersionResponse>(
        "/runtime.v1.RuntimeService/Version",
        VersionRequest::default(),
    );
    answer.await.unwrap();
}

fn mode(path: impl AsRef<std::path::Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn sockets_and_directories_are_private_and_the_sockets_go_with_the_daemon() {
    let place = Place::new("");
    let berthd = place.start().await;

    assert_eq!(mode(place.path("state/berth.sock")), 0o660);
    assert_eq!(mode(place.path("state/admin.sock")), 0o660);
    assert_eq!(mode(place.path("state")), 0o711);
    assert_eq!(mode(place.path("root")), 0o711);
    assert_eq!(mode(place.path("state/berthd.lock")), 0o600);

    assert!(berthd.stop().await.success());
    assert!(!place.path("state/berth.sock").exists());
    assert!(!place.path("state/admin.sock").exists());
}

#[tokio::test]
async fn sigterm_and_sigint_end_it_with_success_and_the_manager_is_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new("");
        let mut berthd = place.start().await;
        let mut client = berthd.cri();
        version(&mut client).await;

        // The client stays connected, as the kubelet does.
        berthd.signal(signal);

        berthd.notified("STOPPING=1").await;
        assert_eq!(berthd.exit().await.code(), Some(0));
    }
}

#[tokio::test]
async fn sighup_does_not_end_it() {
    let place = Place::new("");
    let berthd = place.start().await;

    berthd.signal(Signal::HUP);

    is_served(&berthd).await;
    assert!(berthd.stop().await.success());
    assert!(place.log().contains("SIGHUP"));
}

#[tokio::test]
async fn a_client_that_never_speaks_holds_the_exit_only_for_the_limit() {
    let place = Place::new("[timeouts]\nshutdown = \"300ms\"");
    let berthd = place.start().await;
    let _silent = UnixStream::connect(place.path("state/berth.sock")).await.unwrap();
    is_served(&berthd).await;

    assert_eq!(berthd.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let place = Place::new("[timeouts]\nshutdown = \"10m\"");
    let mut berthd = place.start().await;
    let _silent = UnixStream::connect(place.path("state/berth.sock")).await.unwrap();
    is_served(&berthd).await;
    berthd.signal(Signal::TERM);
    berthd.notified("STOPPING=1").await;

    berthd.signal(Signal::TERM);

    assert_eq!(berthd.exit().await.code(), Some(1));
    assert!(place.log().contains("told to stop twice"), "{}", place.log());
}

#[tokio::test]
async fn a_second_berthd_is_refused_by_pid_and_the_first_goes_on() {
    let place = Place::new("");
    let berthd = place.start().await;

    let second = place.fail().await;

    let told = String::from_utf8(second.stderr).unwrap();
    let (pid, state) = (berthd.pid(), place.path("state"));
    let expected = format!("another berthd (pid {pid}) already runs on {}", state.display());
    assert_eq!(second.status.code(), Some(1));
    assert!(told.contains(&expected), "{told}");
    is_served(&berthd).await;
}

#[tokio::test]
async fn the_root_directory_is_claimed_too() {
    let place = Place::new("");
    let berthd = place.start().await;
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    let other = Place::new("");
    fs::write(other.path("config.toml"), config.replace("/state\"", "/other\"")).unwrap();

    let second = other.fail().await;

    let told = String::from_utf8(second.stderr).unwrap();
    assert!(told.contains(&format!("runs on {}", place.path("root").display())), "{told}");
    is_served(&berthd).await;
}

#[tokio::test]
async fn what_a_killed_berthd_leaves_does_not_stop_the_next_one() {
    let place = Place::new("");
    let berthd = place.start().await;
    berthd.signal(Signal::KILL);
    berthd.exit().await;
    assert!(place.path("state/berth.sock").exists());

    let next = place.start().await;

    is_served(&next).await;
}

#[tokio::test]
async fn a_wrong_value_ends_it_with_78_and_its_place() {
    let place = Place::new("[grpc]\n[log]\nlevel = 5");

    let refused = place.fail().await;

    let told = String::from_utf8(refused.stderr).unwrap();
    let file = place.path("config.toml");
    assert_eq!(refused.status.code(), Some(78));
    assert!(told.starts_with(&format!("berthd: {}:", file.display())), "{told}");
    assert!(!place.path("state").exists(), "nothing was touched");
}

#[tokio::test]
async fn an_unknown_key_is_a_warning_and_nothing_more() {
    let place = Place::new("[log]\nlevle = \"debug\"");
    let berthd = place.start().await;

    is_served(&berthd).await;

    let expected = "config.toml:10:1: log.levle: unknown key, ignoring it; did you mean log.level?";
    assert!(place.log().contains(expected), "{}", place.log());
}

#[tokio::test]
async fn the_watchdog_is_fed_when_the_manager_asks_for_it() {
    let place = Place::new("").environment("WATCHDOG_USEC", "150000");
    let mut berthd = place.start().await;

    berthd.notified("WATCHDOG=1").await;
    berthd.notified("WATCHDOG=1").await;

    assert!(berthd.stop().await.success());
}
