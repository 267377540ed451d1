//! A daemon under test: berthd, or a peer that the same test runs against.
//!
//! Owns its directories, configuration, process and log; everything is private to the test.
//! What is asked of the daemon goes through [`Client`].

mod berthd;
pub mod binaries;
mod containerd;
mod notify;
mod setup;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::client::Client;
use crate::network::Network;
use crate::place::Place;
use crate::process::Process;

use notify::NotifySocket;

pub use setup::Setup;

/// How long a daemon may take to become ready. A guest needs most of it for a peer.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end when it is asked to.
const END: Duration = Duration::from_secs(20);

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// Ours.
    Berthd,
    /// Debian's containerd with runc.
    Containerd,
    /// Whatever listens at this endpoint, `unix:///path`; not ours to start or to kill.
    Endpoint(String),
}

impl Engine {
    /// The engine that the environment asks for, by `E2E_ENDPOINT=unix:///path` or
    /// `E2E_PEER=containerd`, or else the `usual` one.
    pub fn from_env(usual: Self) -> Result<Self> {
        if let Ok(endpoint) = std::env::var("E2E_ENDPOINT") {
            return Ok(Self::Endpoint(endpoint));
        }
        std::env::var("E2E_PEER").map_or(Ok(usual), |name| name.parse())
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Berthd => "berthd",
            Self::Containerd => "containerd",
            Self::Endpoint(endpoint) => endpoint,
        }
    }
}

impl FromStr for Engine {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "berthd" => Ok(Self::Berthd),
            "containerd" => Ok(Self::Containerd),
            other => bail!("no engine is called {other:?}; there are berthd and containerd"),
        }
    }
}

/// The directories of one daemon.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// Holds the others, except a root that lies elsewhere.
    pub base: PathBuf,
    /// What survives a reboot.
    pub root: PathBuf,
    /// What does not.
    pub state: PathBuf,
    /// `HOST/hosts.toml`.
    pub certs: PathBuf,
    /// Logs of pods, a directory for each.
    pub logs: PathBuf,
}

/// A daemon under test. Killed when dropped; its pods live until their place ends.
#[derive(Debug)]
pub struct Daemon {
    place: Place,
    setup: Setup,
    dirs: Dirs,
    network: Network,
    /// Open as long as the process lives: it may have more to tell.
    process: Option<(Process, NotifySocket)>,
}

impl Daemon {
    /// Who answers.
    pub fn engine(&self) -> &Engine {
        &self.setup.engine
    }

    /// Its directories.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// The network of its pods.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where it listens, `unix:///path`.
    pub fn endpoint(&self) -> String {
        match &self.setup.engine {
            Engine::Endpoint(endpoint) => endpoint.clone(),
            _ => format!("unix://{}", self.socket().display()),
        }
    }

    /// Where berthd listens for its command line, `unix:///path`.
    pub fn admin_endpoint(&self) -> String {
        format!("unix://{}", self.dirs.state.join("admin.sock").display())
    }

    fn socket(&self) -> PathBuf {
        self.dirs.base.join("cri.sock")
    }

    /// The file from which it reads its configuration; written anew at each start.
    pub fn config_file(&self) -> PathBuf {
        self.dirs.base.join("config.toml")
    }

    /// What [`Setup::config`] adds: a file of its own, so that it may repeat tables.
    fn drop_in(&self) -> PathBuf {
        self.dirs.base.join("config.d/50-test.toml")
    }

    /// A new connection to it.
    pub async fn client(&self) -> Result<Client> {
        Client::connect(&self.endpoint(), &self.dirs.logs).await
    }

    /// The running process.
    pub fn process(&mut self) -> Result<&mut Process> {
        let running = self.process.as_mut().context("the daemon does not run, or is not ours");
        Ok(&mut running?.0)
    }

    /// All that it has logged, over all its starts.
    pub fn log(&self) -> Result<String> {
        let path = self.log_file();
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    fn log_file(&self) -> PathBuf {
        self.dirs.base.join("log")
    }

    /// Starts it, or starts it again on the same directories, and returns once it is ready.
    pub async fn start(&mut self) -> Result<()> {
        let (command, config) = match &self.setup.engine {
            Engine::Endpoint(_) => return Ok(()),
            Engine::Berthd => (berthd::command(self)?, berthd::config(self)),
            Engine::Containerd => (containerd::command(self)?, containerd::config(self)?),
        };
        ensure!(self.process.is_none(), "the daemon runs already");
        for (path, text) in [(self.config_file(), &config), (self.drop_in(), &self.setup.more)] {
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        if let Err(err) = self.launch(command).await {
            self.process = None;
            return Err(err);
        }
        if self.setup.engine == Engine::Containerd {
            containerd::finish_start(self).await?;
        }
        Ok(())
    }

    async fn launch(&mut self, mut command: Command) -> Result<()> {
        let notify = NotifySocket::bind(&self.dirs.base.join("notify.sock"))?;
        command.env("NOTIFY_SOCKET", notify.path()).envs(self.setup.env.iter().cloned());
        if !self.setup.failpoints.is_empty() {
            command.env("BERTH_FAILPOINTS", self.setup.failpoints.join(";"));
        }
        let process = Process::start(&self.place, command, &self.log_file())?;
        let (process, notify) = self.process.insert((process, notify));
        let ready = tokio::time::timeout(START, async {
            tokio::select! {
                ready = notify.ready() => ready,
                status = process.ended() => bail!("the daemon ended at its start: {}", status?),
            }
        });
        ready.await.with_context(|| format!("wait {START:?} for the daemon to be ready"))?
    }

    /// Arms a failpoint, as [`Setup::failpoint`], for the next start.
    pub fn arm(&mut self, name: &str, action: &str) {
        self.setup.failpoints.push(format!("{name}={action}"));
    }

    /// Takes the place of [`Setup::config`], for the next start.
    pub fn set_config(&mut self, text: &str) {
        self.setup.more = text.to_owned();
    }

    /// Forgets all failpoints, for the next start.
    pub fn disarm(&mut self) {
        self.setup.failpoints.clear();
    }

    /// SIGKILL: it gets no chance to tidy up. Pods go on.
    pub async fn kill(&mut self) -> Result<()> {
        self.process()?.kill().await?;
        self.process = None;
        Ok(())
    }

    /// SIGTERM, and waits for its end. Pods go on.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        let status = self.process()?.terminate(END).await?;
        self.process = None;
        Ok(status)
    }

    /// Waits for an end that something else has caused, such as a failpoint.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(END, self.process()?.ended());
        let status = ended.await.context("wait for the daemon to end")??;
        self.process = None;
        Ok(status)
    }

    /// Writes the `hosts.toml` of `host`, which counts from the next pull on.
    pub fn set_hosts(&self, host: &str, text: &str) -> Result<()> {
        setup::write_hosts(&self.dirs.certs, host, text)
    }

    /// Gives it an image without a registry: an archive as [`crate::image::archive`] makes it.
    pub async fn import(&self, archive: &[u8]) -> Result<()> {
        let file = tempfile::NamedTempFile::new_in(&self.dirs.base).context("make a file")?;
        let path = file.path();
        std::fs::write(path, archive).with_context(|| format!("write {}", path.display()))?;
        let mut command = match self.setup.engine {
            Engine::Berthd => berthd::import_command(self, path)?,
            Engine::Containerd => containerd::import_command(self, path)?,
            Engine::Endpoint(_) => bail!("an endpoint of somebody else's takes no import"),
        };
        let output = command.output().await.context("run the import")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "import an image: {}: {said}", output.status);
        Ok(())
    }
}
