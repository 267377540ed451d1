//! A daemon as a service of systemd's, as a node has it, instead of as a child of the test.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::{Daemon, Engine, berthd};
use crate::place::Place;

/// A unit that runs a daemon. It belongs to its place's slice and ends with that.
#[derive(Debug)]
pub struct Service {
    unit: String,
}

impl Service {
    /// Writes the configuration of `daemon`, a berthd, and starts it as `unit`; returns once it
    /// has said that it is ready.
    pub async fn start(place: &Place, daemon: &Daemon, unit: &str) -> Result<Self> {
        ensure!(*daemon.engine() == Engine::Berthd, "only berthd runs as a service here");
        daemon.write_config(&berthd::config(daemon))?;
        place.keep_evidence(daemon.log_file());
        let log = daemon.log_file().display().to_string();
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--unit", unit, "--slice", place.slice()]);
        command.args(["--service-type=notify", "--property=TimeoutStartSec=2min"]);
        // Its shims are parents of containers and outlive it.
        command.args(["--property=KillMode=process", "--property=Delegate=yes"]);
        for stream in ["StandardOutput", "StandardError"] {
            command.arg(format!("--property={stream}=append:{log}"));
        }
        let program = berthd::command(daemon)?;
        command.arg(program.as_std().get_program()).args(program.as_std().get_args());
        run(command).await?;
        Ok(Self { unit: unit.to_owned() })
    }

    /// `systemctl VERB UNIT`.
    pub async fn ctl(&self, verb: &str) -> Result<()> {
        systemctl(&[verb, &self.unit]).await.map(drop)
    }

    /// A property of the unit, as `systemctl show` has it.
    pub async fn property(&self, name: &str) -> Result<String> {
        let said = systemctl(&["show", "--value", "--property", name, &self.unit]).await?;
        Ok(said.trim_end().to_owned())
    }
}

/// Runs systemctl, and answers what it prints.
pub async fn systemctl(args: &[&str]) -> Result<String> {
    let mut command = Command::new("systemctl");
    command.args(args);
    run(command).await
}

async fn run(mut command: Command) -> Result<String> {
    let output = command.output().await.with_context(|| format!("start {command:?}"))?;
    let [said, complained] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.success(), "{command:?}: {}: {complained}", output.status);
    Ok(said)
}
