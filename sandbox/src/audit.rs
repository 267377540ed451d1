//! What looks like a sandbox and is on nobody's record, and what is on record and not there.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_runtime::host::Mounts;

use crate::error::{Error, InStep as _, Step};
use crate::sandboxes::{Sandbox, Sandboxes};

/// Something that nobody owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// What it is.
    pub kind: StrayKind,
    /// Which one.
    pub name: String,
}

/// Kinds of strays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrayKind {
    /// The directory of a sandbox.
    Directory,
    /// A mount below such a directory.
    Mount,
    /// A shim.
    Shim,
    /// The record of a network attachment.
    Attachment,
    /// An address that a network plugin has reserved.
    Address,
    /// A virtual interface on a bridge of a network.
    Link,
    /// The pin of a network namespace of a ready sandbox, which somebody has taken away.
    MissingNamespace,
}

impl Sandboxes {
    /// Lists directories, mounts, shims and network attachments that belong to no sandbox of this
    /// daemon, and network namespaces that a sandbox has lost.
    ///
    /// Cgroups are not looked at here, because containers have some as well.
    ///
    /// # Errors
    /// If the records of the network cannot be read.
    pub async fn audit(&self) -> Result<Vec<Stray>, Error> {
        let sandboxes = self.list();
        let known: HashSet<_> = sandboxes.iter().map(|sandbox| sandbox.spec.id.clone()).collect();
        let mut strays = stray_directories(self.run_directory(), &known);
        let mounts = Mounts::read().in_step(Step::NetworkDel, "")?;
        strays.extend(stray_mounts(self.run_directory(), &mounts, &known));
        strays.extend(stray_shims(self.run_directory(), &known));
        strays.extend(missing_namespaces(&sandboxes, &mounts));
        strays.extend(self.stray_attachments(known).await.in_step(Step::NetworkDel, "")?);
        Ok(strays)
    }

    async fn stray_attachments(
        &self,
        known: HashSet<String>,
    ) -> Result<Vec<Stray>, berth_cni::Error> {
        let stray = |found: berth_cni::Stray| {
            let kind = match found {
                berth_cni::Stray::Record { .. } => StrayKind::Attachment,
                berth_cni::Stray::Address { .. } => StrayKind::Address,
                berth_cni::Stray::Link { .. } => StrayKind::Link,
            };
            Stray { kind, name: found.to_string() }
        };
        Ok(self.network_strays(known).await?.into_iter().map(stray).collect())
    }
}

fn stray_directories(run: &Path, known: &HashSet<String>) -> Vec<Stray> {
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let stray = |name| Stray { kind: StrayKind::Directory, name };
    names.filter(|name| !known.contains(name)).map(stray).collect()
}

/// Mounts below the run directory: the pin of a network namespace and nothing else.
fn stray_mounts(run: &Path, mounts: &Mounts, known: &HashSet<String>) -> Vec<Stray> {
    let inside = mounts.points().filter_map(|point| {
        let rest = point.strip_prefix(run).ok()?;
        (!rest.as_os_str().is_empty()).then_some((point, rest))
    });
    let known = |rest: &Path| {
        let mut parts = rest.components().map(|part| part.as_os_str().to_string_lossy());
        let id = parts.next().unwrap_or_default();
        known.contains(&*id) && parts.eq(["netns"])
    };
    let stray = |point: &Path| Stray { kind: StrayKind::Mount, name: point.display().to_string() };
    inside.filter(|(_, rest)| !known(rest)).map(|(point, _)| stray(point)).collect()
}

fn missing_namespaces(sandboxes: &[Arc<Sandbox>], mounts: &Mounts) -> Vec<Stray> {
    let pins = sandboxes.iter().filter_map(|sandbox| sandbox.home().ok()?.netns);
    let stray = |pin: PathBuf| {
        let name = pin.display().to_string();
        Stray { kind: StrayKind::MissingNamespace, name }
    };
    pins.filter(|pin| !mounts.has(pin)).map(stray).collect()
}

/// A shim has its directory as its argument.
fn stray_shims(run: &Path, known: &HashSet<String>) -> Vec<Stray> {
    let mut strays = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        let (name, directory) = (words.next(), words.next().map(Path::new));
        let id = directory.and_then(|directory| directory.strip_prefix(run).ok());
        let id = id.map(|id| id.to_string_lossy().into_owned());
        if let (Some("berth-shim"), Some(id)) = (name, id)
            && !known.contains(&id)
        {
            let pid = entry.file_name().to_string_lossy().into_owned();
            strays.push(Stray { kind: StrayKind::Shim, name: format!("{id} (process {pid})") });
        }
    }
    strays
}
