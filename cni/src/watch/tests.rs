//! What happens to configuration directories on real nodes, each seen within
//! the two seconds that are promised.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

const PROMISED: Duration = Duration::from_secs(2);

struct Node {
    root: tempfile::TempDir,
    networks: Networks,
    cancel: CancellationToken,
    tracker: TaskTracker,
}

impl Node {
    /// Watches `etc/cni/net.d` after preparing the node.
    fn start(prepare: impl FnOnce(&Path)) -> Self {
        Self::start_with(Inotify::init, prepare)
    }

    fn start_with(open: OpenInotify, prepare: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        let (cancel, tracker) = (CancellationToken::new(), TaskTracker::new());
        let dirs = vec![root.path().join("etc/cni/net.d")];
        let networks = Networks::watch(dirs, open, &tracker, cancel.clone());
        Self { root, networks, cancel, tracker }
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.root.path().join(below)
    }

    /// Waits until the default network has this name, or is none.
    async fn until(&self, name: Option<&str>) {
        let mut published = self.networks.published.clone();
        let matches = published.wait_for(|inventory| {
            inventory.default_network().map(|network| network.name()) == name
        });
        let seen = timeout(PROMISED, matches).await.map(|found| found.is_ok());
        let status = self.networks.latest().status();
        assert_eq!(seen, Ok(true), "waited for {name:?}, and it is {status:?}");
    }

    /// Lets the watcher arm its watches: whatever is asked for is answered by
    /// a look that does.
    async fn settled(&self) {
        let marker = self.path("etc/cni/net.d/00marker.conf");
        fs::write(&marker, configuration("marker")).unwrap();
        self.until(Some("marker")).await;
        fs::remove_file(marker).unwrap();
    }
}

fn configuration(name: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"bridge"}}"#)
}

/// A configuration directory below the root, with one network in it.
fn install(root: &Path, dir: &str, name: &str) {
    fs::create_dir_all(root.join(dir)).unwrap();
    fs::write(root.join(dir).join("10.conf"), configuration(name)).unwrap();
}

#[tokio::test]
async fn a_directory_that_is_created_late() {
    let node = Node::start(|_| {});
    node.until(None).await;
    install(node.root.path(), "etc/cni/net.d", "late");
    node.until(Some("late")).await;
}

#[tokio::test]
async fn a_file_that_is_created_replaced_and_removed() {
    let node = Node::start(|root| fs::create_dir_all(root.join("etc/cni/net.d")).unwrap());
    node.settled().await;
    let (file, draft) = (node.path("etc/cni/net.d/10.conf"), node.path("etc/cni/net.d/.draft"));
    fs::write(&file, configuration("a")).unwrap();
    node.until(Some("a")).await;
    fs::write(&draft, configuration("b")).unwrap();
    fs::rename(&draft, &file).unwrap();
    node.until(Some("b")).await;
    fs::write(&file, configuration("c")).unwrap();
    node.until(Some("c")).await;
    fs::remove_file(&file).unwrap();
    node.until(None).await;
}

#[tokio::test]
async fn a_file_that_is_broken_and_mended() {
    let node = Node::start(|root| install(root, "etc/cni/net.d", "a"));
    node.settled().await;
    node.until(Some("a")).await;
    let file = node.path("etc/cni/net.d/10.conf");
    fs::write(&file, "{ broken").unwrap();
    node.until(None).await;
    let refused = node.networks.latest().require().unwrap_err().to_string();
    assert!(refused.contains("10.conf: key must be a string at line 1 column 3"), "{refused}");
    fs::write(&file, configuration("mended")).unwrap();
    node.until(Some("mended")).await;
}

#[tokio::test]
async fn a_directory_that_is_removed_and_recreated() {
    let node = Node::start(|root| install(root, "etc/cni/net.d", "a"));
    node.settled().await;
    for name in ["b", "c"] {
        fs::remove_dir_all(node.path("etc/cni/net.d")).unwrap();
        node.until(None).await;
        install(node.root.path(), "etc/cni/net.d", name);
        node.until(Some(name)).await;
    }
}

#[tokio::test]
async fn parents_that_are_removed_and_recreated() {
    let node = Node::start(|root| install(root, "etc/cni/net.d", "a"));
    node.settled().await;
    fs::remove_dir_all(node.path("etc")).unwrap();
    node.until(None).await;
    install(node.root.path(), "etc/cni/net.d", "b");
    node.until(Some("b")).await;
}

