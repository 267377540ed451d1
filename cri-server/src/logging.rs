//! The log of the daemon, on standard error.
//!
//! Libraries trace; here it is decided what of that is seen, and how it looks.

use std::backtrace::Backtrace;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::error::Error;

/// Wins over the level of the configuration; in `tracing`'s filter language.
const FILTER_VARIABLE: &str = "BERTH_LOG";

/// Chatty at levels at which berth is not.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,tower=warn";

/// Starts the log of this process, and sends panics to it.
///
/// # Errors
/// [`Error::SetUp`] when the environment holds no valid filter, or when a log
/// was started before.
pub fn init(log: &Log) -> Result<(), Error> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(log)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    }
    .map_err(Error::set_up("the log"))?;
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::force_capture();
        tracing::error!(%panic, %backtrace, "a bug in berthd");
    }));
    Ok(())
}

fn filter(log: &Log) -> Result<EnvFilter, Error> {
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let filter = if filter.is_empty() { format!("{},{QUIET}", log.level) } else { filter };
    EnvFilter::try_new(filter).map_err(Error::set_up("the log filter of BERTH_LOG"))
}
