//! berthd: its configuration and its commands.

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use tokio::process::Command;

use super::{Daemon, binaries};
use crate::berth::Berth;

pub(super) fn command(daemon: &Daemon) -> Result<Command> {
    let armed = !daemon.setup.failpoints.is_empty();
    let mut command =
        Command::new(binaries::find(if armed { "berthd-failpoints" } else { "berthd" })?);
    command.arg("--config").arg(daemon.config_file());
    Ok(command)
}

/// The drop-in beside it is found by berthd itself.
pub(super) fn config(daemon: &Daemon) -> String {
    let dirs = &daemon.dirs;
    // JSON strings and lists of strings are TOML as well.
    let text = |value: &dyn AsRef<Path>| json!(value.as_ref()).to_string();
    let shim = binaries::find("berth-shim")
        .map_or(String::new(), |path| format!("shim = {}\n", text(&path)));
    format!(
        "version = 1\n\
         root = {root}\n\
         state = {state}\n\
         [grpc]\n\
         socket = {socket}\n\
         [log]\n\
         level = \"{level}\"\n\
         [cni]\n\
         conf_dirs = [{conf}]\n\
         bin_dirs = [{bin}]\n\
         [image]\n\
         certs_dirs = [{certs}]\n\
         registries_conf = \"\"\n\
         [credentials]\n\
         auth_dirs = []\n\
         [trust]\n\
         policy_file = \"\"\n\
         [runtime]\n\
         {shim}\
         missing_controllers = \"{missing}\"\n\
         restrict_oom_score_adj = true\n",
        root = text(&dirs.root),
        state = text(&dirs.state),
        socket = text(&daemon.socket()),
        conf = text(&daemon.network.conf_dir),
        bin = text(&daemon.network.bin_dir),
        certs = text(&dirs.certs),
        level = if daemon.setup.quiet { "info" } else { "debug" },
        missing = if daemon.place.has_controller("cpu") { "refuse" } else { "tolerate" },
    )
}

pub(super) fn import_command(daemon: &Daemon, archive: &Path) -> Result<Command> {
    let mut command = Berth::of(daemon)?.command(&["image", "import"]);
    command.arg(archive);
    Ok(command)
}
