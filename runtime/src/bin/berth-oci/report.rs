//! How errors are told: on standard error, and in the log that an engine reads.

use std::error::Error;
use std::fs::File;
use std::io::Write as _;

use crate::args::{Global, LogFormat};

/// Tells an error with all its causes.
pub(crate) fn failed(global: &Global, error: &anyhow::Error) {
    let text = chain(error.as_ref());
    let _ = writeln!(std::io::stderr(), "berth-oci: {text}");
    let Some(path) = &global.log else { return };
    let line = match global.log_format {
        LogFormat::Text => format!("level=error msg={text:?}\n"),
        LogFormat::Json => {
            let time = berth_runtime::oci::timestamp();
            format!("{}\n", serde_json::json!({"level": "error", "msg": text, "time": time}))
        }
    };
    // The log is for an engine; standard error has been told already.
    if let Ok(mut file) = File::options().create(true).append(true).open(path) {
        let _ = file.write_all(line.as_bytes());
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
