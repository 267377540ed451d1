//! What a test leaves behind: a snapshot of its place before and after, whose difference must
//! be empty. It asks the kernel and the file system; what berthd itself finds amiss comes on top,
//! by `berth audit`, and never in place of that.

mod proc;
mod snapshot;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::daemon::{Daemon, Engine, binaries};
use crate::wait;

pub use snapshot::{Class, Snapshot, Stray};

/// How long what goes away by itself may take: the kernel tears network namespaces down in the
/// background, a peer collects its snapshots there.
const SETTLE: Duration = Duration::from_secs(15);

/// Where to look, beside what every snapshot looks at, and what may stay.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Directories whose content is compared, down to a few levels.
    pub dirs: Vec<PathBuf>,
    /// Cgroups, links and files that may appear: what an engine or a plugin makes once, for all
    /// pods, and keeps.
    pub permanent: Vec<(Class, String)>,
    /// Files may go: a peer collects its own garbage when it likes.
    pub collects: bool,
    /// Processes come and go that are not berth's: beside a systemd they do.
    pub services: bool,
    /// Where the berthd that is asked as well listens for its command line.
    pub berthd: Option<String>,
}

impl Scope {
    /// What belongs to a daemon.
    pub fn of(daemon: &Daemon) -> Self {
        let dirs = [&daemon.dirs().root, &daemon.dirs().state];
        let (cgroup, made_once): (_, &[&str]) = match daemon.engine() {
            Engine::Berthd => ("/berth", &[]),
            Engine::Containerd => ("/k8s.io", &CONTAINERD_MAKES_ONCE),
            Engine::Endpoint(_) => ("", &[]),
        };
        let files = dirs.iter().flat_map(|dir| made_once.iter().map(|name| dir.join(name)));
        let files = files.map(|path| (Class::File, path.to_string_lossy().into_owned()));
        let bridge = (Class::Link, daemon.network().bridge.clone());
        Self {
            dirs: dirs.map(PathBuf::clone).into(),
            permanent: files.chain([(Class::Cgroup, cgroup.to_owned()), bridge]).collect(),
            collects: *daemon.engine() == Engine::Containerd,
            services: false,
            berthd: (*daemon.engine() == Engine::Berthd).then(|| daemon.admin_endpoint()),
        }
    }
}

/// Empty directories that containerd makes for its first pod, and keeps.
const CONTAINERD_MAKES_ONCE: [&str; 4] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.grpc.v1.cri/containers",
    "io.containerd.grpc.v1.cri/sandboxes",
    "io.containerd.runtime.v2.task/k8s.io",
];

/// Where containerd keeps a snapshot that a kill has cut off, until it collects its garbage again.
const CONTAINERD_COLLECTS: &str = "io.containerd.snapshotter.v1.overlayfs/snapshots/";

/// An audit that has begun.
#[derive(Debug)]
pub struct Audit {
    scope: Scope,
    before: Snapshot,
}

impl Audit {
    /// Takes the first snapshot. Begin when the daemon is ready and the images are there, before
    /// the first pod.
    pub fn begin(scope: Scope) -> Result<Self> {
        let before = Snapshot::take(&scope.dirs)?;
        Ok(Self { scope, before })
    }

    /// What is there now and was not, or was there and is gone.
    pub fn strays(&self) -> Result<Vec<Stray>> {
        let mut strays = self.before.diff(&Snapshot::take(&self.scope.dirs)?);
        strays.retain(|stray| {
            let known =
                |(class, what): &(Class, String)| *class == stray.class && *what == stray.what;
            let garbage = stray.more < 0 || stray.what.contains(CONTAINERD_COLLECTS);
            let collected = self.scope.collects && stray.class == Class::File && garbage;
            let others = self.scope.services
                && stray.class == Class::Process
                && !stray.what.contains("berth");
            !collected && !others && !self.scope.permanent.iter().any(known)
        });
        Ok(strays)
    }

    /// Fails with the list of all strays unless there are none. Looks again for a while: what
    /// goes away in the background sends no event to us.
    pub async fn assert_clean(&self) -> Result<()> {
        let clean = wait::until("the place is as it was", SETTLE, async || {
            Ok(self.strays()?.is_empty().then_some(()))
        });
        if clean.await.is_err() {
            let strays = self.strays()?;
            let lines: Vec<_> = strays.iter().map(|stray| format!("    {stray}")).collect();
            bail!("{} strays:\n{}", strays.len(), lines.join("\n"));
        }
        self.ask_berthd().await
    }

    /// Fails unless berthd, which must run, finds no stray of its own.
    async fn ask_berthd(&self) -> Result<()> {
        let Some(address) = &self.scope.berthd else {
            return Ok(());
        };
        let berth = binaries::find("berth")?;
        let output = Command::new(berth).args(["--admin-address", address, "audit"]).output();
        let output = output.await.context("run berth audit")?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "berth audit: {}", String::from_utf8_lossy(&said));
        Ok(())
    }
}
