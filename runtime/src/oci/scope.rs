//! A container's scope, where systemd manages cgroups: see [`crate::cgroup::systemd`].
//!
//! A scope begins with a process that systemd moves in. That is not the container's, which is
//! cloned where it belongs, but a helper: this program once more. It also does the talking, so
//! that the process that clones stays without threads.
//!
//! ```text
//! create                                  berth-oci, as a helper
//!   │ Request, one line ──────────────────►│ StartTransientUnit with its own PID
//!   │◄──────────── one line, empty or why not
//!   │ clones into the scope's cgroup        │
//!   │ closes ─────────────────────────────►│ ends
//! ```

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use crate::cgroup::limits;
use crate::cgroup::systemd::{Property, Systemd, Unit, of_limits};
use crate::error::{Error, Storing as _};
use crate::spec;

use super::record::Record;

/// The one argument of the helper.
pub const HELPER: &str = "--hold-scope";

/// What the helper is told.
#[derive(Debug, Deserialize, Serialize)]
struct Request {
    unit: Unit,
    description: String,
    resources: LinuxResources,
}

/// A helper that holds a scope. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    helper: Child,
    input: Option<ChildStdin>,
}

impl Claim {
    /// Has the scope of a container made, if it has one.
    ///
    /// # Errors
    /// What systemd answers.
    pub(super) fn of(record: &Record) -> Result<Option<Self>, Error> {
        let Some(unit) = record.unit.clone() else { return Ok(None) };
        let resources = spec::all_resources(&record.spec);
        // Refuses what makes no sense while there is nothing to undo.
        properties(&resources)?;
        let description = format!("container {}", record.id);
        let request = Request { unit, description, resources };
        let claimed = Self::start(&request).storing("start", "the helper that holds a scope")?;
        let (claim, answer) = claimed;
        match answer.trim_end() {
            "" => Ok(Some(claim)),
            cause => Err(Error::Systemd {
                attempt: "start",
                unit: request.unit.name,
                cause: cause.to_owned(),
            }),
        }
    }

    fn start(request: &Request) -> io::Result<(Self, String)> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(HELPER).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut helper = command.spawn()?;
        let input = helper.stdin.take();
        let mut claim = Self { helper, input };
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        claim.input.as_mut().map_or(Ok(()), |input| input.write_all(&line))?;
        let mut answer = String::new();
        if let Some(output) = claim.helper.stdout.take() {
            BufReader::new(output).read_line(&mut answer)?;
        }
        if answer.is_empty() {
            return Err(io::Error::other("it has ended without an answer"));
        }
        Ok((claim, answer))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends with its input. When it has, it is in no cgroup any more.
        let _ = self.helper.wait();
    }
}

/// What the helper does: makes the scope with itself in it, tells so, and waits until it is let
/// go.
///
/// # Errors
/// If nobody tells it anything.
pub fn hold_scope() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line)?;
    let Request { unit, description, resources } = serde_json::from_str(&line)?;
    let started = properties(&resources).and_then(|properties| {
        let systemd = Systemd::new(None);
        let pid = std::process::id();
        zbus::block_on(systemd.start_scope(&unit, &description, pid, &properties))
    });
    let answer = match started {
        Ok(()) => String::new(),
        Err(Error::Systemd { cause, .. }) => cause,
        Err(error) => error.to_string(),
    };
    let mut output = io::stdout().lock();
    writeln!(output, "{}", answer.replace('\n', " "))?;
    output.flush()?;
    io::copy(&mut input, &mut io::sink()).map(drop)
}

/// Tells systemd all limits of a container: those that it does not know of it sets back to what
/// it knows, at a `daemon-reload` or with any change of a unit.
///
/// # Errors
/// What systemd answers.
pub(super) fn tell(record: &Record, resources: &LinuxResources) -> Result<(), Error> {
    let Some(unit) = &record.unit else { return Ok(()) };
    zbus::block_on(Systemd::new(None).set(unit, &properties(resources)?))
}

/// Has systemd forget the scope of a container; one that is gone is fine, and the rule.
///
/// # Errors
/// What systemd answers.
pub(super) fn release(record: &Record) -> Result<(), Error> {
    let Some(unit) = &record.unit else { return Ok(()) };
    zbus::block_on(Systemd::new(None).stop(unit))
}

fn properties(resources: &LinuxResources) -> Result<Vec<Property>, Error> {
    of_limits(&limits::plan(resources)?)
}
