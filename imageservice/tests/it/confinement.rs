//! The process that unpacks a layer: what it has, and that nothing but its pull goes with it.
//! Needs root.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_imageservice::{Error, Images, Pull};
use rustix::process::{Pid, Signal, kill_process};

use crate::pull::request;
use crate::support::place::assert_clean;
use crate::support::{Place, Quirk, Reply, Server, Tarball, TestImage, require_root};

/// Between two bytes of a layer: some seconds for all of them.
const PAUSE: Duration = Duration::from_millis(10);

/// A pull of a layer that comes byte by byte.
struct Slow {
    /// Holds the files of the pull.
    _place: Place,
    _server: Server,
    images: Images,
    reference: String,
    pull: Pull,
    unpacker: i32,
}

/// Begins to pull, from a registry that is slow when it serves a layer for the first time.
async fn slow() -> Slow {
    require_root();
    let image = TestImage::of([Tarball::new().file("file", &"content ".repeat(1000)).build()]);
    let (digest, packed) = (image.layers[0].digest(), image.layers[0].packed.clone());
    let served = Arc::new(AtomicUsize::new(0));
    let server = Server::scripted(move |request| {
        let is_layer = request.path.ends_with(&format!("/blobs/{digest}"));
        let is_first = is_layer && served.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then(|| Reply::ok(packed.clone()).quirk(Quirk::Trickle(PAUSE)))
    })
    .await;
    let reference = server.add("app", "v1", &image);
    let place = Place::new();
    let images = place.open().await;
    let pull = images.start_pull(request(&reference));
    let unpacker = confined_unpacker().await;
    Slow { _place: place, _server: server, images, reference, pull, unpacker }
}

/// The unpacker, when it has given up all that it gives up. There is no event for that.
async fn confined_unpacker() -> i32 {
    let found = async {
        loop {
            let pids = fs::read_dir("/proc").unwrap().flatten();
            let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
            if let Some(pid) = pids.find(|pid| is_unpacker(*pid) && status(*pid, "Seccomp") == "2")
            {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("an unpacker runs")
}

fn is_unpacker(pid: i32) -> bool {
    let own = std::process::id().to_string();
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.starts_with("berthd-unpacker\0") && status(pid, "PPid") == own
}

/// A line of `/proc/PID/status`; empty if there is none.
fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    line.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpacker_has_its_directory_and_nothing_else() {
    let slow = slow().await;
    let pid = slow.unpacker;
    // chown, dac_override, fowner, fsetid, mknod, setfcap.
    let capabilities = format!("{:016x}", 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1_u64 << 31);
    for (key, value) in [
        ("CapEff", capabilities.as_str()),
        ("CapPrm", &capabilities),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Threads", "2"),
        ("Umask", "0000"),
    ] {
        assert_eq!(status(pid, key), value, "{key}");
    }
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    for task in tasks {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let is_filtered = status.lines().any(|line| line == "Seccomp:\t2");
        assert!(is_filtered && status.contains(&capabilities), "{status}");
    }
    let root = fs::read_dir(format!("/proc/{pid}/root")).unwrap().flatten();
    let mut root: Vec<_> = root.map(|entry| entry.file_name()).collect();
    root.sort();
    assert_eq!(root, ["attic", "fs", "spine"]);
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    for flag in ["nodev", "nosuid", "noexec"] {
        assert!(mounts.contains(flag), "{mounts}");
    }
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    for descriptor in descriptors {
        let target = fs::read_link(descriptor.path()).unwrap();
        let number: i32 = descriptor.file_name().to_str().unwrap().parse().unwrap();
        let is_inside = ["/fs", "/attic", "/spine"].iter().any(|ours| target.starts_with(ours));
        // What this test was started with, berthd has closed long before.
        let is_given = fs::read_link(format!("/proc/self/fd/{number}")).is_ok_and(|t| t == target);
        assert!(number <= 2 || is_inside || is_given, "{number} is {}", target.display());
    }
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "1000");
    slow.images.shutdown().await;
    assert!(matches!(slow.pull.outcome().await, Err(Error::Cancelled { .. })));
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "it ends with its pull");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_an_unpacker_is_the_end_of_one_pull() {
    // Not SIGSEGV, of which the standard library ignores the first that is not a fault.
    for signal in [Signal::KILL, Signal::ILL] {
        let slow = slow().await;
        kill_process(Pid::from_raw(slow.unpacker).unwrap(), signal).unwrap();
        let error = slow.pull.outcome().await.unwrap_err();
        let Error::Storage { path, source, .. } = &error else { panic!("{error:?}") };
        assert!(path.to_string_lossy().contains("layer sha256:"), "{error}");
        let reason = format!("the unpacker was killed by signal {}", signal.as_raw());
        assert_eq!(source.to_string(), reason);
        assert_eq!((slow.images.list().len(), slow.images.usage().bytes), (0, 0));
        assert_clean(&slow.images).await;
        // And the next one has nothing to do with it.
        slow.images.pull(request(&slow.reference)).await.unwrap();
    }
}