#[tokio::test]
async fn a_parent_that_is_moved_away() {
    let node = Node::start(|root| {
        install(root, "etc/cni/net.d", "a");
        install(root, "etc/new/net.d", "b");
    });
    node.settled().await;
    fs::rename(node.path("etc/cni"), node.path("etc/old")).unwrap();
    node.until(None).await;
    fs::rename(node.path("etc/new"), node.path("etc/cni")).unwrap();
    node.until(Some("b")).await;
    fs::write(node.path("etc/cni/net.d/10.conf"), configuration("c")).unwrap();
    node.until(Some("c")).await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_by_a_link() {
    let node = Node::start(|root| {
        install(root, "etc/cni/net.d", "a");
        install(root, "opt/net.d", "b");
    });
    node.settled().await;
    fs::remove_dir_all(node.path("etc/cni/net.d")).unwrap();
    symlink(node.path("opt/net.d"), node.path("etc/cni/net.d")).unwrap();
    node.until(Some("b")).await;
    fs::write(node.path("opt/net.d/10.conf"), configuration("c")).unwrap();
    node.until(Some("c")).await;
    fs::remove_dir_all(node.path("opt")).unwrap();
    node.until(None).await;
    install(node.root.path(), "opt/net.d", "d");
    node.until(Some("d")).await;
}

#[tokio::test]
async fn a_link_that_is_switched_over() {
    let node = Node::start(|root| {
        install(root, "v1", "a");
        install(root, "v2", "b");
        fs::create_dir_all(root.join("etc/cni")).unwrap();
        symlink("../../now", root.join("etc/cni/net.d")).unwrap();
        symlink("v1", root.join("now")).unwrap();
    });
    node.settled().await;
    node.until(Some("a")).await;
    symlink("v2", node.path("next")).unwrap();
    fs::rename(node.path("next"), node.path("now")).unwrap();
    node.until(Some("b")).await;
}

#[tokio::test]
async fn a_file_that_is_a_link() {
    let node = Node::start(|root| {
        install(root, "opt/v1", "a");
        install(root, "opt/v2", "b");
        fs::create_dir_all(root.join("etc/cni/net.d")).unwrap();
        symlink("../../../opt/now/10.conf", root.join("etc/cni/net.d/10.conf")).unwrap();
        symlink("v1", root.join("opt/now")).unwrap();
    });
    node.settled().await;
    node.until(Some("a")).await;
    fs::write(node.path("opt/v1/10.conf"), configuration("c")).unwrap();
    node.until(Some("c")).await;
    symlink("v2", node.path("opt/next")).unwrap();
    fs::rename(node.path("opt/next"), node.path("opt/now")).unwrap();
    node.until(Some("b")).await;
    fs::remove_file(node.path("opt/v2/10.conf")).unwrap();
    node.until(None).await;
}

#[tokio::test]
async fn without_inotify_files_are_looked_at_all_the_same() {
    let node = Node::start_with(|| Err(io::ErrorKind::Other.into()), |_| {});
    install(node.root.path(), "etc/cni/net.d", "a");
    node.until(Some("a")).await;
    fs::remove_file(node.path("etc/cni/net.d/10.conf")).unwrap();
    node.until(None).await;
}

#[tokio::test]
async fn asking_for_a_network_has_the_files_looked_at() {
    let node = Node::start_with(|| Err(io::ErrorKind::Other.into()), |_| {});
    install(node.root.path(), "etc/cni/net.d", "a");
    let found = node.networks.with_network(FAST / 2).await;
    assert_eq!(found.default_network().map(|network| network.name()), Some("a"));
}

#[tokio::test]
async fn the_wait_for_a_network_is_bounded_and_tells_what_is_lacking() {
    let node = Node::start(|_| {});
    let lacking = node.networks.with_network(Duration::from_millis(10)).await;
    let refused = lacking.require().unwrap_err().to_string();
    assert!(
        refused.starts_with("no network to attach to: no .conflist, .conf or .json"),
        "{refused}"
    );
}

#[tokio::test]
async fn watching_ends_when_cancelled() {
    let node = Node::start(|_| {});
    node.cancel.cancel();
    node.tracker.close();
    timeout(PROMISED, node.tracker.wait()).await.unwrap();
}
