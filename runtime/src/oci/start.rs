//! `start`: opens the gate of a created container.

use std::fs;
use std::os::fd::AsFd as _;

use rustix::process::{Signal, pidfd_send_signal};

use crate::error::{Error, Storing as _};
use crate::newborn::{self, MAX_REPORT, Report};
use crate::protocol::Step;
use crate::socket;

use super::Runtime;
use super::attend;
use super::record::{GATE, Record, Status};

impl Runtime {
    /// Starts a created container and returns when its program runs.
    ///
    /// # Errors
    /// [`Error::WrongState`] unless it is created; [`Error::Start`] with what kept the program
    /// from running, after which the container is stopped.
    pub fn start(&self, id: &str) -> Result<(), Error> {
        let _hold = self.hold(id)?;
        let record = self.load(id)?;
        let status = self.status(&record)?;
        if status != Status::Created {
            let (id, state) = (id.to_owned(), status.name());
            return Err(Error::WrongState { id, state, verb: "start it" });
        }
        let directory = self.directory(id);
        let child =
            socket::connect_in(&directory, GATE).storing("reach the process of", &directory)?;
        let gate = directory.join(GATE);
        fs::remove_file(&gate).storing("remove", &gate)?;
        let mut buffer = vec![0; MAX_REPORT];
        let mut executing = false;
        loop {
            let report = Report::receive(child.as_fd(), &mut buffer);
            match report.storing("hear from the process of", &directory)? {
                Report::Executing => executing = true,
                Report::Failed(failure) => return Err(Error::Start(failure)),
                Report::Closed if executing => return self.started(&record),
                Report::Closed => {
                    let error = std::io::Error::other("it was killed before its program ran");
                    return Err(Error::Start(newborn::failure(Step::Command, "start", &error)));
                }
                Report::Reborn(..)
                | Report::Terminal(_)
                | Report::Namespaces
                | Report::Ready
                | Report::Adopted(..) => {}
            }
        }
    }

    /// Runs the hooks of a program that runs; without them it may not go on.
    fn started(&self, record: &Record) -> Result<(), Error> {
        let Some(life) = record.process else { return Ok(()) };
        attend::started(record, life.pid).inspect_err(|_| {
            // It may have ended already. What goes wrong here is found at `delete` again.
            if let Ok(Some(pidfd)) = life.open() {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        })
    }
}
