//! A node in a temporary directory: configurations, plugins, records.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_cni::{Attachment, Cni, Network, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A file that is a namespace of the right kind, which scripts do not enter.
pub(crate) const NETNS: &str = "/proc/self/ns/net";

pub(crate) struct Node {
    pub(crate) cni: Cni,
    pub(crate) root: TempDir,
    pub(crate) cancel: CancellationToken,
}

impl Node {
    /// A node with a network `pods` of these plugins, each an object or a type.
    pub(crate) fn new(plugins: &[Value]) -> Self {
        Self::with(plugins, |_| {})
    }

    /// The same with other settings.
    pub(crate) fn with(plugins: &[Value], change: impl FnOnce(&mut Settings)) -> Self {
        let root = tempfile::tempdir().unwrap();
        for dir in ["net.d", "bin", "log"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        configure(root.path(), plugins);
        let mut settings = Settings {
            conf_dirs: vec![root.path().join("net.d")],
            bin_dirs: vec![root.path().join("bin")],
            cache_dir: root.path().to_owned(),
            plugin_timeout: Duration::from_secs(10),
            ..Settings::default()
        };
        change(&mut settings);
        let cancel = CancellationToken::new();
        let cni = Cni::new(settings, TaskTracker::new(), cancel.clone()).unwrap();
        Self { cni, root, cancel }
    }

    /// Installs a plugin that runs this shell script. `$LOG` in it is the
    /// directory of [`Node::log`].
    pub(crate) fn plugin(&self, kind: &str, script: &str) -> &Self {
        let path = self.root.path().join("bin").join(kind);
        let log = self.root.path().join("log");
        fs::write(&path, format!("#!/bin/sh\nLOG={}\n{script}\n", log.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Installs a plugin that notes its calls, its environment and its input,
    /// and answers each ADD with this.
    pub(crate) fn recorder(&self, kind: &str, answer: &Value) -> &Self {
        self.plugin(
            kind,
            &format!(
                "echo $CNI_COMMAND {kind} >> $LOG/calls\n\
                 cat > $LOG/{kind}.$CNI_COMMAND\n\
                 env | sort > $LOG/{kind}.$CNI_COMMAND.env\n\
                 if [ $CNI_COMMAND = ADD ]; then echo '{answer}'; fi"
            ),
        )
    }

    pub(crate) fn uninstall(&self, kind: &str) {
        fs::remove_file(self.root.path().join("bin").join(kind)).unwrap();
    }

    /// What a plugin noted; empty if nothing.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join("log").join(name)).unwrap_or_default()
    }

    /// The calls so far, such as `ADD bridge`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.log("calls").lines().map(str::to_owned).collect()
    }

    /// The JSON that a plugin was given at its last call of this kind.
    pub(crate) fn input(&self, kind: &str, verb: &str) -> Value {
        serde_json::from_str(&self.log(&format!("{kind}.{verb}"))).unwrap()
    }

    pub(crate) async fn network(&self) -> Arc<Network> {
        self.cni.network(Duration::from_secs(2)).await.unwrap()
    }

    /// Adds the attachment to the default network.
    pub(crate) async fn add(
        &self,
        attachment: &Attachment,
    ) -> berth_cni::Result<berth_cni::Attached> {
        self.cni.add(&self.network().await, attachment).await
    }

    /// The record of the test's container, if there is one.
    pub(crate) fn record(&self) -> Option<Value> {
        let text = fs::read(self.record_path()).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    pub(crate) fn record_path(&self) -> PathBuf {
        self.root.path().join(format!("results/pods-{}-eth0", id()))
    }
}

/// Writes the configuration of the network `pods`.
pub(crate) fn configure(root: &Path, plugins: &[Value]) {
    let plugins: Vec<_> = plugins
        .iter()
        .map(|plugin| if plugin.is_string() { json!({ "type": plugin }) } else { plugin.clone() })
        .collect();
    let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins});
    let (file, draft) = (root.join("net.d/10-pods.conflist"), root.join("net.d/draft"));
    fs::write(&draft, list.to_string()).unwrap();
    fs::rename(draft, file).unwrap();
}

/// The id of the test's container, which no other test has: a DEL after an ADD that did not come
/// to its end kills every plugin on the machine that carries the container's id.
pub(crate) fn id() -> String {
    let test = std::thread::current().name().unwrap_or_default().replace("::", ".");
    format!("{test}-{}", std::process::id())
}

/// The test's container with a namespace.
pub(crate) fn container() -> Attachment {
    Attachment::new(&id(), "eth0").unwrap().netns(Path::new(NETNS)).unwrap()
}

/// An answer to an ADD with one address.
pub(crate) fn answer(address: &str) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": NETNS}],
        "ips": [{"address": address, "interface": 1}],
    })
}
