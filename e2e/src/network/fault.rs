//! Plugins that fail on purpose: a shell script takes the place of a real plugin, does harm on
//! one of the CNI commands, and is the real plugin otherwise.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::place::Place;

/// Whether harm comes before the real plugin runs, or after it has done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The real plugin has not run.
    Before,
    /// The real plugin has done its work; its answer has not been given yet.
    After,
}

/// One fault of one plugin.
#[derive(Debug, Clone)]
pub struct Fault {
    plugin: String,
    command: &'static str,
    when: When,
    harm: String,
    /// The one pod that is harmed, if not all are.
    pod: Option<String>,
}

impl Fault {
    fn new(plugin: &str, command: &'static str, when: When, harm: &str) -> Self {
        Self { plugin: plugin.to_owned(), command, when, harm: harm.to_owned(), pod: None }
    }

    /// Harms the pod called `name` and no other.
    pub fn only_for(mut self, name: &str) -> Self {
        self.pod = Some(name.to_owned());
        self
    }

    pub(super) fn plugin(&self) -> &str {
        &self.plugin
    }

    /// `plugin` never answers to `command`, which is `ADD`, `DEL` or `CHECK`.
    pub fn hang(plugin: &str, command: &'static str) -> Self {
        // Not by exec: a child that has to be killed too is the harder case.
        Self::new(plugin, command, When::Before, "sleep 1000000; exit 1")
    }

    /// `plugin` dies of a signal, saying nothing.
    pub fn crash(plugin: &str, command: &'static str, when: When) -> Self {
        Self::new(plugin, command, when, "kill -SEGV $$")
    }

    /// `plugin` succeeds, and answers what is no JSON.
    pub fn garbage(plugin: &str, command: &'static str, when: When) -> Self {
        Self::new(plugin, command, when, "echo 'no { JSON'; exit 0")
    }

    /// `plugin` answers more than anybody wants to hear.
    pub fn flood(plugin: &str, command: &'static str) -> Self {
        Self::new(plugin, command, When::Before, "exec cat /dev/zero")
    }

    /// `plugin` refuses, as the specification says that a plugin refuses.
    pub fn refuse(plugin: &str, command: &'static str, when: When) -> Self {
        let error = r#"{"cniVersion":"1.0.0","code":111,"msg":"refused on purpose"}"#;
        Self::new(plugin, command, when, &format!("echo '{error}'; exit 1"))
    }

    /// `plugin` takes `time` longer.
    pub fn slow(plugin: &str, command: &'static str, time: Duration) -> Self {
        let harm = format!("sleep {}", time.as_secs_f32());
        Self::new(plugin, command, When::Before, &harm)
    }

    /// `plugin` reports to `gate` and waits there until it is let through.
    pub fn gate(plugin: &str, command: &'static str, when: When, gate: &Gate) -> Self {
        let (reached, passed) = (gate.reached.display(), gate.passed.display());
        let harm = format!("echo \"$CNI_CONTAINERID\" > {reached}; read -r _ < {passed}");
        Self::new(plugin, command, when, &harm)
    }

    pub(super) fn install(&self, dir: &Path) -> Result<()> {
        let path = dir.join(&self.plugin);
        let real = std::fs::canonicalize(&path).with_context(|| format!("find {}", self.plugin))?;
        std::fs::remove_file(&path)
            .and_then(|()| std::fs::write(&path, self.script(&real)))
            .and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)))
            .with_context(|| format!("replace the plugin {}", self.plugin))
    }

    fn script(&self, real: &Path) -> String {
        let Self { command, harm, .. } = self;
        let real = real.display();
        let harmful = match self.when {
            When::Before => format!("{harm}\nexec {real}"),
            When::After => {
                format!("answer=$({real}); code=$?\n{harm}\nprintf %s \"$answer\"\nexit $code")
            }
        };
        let victim =
            self.pod.as_ref().map_or("*".to_owned(), |pod| format!("*'K8S_POD_NAME={pod};'*"));
        format!(
            "#!/bin/sh\n\
             if [ \"$CNI_COMMAND\" != {command} ]; then exec {real}; fi\n\
             case \"$CNI_ARGS;\" in {victim}) ;; *) exec {real};; esac\n\
             {harmful}\n"
        )
    }
}

/// A gate at which a plugin waits: the test learns that it is there, does what it wants, and
/// lets it through, or never does.
#[derive(Debug)]
pub struct Gate {
    reached: PathBuf,
    arrivals: pipe::Receiver,
    passed: PathBuf,
    permits: File,
}

impl Gate {
    /// A closed gate. Call it in an async context.
    pub fn new(place: &Place) -> Result<Self> {
        let dir = tempfile::tempdir_in(place.scratch()).context("make a gate")?.keep();
        let [reached, passed] = ["reached", "passed"].map(|name| dir.join(name));
        for path in [&reached, &passed] {
            mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0)
                .with_context(|| format!("make {}", path.display()))?;
        }
        // Both ends of both, so that neither ever ends and nothing written is lost.
        let arrivals = pipe::OpenOptions::new().read_write(true).open_receiver(&reached);
        let permits = File::options().read(true).write(true).open(&passed);
        Ok(Self {
            arrivals: arrivals.context("open the gate")?,
            permits: permits.context("open the gate")?,
            reached,
            passed,
        })
    }

    /// Waits until a plugin stands at the gate, and answers the container id that it was given.
    pub async fn reached(&mut self) -> Result<String> {
        let mut id = String::new();
        while !id.ends_with('\n') {
            let byte = self.arrivals.read_u8().await.context("wait at the gate")?;
            id.push(byte.into());
        }
        Ok(id.trim_end().to_owned())
    }

    /// Lets one plugin through: the one that stands at the gate, or the next.
    pub fn let_through(&mut self) -> Result<()> {
        self.permits.write_all(b"\n").context("let a plugin through the gate")
    }
}
