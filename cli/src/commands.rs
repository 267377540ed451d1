//! The commands. One command, one file: its options, what it asks, how the answer is shown.

pub(crate) mod audit;
pub(crate) mod completion;
pub(crate) mod exec;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod ops;
pub(crate) mod pods;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod pulls;
pub(crate) mod push;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod tag;
pub(crate) mod version;

use std::process::ExitCode;

use crate::exit;
use crate::output::ReaderGone;

/// Does something to each of several things. One that fails is complained about, and does not
/// keep the others from being done.
async fn for_each(
    things: &[String],
    act: impl AsyncFn(&str) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for thing in things {
        match act(thing).await {
            Err(error) if error.is::<ReaderGone>() => return Err(error),
            Err(error) => code = exit::failed(&error),
            Ok(()) => {}
        }
    }
    Ok(code)
}
