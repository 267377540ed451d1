//! `run`: create, start and, unless detached, wait and delete.

use crate::error::{Error, Storing as _};

use super::Runtime;
use super::attend;
use super::create::{Create, Gate, load};
use super::foreground::{Foreground, block_signals};
use super::record::{Hold, Record};

/// What becomes of a container that is run when its process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is deleted.
    Nothing,
    /// It stays, stopped.
    Container,
    /// This process does not wait for it.
    Detached,
}

impl Runtime {
    /// Creates and starts a container; answers its exit code, or 0 if it is detached.
    ///
    /// # Errors
    /// As [`Runtime::create`] and [`Runtime::start`].
    pub fn run(&self, request: &Create, keep: Keep) -> Result<i32, Error> {
        let spec = load(&request.bundle)?;
        let terminal = spec.process().as_ref().and_then(|process| process.terminal());
        let stays = keep != Keep::Detached;
        if terminal == Some(true) && request.handover.console_socket.is_none() && !stays {
            let text = "process.terminal needs --console-socket when the runtime is detached";
            return Err(Error::Spec(text.to_owned()));
        }
        let signals = if stays { Some(block_signals()?) } else { None };
        let mut console = request.handover.console();
        let (hold, record, newborn) = self.make(request, spec, Gate::Open, &mut console)?;
        if let Err(error) = attend::started(&record, newborn.pid()) {
            drop((newborn, hold));
            // The first error is the one that matters.
            let _ = self.delete(&request.id, true);
            return Err(error);
        }
        let (Some(child), Some(signals)) = (newborn.keep(), signals) else {
            return Ok(0);
        };
        let process = Foreground { child, master: console.master, signals };
        self.stay(&hold, &record, process, keep)
    }

    /// Stays with the first process of a container to its end, while others may have the
    /// container; answers its exit code.
    pub(super) fn stay(
        &self,
        hold: &Hold,
        record: &Record,
        process: Foreground,
        keep: Keep,
    ) -> Result<i32, Error> {
        let directory = self.directory(&record.id);
        hold.pause().storing("release", &directory)?;
        let code = process.wait()?;
        if keep == Keep::Nothing && hold.resume().storing("hold", &directory)? {
            self.tear_down(record)?;
        }
        Ok(code)
    }
}
