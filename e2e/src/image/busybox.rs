//! The base of most images: the machine's own static busybox.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Entry, Layer};
use crate::place::needs;

pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      alice:x:1000:1000:Alice:/home/alice:/bin/sh\n";
const GROUP: &str = "root:x:0:\nstaff:x:50:alice\nalice:x:1000:\n";

/// A small root file system in which busybox is every command.
pub(super) fn layer() -> Result<Layer> {
    let dirs = [
        "bin", "dev", "etc", "home", "proc", "run", "sbin", "sys", "usr", "usr/bin", "usr/sbin",
        "var",
    ];
    Ok(Layer::new()
        .with_all(dirs.map(Entry::dir))
        .with(Entry::dir("root").mode(0o700))
        .with(Entry::dir("tmp").mode(0o1777))
        .with(Entry::dir("home/alice").owner(1000, 1000))
        .with(Entry::file("etc/passwd", PASSWD))
        .with(Entry::file("etc/group", GROUP))
        .with(Entry::file("bin/busybox", binary()?).mode(0o755))
        .with_all(applets()?))
}

/// Nothing but `/busybox`.
pub(super) fn alone() -> Result<Layer> {
    Ok(Layer::new().with(Entry::file("busybox", binary()?).mode(0o755)))
}

fn binary() -> Result<Vec<u8>> {
    let path = needs::program("busybox")?;
    std::fs::read(&path).with_context(|| format!("read {}", path.display()))
}

fn applets() -> Result<Vec<Entry>> {
    let output = Command::new(needs::program("busybox")?).arg("--list-full").output();
    let list = String::from_utf8(output.context("list the applets of busybox")?.stdout)?;
    let links = list.lines().filter(|path| !path.ends_with("/busybox"));
    Ok(links.map(|path| Entry::symlink(path, "/bin/busybox")).collect())
}
