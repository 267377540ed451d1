//! `delete`: the one teardown, for what has ended, what is killed for it, and what never came to be.

use rustix::event::Timespec;
use rustix::process::{Signal, pidfd_send_signal};

use crate::error::{Error, Storing as _};

use super::attend;
use super::life::wait_for;
use super::record::{Record, Status};
use super::{Runtime, scope};

/// How long a killed process may take to go.
const DEATH: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

impl Runtime {
    /// Deletes a container that has ended or was never started; any container with `force`,
    /// which is content with one that does not exist.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it runs, [`Error::NotFound`].
    pub fn delete(&self, id: &str, force: bool) -> Result<(), Error> {
        let hold = self.hold(id);
        if force && matches!(hold, Err(Error::NotFound(_))) {
            return Ok(());
        }
        let _hold = hold?;
        let record = match self.load(id) {
            // Its directory was made and nothing else: a `create` that was killed at once.
            Err(Error::NotFound(_)) if self.directory(id).exists() => return self.forget(id),
            Err(Error::NotFound(_)) if force => return Ok(()),
            loaded => loaded?,
        };
        let status = self.status(&record)?;
        if !force && matches!(status, Status::Running | Status::Paused) {
            let (id, state) = (id.to_owned(), status.name());
            return Err(Error::WrongState { id, state, verb: "delete it" });
        }
        self.tear_down(&record)
    }

    /// Ends what is left of a container and removes it. May be called at any time, any number
    /// of times.
    pub(super) fn tear_down(&self, record: &Record) -> Result<(), Error> {
        let hierarchy = self.hierarchy()?;
        if let Some(life) = record.process
            && let Some(pidfd) = life.open().storing("open the process of", &record.id)?
        {
            // By its cgroup below, too; but the cgroup may have been somebody else's already.
            pidfd_send_signal(&pidfd, Signal::KILL).storing("kill the process of", &record.id)?;
            hierarchy.kill(&record.cgroup)?;
            let gone = wait_for(std::os::fd::AsFd::as_fd(&pidfd), Some(DEATH));
            if !gone.storing("wait for the process of", &record.id)? {
                let attempt = format!("kill container {}", record.id);
                let after = std::time::Duration::from_secs(10);
                return Err(Error::Deadline { attempt, after });
            }
        }
        hierarchy.remove_blocking(&record.cgroup)?;
        scope::release(record)?;
        attend::gone(record)?;
        self.forget(&record.id)
    }
}
