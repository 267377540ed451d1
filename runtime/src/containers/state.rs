//! Where a container is in its life.

use serde::{Deserialize, Serialize};

use crate::cgroup::{CgroupPath, oom};
use crate::error::Error;
use crate::protocol::Exit;

/// The state of a container, with what is known in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// All is there but its process.
    Created,
    /// Its process runs.
    Running {
        /// PID of the process, as the host sees it.
        pid: i32,
        /// When its program was executed, in nanoseconds since the epoch.
        started_at: i64,
    },
    /// Its process has ended, or could not be started.
    Exited(Exited),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Exit code; 128 plus the signal if a signal ended it, 255 if nobody knows.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// Whether the kernel killed it for want of memory.
    pub oom_killed: bool,
    /// Why it never ran, whose limit it was killed for, or why nothing is known.
    pub message: String,
    /// What it ended as.
    pub cause: Cause,
    /// PID that its process had, or 0.
    pub pid: i32,
    /// When its program was executed, in nanoseconds since the epoch; 0 if never.
    pub started_at: i64,
    /// When it ended, in nanoseconds since the epoch.
    pub finished_at: i64,
}

/// What a container ended as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its process ended.
    Ended,
    /// Its process could not be started.
    NotStarted,
    /// Its process ended while nobody looked.
    Unknown,
}

impl State {
    /// The state as one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Exited(_) => "exited",
        }
    }

    /// `next`, if a container in this state can get there.
    pub(super) fn to(&self, id: &str, next: State) -> Result<State, Error> {
        match (self, &next) {
            (Self::Created, Self::Running { .. } | Self::Exited(_))
            | (Self::Running { .. }, Self::Exited(_)) => Ok(next),
            _ => {
                Err(Error::WrongState { id: id.to_owned(), state: self.name(), verb: next.verb() })
            }
        }
    }

    fn verb(&self) -> &'static str {
        match self {
            Self::Created => "create it",
            Self::Running { .. } => "start it",
            Self::Exited(_) => "end it",
        }
    }
}

impl Exited {
    /// One word for it, as Kubernetes uses them.
    pub fn reason(&self) -> &'static str {
        match self {
            Self { cause: Cause::NotStarted, .. } => "StartError",
            Self { cause: Cause::Unknown, .. } => "Unknown",
            Self { oom_killed: true, .. } => "OOMKilled",
            Self { code: 0, .. } => "Completed",
            _ => "Error",
        }
    }

    /// Reads what the shim saw.
    ///
    /// The kernel counts its kills for the cgroup and all its life, so a count alone does not
    /// say that the first process was a victim: it must have died of `SIGKILL` as well. If that
    /// was ours, kills for memory `before` it were of other processes.
    pub(super) fn from_exit(exit: &Exit, before: u64, cgroup: &CgroupPath) -> Self {
        let oom_killed = exit.signal == libc::SIGKILL && exit.oom_kills > before;
        Self {
            code: exit.code,
            signal: exit.signal,
            oom_killed,
            message: if oom_killed { oom::tell(cgroup, exit.oom_level) } else { String::new() },
            cause: Cause::Ended,
            pid: exit.pid,
            started_at: exit.started_at,
            finished_at: exit.at,
        }
    }

    /// Nobody saw how it ended.
    pub(super) fn unknown(state: &State, now: i64) -> Self {
        let (pid, started_at) = match state {
            State::Running { pid, started_at } => (*pid, *started_at),
            _ => (0, 0),
        };
        Self {
            code: 255,
            signal: 0,
            oom_killed: false,
            message: "ended while nobody looked: its shim left no record".to_owned(),
            cause: Cause::Unknown,
            pid,
            started_at,
            finished_at: now,
        }
    }

    /// It could not be started.
    pub(super) fn not_started(code: i32, message: String, now: i64) -> Self {
        Self {
            code,
            signal: 0,
            oom_killed: false,
            message,
            cause: Cause::NotStarted,
            pid: 0,
            started_at: 0,
            finished_at: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32, signal: i32, oom_kills: u64) -> Exited {
        let exit = Exit { code, signal, oom_kills, oom_level: Some(0), ..Exit::default() };
        Exited::from_exit(&exit, 0, &cgroup())
    }

    fn cgroup() -> CgroupPath {
        CgroupPath::parse("/pod/app").unwrap()
    }

    #[test]
    fn reasons_are_those_of_kubernetes() {
        assert_eq!(exit(0, 0, 0).reason(), "Completed");
        assert_eq!(exit(3, 0, 0).reason(), "Error");
        assert_eq!(exit(137, libc::SIGKILL, 0).reason(), "Error");
        assert_eq!(exit(137, libc::SIGKILL, 1).reason(), "OOMKilled");
        let ours = Exit { code: 137, signal: libc::SIGKILL, oom_kills: 1, ..Exit::default() };
        assert_eq!(Exited::from_exit(&ours, 1, &cgroup()).reason(), "Error");
        assert_eq!(Exited::not_started(127, String::new(), 1).reason(), "StartError");
        assert_eq!(Exited::unknown(&State::Created, 1).reason(), "Unknown");
    }

    #[test]
    fn an_oom_kill_of_a_child_is_not_the_containers() {
        assert_eq!(exit(0, 0, 1).reason(), "Completed");
        assert_eq!(exit(143, libc::SIGTERM, 2).reason(), "Error");
        assert_eq!(exit(143, libc::SIGTERM, 2).message, "");
        assert!(exit(137, libc::SIGKILL, 2).message.contains("limit of the container"));
    }

    #[test]
    fn a_container_ends_once_and_never_comes_back() {
        let running = State::Running { pid: 1, started_at: 2 };
        let exited = State::Exited(exit(0, 0, 0));
        assert!(State::Created.to("c", running.clone()).is_ok());
        assert!(State::Created.to("c", exited.clone()).is_ok());
        assert!(running.to("c", exited.clone()).is_ok());
        for (from, to) in [(&exited, &running), (&exited, &exited), (&running, &running)] {
            let error = from.to("c", to.clone()).unwrap_err();
            assert!(matches!(error, Error::WrongState { .. }), "{from:?} to {to:?}");
        }
    }
}
