//! The peer: Debian's containerd 1.6 with runc, on a configuration as close to its defaults as
//! a private place allows.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use super::Daemon;
use crate::image::{Image, archive};
use crate::place::needs;
use crate::wait;

/// The image of its pause container: one that we make, so that no registry is needed.
const PAUSE: &str = "localhost/e2e-pause:1";
const SETTLE: Duration = Duration::from_secs(60);

pub(super) fn command(daemon: &Daemon) -> Result<Command> {
    let mut command = Command::new(needs::program("containerd")?);
    command.arg("--config").arg(daemon.config_file());
    Ok(command)
}

pub(super) fn config(daemon: &Daemon) -> Result<String> {
    let dirs = &daemon.dirs;
    Ok(format!(
        r#"version = 2
imports = ["{drop_in}"]
root = "{root}"
state = "{state}"
# The first keeps a directory outside the place; the others have no file system here.
disabled_plugins = [
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  stream_server_port = "{stream_port}"
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "{conf}"
  bin_dir = "{bin}"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{certs}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = "{runc}"
"#,
        drop_in = daemon.drop_in().display(),
        root = dirs.root.display(),
        state = dirs.state.display(),
        stream_port = stream_port(&dirs.base),
        socket = daemon.socket().display(),
        conf = daemon.network.conf_dir.display(),
        bin = daemon.network.bin_dir.display(),
        certs = dirs.certs.display(),
        runc = runc(daemon)?.display(),
    ))
}

/// The port of its streaming server: the same after each start, so that audits can compare, and
/// another one for each directory.
fn stream_port(base: &Path) -> u32 {
    let bytes = base.as_os_str().as_encoded_bytes();
    10_000 + bytes.iter().fold(0, |sum, byte| (31 * sum + u32::from(*byte)) % 10_000)
}

/// After it has notified, its CRI plugin still loads, and its pause image is still missing.
/// It has no event for either.
pub(super) async fn finish_start(daemon: &Daemon) -> Result<()> {
    let client = daemon.client().await?;
    wait::until("containerd serves CRI", SETTLE, async || {
        Ok(client.condition("RuntimeReady").await.unwrap_or(false).then_some(()))
    })
    .await?;
    if client.image(PAUSE).await?.is_none() {
        daemon.import(&archive::oci(PAUSE, &Image::pause()?)?).await?;
        wait::until("CRI knows the pause image", SETTLE, async || {
            Ok(client.image(PAUSE).await?.map(drop))
        })
        .await?;
    }
    Ok(())
}

pub(super) fn import_command(daemon: &Daemon, archive: &Path) -> Result<Command> {
    let mut command = Command::new(needs::program("ctr")?);
    command.arg("--address").arg(daemon.socket());
    command.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
    Ok(command)
}

/// The OCI runtime for it. containerd gives every pause container two CPU shares, which runc
/// refuses where the controller cpu is missing; there a script in front of runc takes the CPU
/// part out of the spec. It costs about a millisecond for each call of runc.
fn runc(daemon: &Daemon) -> Result<PathBuf> {
    let runc = match &daemon.setup.oci_runtime {
        Some(program) => program.clone(),
        None => needs::program("runc")?,
    };
    if daemon.place.has_controller("cpu") {
        return Ok(runc);
    }
    let script = format!(
        r#"#!{busybox} sh
case " $* " in *" create "*)
    for word; do
        if [ "$previous" = --bundle ]; then bundle=$word; fi
        previous=$word
    done
    {busybox} sed -i 's/"cpu":{{[^}}]*}},//; s/,"cpu":{{[^}}]*}}//; s/"cpu":{{[^}}]*}}//' \
        "$bundle/config.json"
esac
exec {runc} "$@"
"#,
        busybox = needs::program("busybox")?.display(),
        runc = runc.display(),
    );
    let path = daemon.dirs.base.join("runc");
    std::fs::write(&path, script)
        .and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)))
        .context("write the script in front of runc")?;
    Ok(path)
}
