//! How errors are told: on standard error, and in the log that an engine reads. And what happens
//! beside them: warnings, and with `--debug` what is done, in that log or, without one, on
//! standard error.

use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use berth_runtime::StartFault;

use crate::args::{Global, LogFormat};

/// Where lines of the log go.
#[derive(Clone, Debug)]
struct Log {
    file: Option<PathBuf>,
    format: LogFormat,
    debug: bool,
}

impl Log {
    fn of(global: &Global) -> Self {
        Self { file: global.log.clone(), format: global.log_format, debug: global.debug }
    }

    fn line(&self, level: &str, text: &str) -> String {
        let time = berth_runtime::oci::timestamp();
        match self.format {
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={text:?}\n"),
            LogFormat::Json => {
                format!("{}\n", serde_json::json!({"level": level, "msg": text, "time": time}))
            }
        }
    }

    /// A log that cannot be written is no reason to fail.
    fn write(&self, level: &str, text: &str) {
        let line = self.line(level, text);
        let _ = match &self.file {
            Some(path) => {
                let file = File::options().create(true).append(true).open(path);
                file.and_then(|mut file| file.write_all(line.as_bytes()))
            }
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// Starts to tell what happens.
pub(crate) fn begin(global: &Global) {
    // There is no other subscriber: this program sets one, once.
    let _ = tracing::subscriber::set_global_default(Log::of(global));
}

/// Tells an error with all its causes.
pub(crate) fn failed(global: &Global, error: &anyhow::Error) {
    let text = format!("{error:#}");
    // What keeps a program from running is about that program: as a shell would say it.
    let fault = error.downcast_ref().and_then(berth_runtime::Error::start_fault);
    let _ = match fault {
        Some(StartFault::CommandNotFound | StartFault::CommandNotExecutable) => {
            writeln!(std::io::stderr(), "{text}")
        }
        _ => writeln!(std::io::stderr(), "berth-oci: error: {text}"),
    };
    // Standard error has been told.
    if global.log.is_some() {
        Log::of(global).write("error", &text);
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let least = if self.debug { Level::DEBUG } else { Level::WARN };
        metadata.is_event() && *metadata.level() <= least
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        self.write(level, &format!("{}{}", text.message, text.fields));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The words of an event, then its fields.
#[derive(Debug, Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // To write to a text does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(directory: &std::path::Path, debug: bool) -> (Log, PathBuf) {
        let file = directory.join("log");
        (Log { file: Some(file.clone()), format: LogFormat::Json, debug }, file)
    }

    #[test]
    fn warnings_are_told_and_details_if_asked() {
        for (debug, lines) in [(false, 1), (true, 2)] {
            let directory = tempfile::tempdir().unwrap();
            let (log, file) = log(directory.path(), debug);
            tracing::subscriber::with_default(log, || {
                tracing::warn!(id = 7, "careful");
                tracing::debug!("by the way");
            });
            let text = std::fs::read_to_string(file).unwrap();
            assert_eq!(text.lines().count(), lines, "{text}");
            let first: serde_json::Value =
                serde_json::from_str(text.lines().next().unwrap()).unwrap();
            assert_eq!(
                (&first["level"], &first["msg"]),
                (&"warning".into(), &"careful id=7".into())
            );
        }
    }
}
