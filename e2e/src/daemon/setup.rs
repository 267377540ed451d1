//! What a test wants of a daemon, collected before it exists.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Daemon, Dirs, Engine};
use crate::network::Network;
use crate::place::Place;
use crate::registry::Upstream;

/// How a daemon is to be set up.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(super) engine: Engine,
    name: String,
    network: Option<Network>,
    hosts: Vec<(String, Upstream)>,
    pub(super) failpoints: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    root: Option<PathBuf>,
    pub(super) oci_runtime: Option<PathBuf>,
    pub(super) quiet: bool,
    /// A configuration that is merged over ours.
    pub(super) more: String,
}

impl Setup {
    /// A daemon on default settings, without a pod network.
    pub fn new(engine: Engine) -> Self {
        Self {
            name: match &engine {
                Engine::Endpoint(_) => "endpoint".to_owned(),
                engine => engine.name().to_owned(),
            },
            engine,
            network: None,
            hosts: Vec::new(),
            failpoints: Vec::new(),
            env: Vec::new(),
            root: None,
            oci_runtime: None,
            quiet: false,
            more: String::new(),
        }
    }

    /// Names its directory in the place's scratch directory; daemons of one place need
    /// different names. The engine's name is the default.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Gives its pods this network.
    pub fn network(mut self, network: &Network) -> Self {
        self.network = Some(network.clone());
        self
    }

    /// Sends pulls from `host`, such as `docker.io` or `127.0.0.1:5000`, to `upstream`.
    pub fn host(mut self, host: &str, upstream: &Upstream) -> Self {
        self.hosts.push((host.to_owned(), upstream.clone()));
        self
    }

    /// Arms a failpoint, such as `failpoint("sandbox.run.network", "kill")`, until
    /// [`Daemon::disarm`]. This needs `berthd-failpoints`, built with the feature of that name.
    pub fn failpoint(mut self, name: &str, action: &str) -> Self {
        self.failpoints.push(format!("{name}={action}"));
        self
    }

    /// Sets an environment variable of the daemon.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Keeps what survives a reboot (images, snapshots) in `dir` instead of in memory: on an
    /// honest disk for a benchmark, on a small one for a fault.
    pub fn root(mut self, dir: &Path) -> Self {
        self.root = Some(dir.to_owned());
        self
    }

    /// Has a peer run its containers by this OCI runtime in place of runc.
    pub fn oci_runtime(mut self, program: &Path) -> Self {
        self.oci_runtime = Some(program.to_owned());
        self
    }

    /// Logs as little as an operator would let it, for a benchmark.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Merges a configuration file in the engine's own language over the harness's.
    pub fn config(mut self, text: &str) -> Self {
        self.more = text.to_owned();
        self
    }

    /// Makes the directories and the configuration, starts the daemon, and returns once it is
    /// ready.
    pub async fn start(self, place: &Place) -> Result<Daemon> {
        let mut daemon = self.prepare(place)?;
        daemon.start().await?;
        Ok(daemon)
    }

    /// As [`Setup::start`], without starting it.
    pub fn prepare(self, place: &Place) -> Result<Daemon> {
        let base = place.dir(&self.name)?;
        let dirs = Dirs {
            root: self.root.clone().unwrap_or_else(|| base.join("root")),
            state: base.join("state"),
            certs: base.join("certs.d"),
            logs: base.join("pods"),
            base,
        };
        let drop_ins = dirs.base.join("config.d");
        for dir in [&dirs.root, &dirs.state, &dirs.certs, &dirs.logs, &drop_ins] {
            std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        for (host, upstream) in &self.hosts {
            write_hosts(&dirs.certs, host, &upstream.hosts_toml())?;
        }
        let network = match &self.network {
            Some(network) => network.clone(),
            None => Network::none(place)?,
        };
        Ok(Daemon { place: place.clone(), setup: self, dirs, network, process: None })
    }
}

pub(super) fn write_hosts(certs: &Path, host: &str, text: &str) -> Result<()> {
    let dir = certs.join(host);
    std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::write(dir.join("hosts.toml"), text))
        .with_context(|| format!("write hosts.toml of {host}"))
}
