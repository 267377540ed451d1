//! Writing for people and for programs.
//!
//! Results go to standard output, everything else to standard error. A reader that has left, as
//! in `| head`, ends a command quietly: it is [`ReaderGone`], and no failure.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use rustix::io::Errno;
use serde::Serialize;

/// How a result is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON value, for programs
    Json,
}

/// `-o`, for commands that can tell their result in two ways.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// How to tell the result
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

/// How a list is told.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Listing {
    /// Print nothing but whole ids
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) quiet: bool,

    /// Print whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,

    #[command(flatten)]
    pub(crate) output: Output,
}

impl Listing {
    /// Tells `views`: by the id of each, as a table, or as JSON.
    pub(crate) fn tell<V: Serialize, T: fmt::Display>(
        self,
        views: &[V],
        id: impl Fn(&V) -> &str,
        table: impl Fn(&[V], bool) -> T,
    ) -> anyhow::Result<ExitCode> {
        match self.output.format {
            _ if self.quiet => {
                print(views.iter().map(|view| format!("{}\n", id(view))).collect::<String>())?
            }
            Format::Table => print(table(views, self.no_trunc).to_string())?,
            Format::Json => print_json(&views)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Nobody reads what we write any more.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of the output has left")
    }
}

impl std::error::Error for ReaderGone {}

/// One of the two standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Results.
    Stdout,
    /// Progress, hints and complaints.
    Stderr,
}

impl Stream {
    /// Writes bytes as they are.
    pub(crate) fn write(self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = match self {
            Self::Stdout => write_all(&mut io::stdout().lock(), bytes),
            Self::Stderr => write_all(&mut io::stderr().lock(), bytes),
        };
        match written {
            Err(error) if reader_is_gone(&error) => Err(ReaderGone.into()),
            written => written.context("write the output"),
        }
    }

    /// Whether a person is at the other end.
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Columns and rows of the terminal; a usual one's if it does not say.
    pub(crate) fn terminal_size(self) -> (usize, usize) {
        let size = match self {
            Self::Stdout => rustix::termios::tcgetwinsize(io::stdout()),
            Self::Stderr => rustix::termios::tcgetwinsize(io::stderr()),
        };
        let size = size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
    }
}

/// A pipe says so by `EPIPE`, a terminal that was closed by `EIO`.
fn reader_is_gone(error: &io::Error) -> bool {
    let gone = [Errno::PIPE, Errno::IO].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| gone.contains(&code))
}

fn write_all(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

/// Prints a result.
pub(crate) fn print(text: impl AsRef<str>) -> anyhow::Result<()> {
    Stream::Stdout.write(text.as_ref().as_bytes())
}

/// Prints a result as one JSON value.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("write the result as JSON")?;
    text.push('\n');
    print(text)
}

/// Says something beside the result. That it cannot be said is not worth an error.
pub(crate) fn note(text: impl AsRef<str>) {
    let line = format!("{}\n", one_line(text.as_ref()));
    let _ = Stream::Stderr.write(line.as_bytes());
}

/// A text from elsewhere, fit for a terminal: its control characters neither break the line nor
/// command the terminal.
pub(crate) fn one_line(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.trim_end().chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_elsewhere_cannot_command_the_terminal() {
        assert_eq!(one_line("a\nb\tc\u{1b}[2J\n"), "a b c\u{fffd}[2J");
        assert_eq!(one_line("grüße"), "grüße");
    }
}
