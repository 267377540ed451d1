//! Exit codes, and the one line that says why.
//!
//! 0 done, 1 failed, 2 wrong usage. `run` and `exec` pass the command's own code; in `run` 125
//! means that it failed before the command could start, 126 that the command cannot be executed,
//! 127 that there is no such command.

use std::fmt;
use std::process::ExitCode;

use crate::node::Refused;
use crate::output::{ReaderGone, note};

/// `run` failed for a reason that is not the command's.
pub(crate) const RUN_FAILED: u8 = 125;
/// The command is there and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
const NO_COMMAND: u8 = 127;
const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// An error with an exit code of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Arguments that each make sense, but not together.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }

    /// A command could not be started. Unless that is the command's fault it fails like all else.
    pub(crate) fn start(refused: Refused) -> anyhow::Error {
        match code_of_start(&refused.message) {
            Some(code) => Self { code, message: refused.message }.into(),
            None => refused.into(),
        }
    }
}

/// The code that shells give for a command that could not be executed.
///
/// All that the CRI has for this is a message, so it is looked for the words that berthd
/// (`execute "/x": ...`), runc (`exec: "/x": ...`) and crun (``executable file `/x` ...``) use.
fn code_of_start(message: &str) -> Option<u8> {
    let marks = ["execute \"", "exec: \"", "executable file `"];
    let start = marks.iter().filter_map(|mark| message.find(mark)).min()?;
    let why = message[start..].to_lowercase();
    let missing = why.contains("not found") || why.contains("no such file or directory");
    Some(if missing { NO_COMMAND } else { NOT_EXECUTABLE })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Says what failed, and answers the exit code for it; `otherwise` if the error has none of its
/// own. A reader that has left has got what it wanted.
pub(crate) fn complain(error: &anyhow::Error, otherwise: u8) -> ExitCode {
    if error.is::<ReaderGone>() {
        return ExitCode::SUCCESS;
    }
    note(format!("berth: {error:#}"));
    ExitCode::from(error.downcast_ref().map_or(otherwise, |failure: &Failure| failure.code))
}

/// [`complain`] of commands without exit codes of their own.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    complain(error, FAILED)
}

/// The code that a process ended with, as an exit code of ours.
pub(crate) fn of_process(code: i32) -> ExitCode {
    // The kernel has no more than eight bits of it.
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_command_that_cannot_start_has_the_code_that_shells_give() {
        for (message, code) in [
            (r#"start c1: execute "/x": executable file not found in the container"#, Some(127)),
            (r#"start c1: execute "/etc": permission denied"#, Some(126)),
            (r#"runc: exec: "x": executable file not found in $PATH: unknown"#, Some(127)),
            (r#"runc: exec: "/x": stat /x: no such file or directory: unknown"#, Some(127)),
            (r#"runc: exec: "/x": exec format error: unknown"#, Some(126)),
            ("executable file `x` not found in $PATH: No such file or directory", Some(127)),
            ("namespace path: lstat /proc/81/ns/ipc: no such file or directory", None),
            ("container c1 is exited: cannot exec", None),
        ] {
            let error = Failure::start(Refused { code: Code::Unknown, message: message.into() });
            assert_eq!(error.downcast_ref::<Failure>().map(|failure| failure.code), code);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_code_survives_what_is_said_around_it() {
        let error = anyhow::Error::from(Failure::usage("no")).context("run x");
        assert_eq!(error.downcast_ref::<Failure>().unwrap().code, USAGE);
    }
}
