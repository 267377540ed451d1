//! `berth`, the command line, as a person or a script runs it against a daemon of a test.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::client::Output;
use crate::daemon::{Daemon, binaries};

/// How long a command may take that is not meant to stay.
const END: Duration = Duration::from_secs(60);

/// The program, and the two sockets that it is to use.
#[derive(Debug, Clone)]
pub struct Berth {
    program: PathBuf,
    addresses: [String; 2],
}

impl Berth {
    /// For one daemon, which need not run.
    pub fn of(daemon: &Daemon) -> Result<Self> {
        let addresses = [daemon.endpoint(), daemon.admin_endpoint()];
        Ok(Self { program: binaries::find("berth")?, addresses })
    }

    /// A command that the test starts itself; killed when its process is dropped.
    pub fn command(&self, words: &[&str]) -> Command {
        let [cri, admin] = &self.addresses;
        let mut command = Command::new(&self.program);
        command.env("BERTH_ADDRESS", cri).env("BERTH_ADMIN_ADDRESS", admin).args(words);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command, and answers how it ended.
    pub async fn run(&self, words: &[&str]) -> Result<Output> {
        output(self.command(words)).await.with_context(|| format!("berth {}", words.join(" ")))
    }

    /// Runs a command that must end with 0, and answers its standard output.
    pub async fn ok(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words).await?;
        ensure!(output.code == 0, "berth {}: {output:?}", words.join(" "));
        Ok(output.stdout)
    }

    /// Runs a command with `-o json`, and answers what it tells.
    pub async fn json(&self, words: &[&str]) -> Result<Value> {
        let text = self.ok(&[words, &["-o", "json"]].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }
}

/// Waits for a command, and answers how it ended; a signal is the code of a shell for it.
pub async fn output(mut command: Command) -> Result<Output> {
    use std::os::unix::process::ExitStatusExt as _;
    let ended = tokio::time::timeout(END, command.output());
    let ended = ended.await.context("wait for its end")?.context("start it")?;
    let killed = || ended.status.signal().map(|signal| 128 + signal);
    Ok(Output {
        code: ended.status.code().or_else(killed).unwrap_or(-1),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    })
}
