//! What the processes of one test tell each other: which step a process is, what to run again,
//! and the verdict. All of it lies in one directory, the stage, which the outermost process
//! makes and removes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Kind, mounts, needs};

/// Names the step that a process is to take. Absent in the outermost process.
const STEP: &str = "BERTH_E2E_STEP";
/// Names the stage directory.
const STAGE: &str = "BERTH_E2E_STAGE";

/// Which of the processes of a test this one is.
#[derive(Debug)]
pub(super) enum Step {
    Outside,
    Init(Stage),
    Guest(Stage),
    Inside(Stage),
}

impl Step {
    pub(super) fn current() -> Self {
        let stage = || Stage { dir: std::env::var_os(STAGE).unwrap_or_default().into() };
        match std::env::var(STEP).as_deref() {
            Ok("init") => Self::Init(stage()),
            Ok("guest") => Self::Guest(stage()),
            Ok("inside") => Self::Inside(stage()),
            _ => Self::Outside,
        }
    }
}

/// How to run this binary again so that it comes back to the same place call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Again {
    /// What a person calls it.
    pub(super) name: String,
    args: Vec<String>,
}

impl Again {
    /// # Panics
    /// If it is not called from a thread that libtest named after a test.
    pub(super) fn this_test() -> Self {
        let thread = std::thread::current();
        let name = match thread.name() {
            Some(name) if name != "main" => name.to_owned(),
            _ => panic!("a place is entered from a #[test] function, on the thread of its test"),
        };
        let args = ["--exact", &name, "--nocapture", "--include-ignored"].map(str::to_owned);
        Self { name, args: args.into() }
    }

    pub(super) fn this_program() -> Self {
        let mut args = std::env::args();
        let name = args.next().unwrap_or_default();
        Self { name, args: args.collect() }
    }
}

/// All that the inner processes need to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) again: Again,
    /// The kind of place that the test itself is to find.
    pub(super) inside: Kind,
    pub(super) deadline: Duration,
    exe: PathBuf,
    /// What a guest, which inherits nothing, needs of the environment.
    env: Vec<(String, String)>,
}

/// Beginnings of the names of such variables. Nothing else is written down: an environment may
/// hold secrets.
const FOR_GUESTS: [&str; 3] = ["BERTH_", "E2E_", "RUST_"];

impl Order {
    /// # Panics
    /// If this process cannot tell the path of its own binary.
    pub(super) fn new(again: Again, inside: Kind, deadline: Duration) -> Self {
        let exe = std::env::current_exe().expect("the path of the running test binary");
        let for_guests = |key: &str| FOR_GUESTS.iter().any(|start| key.starts_with(start));
        let env = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(key, _)| for_guests(key))
            .collect();
        Self { again, inside, deadline, exe, env }
    }

    /// The command that runs this binary again as `step`.
    pub(super) fn command(&self, step: &str, stage: &Stage) -> Command {
        let mut command = Command::new(&self.exe);
        command.args(&self.again.args).envs(self.env.iter().cloned());
        let temporary = self.scratch(stage).join(mounts::TEMPORARY);
        command.env("PATH", needs::search_path()).env("TMPDIR", temporary);
        command.env(STEP, step).env(STAGE, &stage.dir);
        command
    }

    /// Where [`super::Place::scratch`] is.
    pub(super) fn scratch(&self, stage: &Stage) -> PathBuf {
        match self.inside {
            // What services of the machine see as well.
            Kind::Systemd => stage.dir.join("scratch"),
            _ => mounts::SCRATCH.into(),
        }
    }

    /// The end of a guest's kernel command line: what becomes environment and arguments of its
    /// first process.
    pub(super) fn guest_command_line(&self, stage: &Stage) -> Vec<String> {
        let mut words = vec![
            format!("init={}", self.exe.display()),
            format!("{STEP}=guest"),
            format!("{STAGE}={}", stage.dir.display()),
            "--".to_owned(),
        ];
        words.extend(self.again.args.iter().cloned());
        words
    }
}

/// The directory that the processes of one test share.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) dir: PathBuf,
}

impl Stage {
    /// The name of the directory, which is the name of the place's cgroup too.
    pub(super) fn name(&self) -> String {
        self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The slice for the units of its test; its name must hold no dash, which would be a level.
    pub(super) fn slice(&self) -> String {
        format!("{}.slice", self.name().replace('-', "_"))
    }

    pub(super) fn give(&self, order: &Order) -> Result<()> {
        let text = serde_json::to_vec(order).context("write the order of the stage")?;
        write(&self.dir.join("order.json"), &text)
    }

    pub(super) fn order(&self) -> Result<Order> {
        let path = self.dir.join("order.json");
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// Says that the test ran to its end and passed. An exit code alone would not do: libtest
    /// answers 0 when no test has the name that it was asked for.
    pub(super) fn record_pass(&self) -> Result<()> {
        write(&self.dir.join("passed"), b"")
    }

    pub(super) fn has_passed(&self) -> bool {
        self.dir.join("passed").exists()
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}
