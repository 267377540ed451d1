//! A real registry on the loopback interface: Debian's `docker-registry`, over HTTP or HTTPS,
//! open or behind a password. For a registry that lies, see [`scripted`].

mod http;
mod push;
pub mod scripted;
mod tls;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::process::Command;

use crate::place::{Place, needs};
use crate::process::Process;
use crate::wait;

/// How long a registry may take to listen. In an emulated machine on a busy one, its first start
/// reads and translates a large program.
const START: Duration = Duration::from_secs(120);

/// What a client has to say to get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: &'static str,
    /// The user's password.
    pub password: &'static str,
    /// The line of an htpasswd file that lets this user in (bcrypt, the only kind that
    /// docker-registry takes).
    htpasswd: &'static str,
}

/// The user that a registry with a password knows.
pub const ALICE: Login = Login {
    user: "alice",
    password: "correct-horse-battery",
    htpasswd: "alice:$2b$05$BerthE2EHarnessSaltABe22weNLZPskXsjLbLyPhhosxFQtPSTti\n",
};

/// A user that no registry knows.
pub const MALLORY: Login =
    Login { user: "mallory", password: "guessed-the-wrong-way", htpasswd: "" };

/// How a daemon reaches a registry: what a `hosts.toml` says.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Scheme, host and port.
    pub url: String,
    /// The certificate authority to trust, a PEM file.
    pub ca: Option<PathBuf>,
}

impl Upstream {
    /// The content of the `hosts.toml` that sends all pulls of a host here.
    pub fn hosts_toml(&self) -> String {
        let Self { url, ca } = self;
        let mut text = format!(
            "server = \"{url}\"\n\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        if let Some(ca) = ca {
            text += &format!("  ca = \"{}\"\n", ca.display());
        }
        text
    }
}

/// What a registry is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    tls: bool,
    login: Option<Login>,
}

impl Setup {
    /// Serves HTTPS, with a certificate of an authority that only [`Upstream::ca`] names.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Asks for a password (HTTP basic authentication).
    pub fn login(mut self, login: Login) -> Self {
        self.login = Some(login);
        self
    }

    /// Starts it, and returns once it listens.
    pub async fn start(self, place: &Place) -> Result<Registry> {
        Registry::start_as(place, self).await
    }
}

/// A running `docker-registry` with a storage of its own.
#[derive(Debug)]
pub struct Registry {
    host: String,
    upstream: Upstream,
    login: Option<Login>,
    process: Process,
}

impl Registry {
    /// An open registry over plain HTTP.
    pub async fn start(place: &Place) -> Result<Self> {
        Setup::default().start(place).await
    }

    async fn start_as(place: &Place, setup: Setup) -> Result<Self> {
        let dir = tempfile::tempdir_in(place.scratch()).context("make a directory")?.keep();
        let tls = if setup.tls { Some(tls::Identity::make(&dir)?) } else { None };
        let config = dir.join("config.yml");
        write(&config, &config_text(&dir, setup, tls.as_ref()))?;
        if let Some(login) = setup.login {
            write(&dir.join("htpasswd"), login.htpasswd)?;
        }
        let mut command = Command::new(needs::program("docker-registry")?);
        command.arg("serve").arg(config);
        let mut process = Process::start(place, command, &dir.join("log"))?;
        let host = wait::until("the registry listens", START, async || {
            process.ensure_running()?;
            Ok(listening_on(&process.log()?))
        })
        .await?;
        let scheme = if setup.tls { "https" } else { "http" };
        let upstream = Upstream { url: format!("{scheme}://{host}"), ca: tls.map(|tls| tls.ca) };
        Ok(Self { host, upstream, login: setup.login, process })
    }

    /// `127.0.0.1:` and its port, as image references name it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// How a daemon reaches it.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The whole reference of `name`, which is `repository:tag`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// What it has logged.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// The configuration, as JSON, which is YAML too.
fn config_text(dir: &Path, setup: Setup, tls: Option<&tls::Identity>) -> String {
    let mut config = json!({
        "version": "0.1",
        "log": { "level": "info", "formatter": "json", "accesslog": { "disabled": true } },
        "storage": {
            "filesystem": { "rootdirectory": dir.join("storage") },
            "delete": { "enabled": true },
        },
        // Port 0: the kernel picks a free one, and the log names it.
        "http": { "addr": "127.0.0.1:0" },
    });
    if let Some(tls) = tls {
        config["http"]["tls"] = json!({ "certificate": tls.certificate, "key": tls.key });
    }
    if setup.login.is_some() {
        let path = dir.join("htpasswd");
        config["auth"] = json!({ "htpasswd": { "realm": "e2e", "path": path } });
    }
    config.to_string()
}

/// Finds `listening on 127.0.0.1:34567` in the log: docker-registry tells nobody else.
fn listening_on(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("listening on ")?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)))?;
    Some(rest[..end].to_owned())
}
