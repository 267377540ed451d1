//! `pause` and `resume`.

use crate::error::Error;

use super::Runtime;
use super::record::Status;

impl Runtime {
    /// Freezes all processes of a container, and returns when they are.
    ///
    /// # Errors
    /// [`Error::WrongState`] unless it runs or is created.
    pub fn pause(&self, id: &str) -> Result<(), Error> {
        self.turn(id, &[Status::Running, Status::Created], "pause it", true)
    }

    /// Lets the processes of a frozen container go on.
    ///
    /// # Errors
    /// [`Error::WrongState`] unless it is paused.
    pub fn resume(&self, id: &str) -> Result<(), Error> {
        self.turn(id, &[Status::Paused], "resume it", false)
    }

    /// PIDs of all processes of a container, as this process sees them.
    ///
    /// # Errors
    /// [`Error::NotFound`], or what the kernel answers.
    pub fn processes(&self, id: &str) -> Result<Vec<i32>, Error> {
        self.hierarchy()?.processes(&self.load(id)?.cgroup)
    }

    fn turn(
        &self,
        id: &str,
        from: &[Status],
        verb: &'static str,
        freeze: bool,
    ) -> Result<(), Error> {
        let _hold = self.hold(id)?;
        let record = self.load(id)?;
        let status = self.status(&record)?;
        if !from.contains(&status) {
            return Err(Error::WrongState { id: id.to_owned(), state: status.name(), verb });
        }
        self.hierarchy()?.freeze(&record.cgroup, freeze)
    }
}
