//! Asking a person, who may not want to be watched.

use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::Context;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::exit::Failure;
use crate::output::Stream;

/// Asks for a line.
pub(super) fn line(question: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        let message = "nobody is there to ask: use --username and --password-stdin";
        return Err(Failure::usage(message).into());
    }
    Stream::Stderr.write(question.as_bytes())?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("read the answer")?;
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks for something that does not show while it is typed.
pub(super) fn secret(question: &str) -> anyhow::Result<String> {
    let silence = Silence::begin();
    let answer = line(question);
    drop(silence);
    if answer.is_ok() {
        Stream::Stderr.write(b"\n")?;
    }
    answer
}

/// A terminal that does not echo, until this is dropped.
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> Self {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            // What cannot be silenced is typed in the open, as with any other program.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &silent);
        }
        Self(before)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}
