//! `kill`: a signal to a container.

use crate::error::{Error, Storing as _};
use crate::sys;

use super::Runtime;
use super::record::{Record, Status};

impl Runtime {
    /// Sends a signal to the first process of a container. `SIGKILL` ends all of its processes
    /// when they share a PID namespace with others: nobody else would.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it has ended.
    pub fn kill(&self, id: &str, signal: i32) -> Result<(), Error> {
        let record = self.load(id)?;
        let status = self.status(&record)?;
        let refused = || Error::WrongState {
            id: id.to_owned(),
            state: status.name(),
            verb: "signal it: container not running",
        };
        if status == Status::Stopped && signal == libc::SIGKILL && self.has_survivors(&record)? {
            return self.hierarchy()?.kill(&record.cgroup);
        }
        if !matches!(status, Status::Created | Status::Running | Status::Paused) {
            return Err(refused());
        }
        let process = record.process.ok_or_else(refused)?;
        let pidfd = process.open().storing("open the process of", id)?.ok_or_else(refused)?;
        sys::signal::send(std::os::fd::AsFd::as_fd(&pidfd), signal)
            .storing("signal the process of", id)?;
        if signal == libc::SIGKILL {
            self.hierarchy()?.kill(&record.cgroup)?;
        }
        Ok(())
    }

    /// Whether processes of a container have outlived its first one, which a PID namespace of
    /// its own does not let them.
    fn has_survivors(&self, record: &Record) -> Result<bool, Error> {
        Ok(!self.hierarchy()?.processes(&record.cgroup)?.is_empty())
    }

    /// Sends a signal to all processes of a container, whether its first one has ended or not.
    ///
    /// # Errors
    /// [`Error::NotFound`], or what the kernel answers.
    pub fn kill_all(&self, id: &str, signal: i32) -> Result<(), Error> {
        let record = self.load(id)?;
        let hierarchy = self.hierarchy()?;
        if signal == libc::SIGKILL {
            return hierarchy.kill(&record.cgroup);
        }
        for pid in hierarchy.processes(&record.cgroup)? {
            let Some(pid) = rustix::process::Pid::from_raw(pid) else { continue };
            let flags = rustix::process::PidfdFlags::empty();
            // One that has gone meanwhile needs no signal.
            if let Ok(pidfd) = rustix::process::pidfd_open(pid, flags) {
                let _ = sys::signal::send(std::os::fd::AsFd::as_fd(&pidfd), signal);
            }
        }
        Ok(())
    }
}

/// The number of a signal that is given as a number or as a name, with or without `SIG`. 0 is
/// none: it asks whether one could be sent.
///
/// # Errors
/// [`Error::Spec`] if there is no such signal.
pub fn signal_number(text: &str) -> Result<i32, Error> {
    let unknown = || Error::Spec(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return (0..=64).contains(&number).then_some(number).ok_or_else(unknown);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(34, rest).ok_or_else(unknown);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(64, rest).ok_or_else(unknown);
    }
    let found: Result<nix::sys::signal::Signal, _> = format!("SIG{name}").parse();
    found.map(|signal| signal as i32).map_err(|_| unknown())
}

fn real_time(base: i32, offset: &str) -> Option<i32> {
    let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    Some(base + offset).filter(|number| (34..=64).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        let table = [
            ("9", 9),
            ("0", 0),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("term", 15),
            ("HUP", 1),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("RTMIN", 34),
            ("64", 64),
        ];
        for (text, number) in table {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for bad in ["", "65", "-9", "SIG", "SIGNOPE", "RTMIN+31", "RTMIN-1", "KILL9"] {
            assert!(signal_number(bad).is_err(), "{bad}");
        }
    }
}
