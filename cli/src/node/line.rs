//! The line to one socket: how long an answer may take, and what an error of it says.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tonic::{Code, Response, Status};

use super::Address;
use super::connect::innermost;
use crate::units::duration;

/// What berthd answers from memory takes milliseconds; past this it is stuck.
const QUESTION: Duration = Duration::from_secs(10);

/// How long the daemon may take to say that it has ended something at its limit.
const MARGIN: Duration = Duration::from_secs(5);

/// Waits for answers of one socket.
///
/// The waiting ends here and not in berthd: an operation there goes on without its client.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) address: Address,
    pub(super) timeout: Option<Duration>,
}

impl Line {
    /// Waits for an answer that takes no work.
    pub(super) async fn question<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Refused> {
        self.within(Some(self.timeout.unwrap_or(QUESTION)), answer).await
    }

    /// Waits for work to be done, as long as it takes: berthd has deadlines for it.
    pub(super) async fn action<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Refused> {
        self.within(self.timeout, answer).await
    }

    /// Waits for work that the daemon itself ends at the limit, and then says so.
    pub(super) async fn limited_there<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Refused> {
        self.within(self.timeout.map(|limit| limit + MARGIN), answer).await
    }

    /// Waits without any limit, because only a person or a container decides when it ends.
    pub(super) async fn patiently<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Refused> {
        self.within(None, answer).await
    }

    async fn within<T>(
        &self,
        limit: Option<Duration>,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Refused> {
        let answer = match limit {
            Some(limit) => tokio::time::timeout(limit, answer).await.map_err(|_| Refused {
                code: Code::DeadlineExceeded,
                message: format!("no answer on {} within {}", self.address, duration::show(limit)),
            })?,
            None => answer.await,
        };
        answer.map(Response::into_inner).map_err(|status| self.refused(&status))
    }

    /// What a person is told of an error.
    pub(super) fn refused(&self, status: &Status) -> Refused {
        // What came over the wire has no source; what was made up on this side of it has one.
        if let Some(source) = status.source() {
            let message =
                format!("the connection to {} broke: {}", self.address, innermost(source));
            return Refused { code: Code::Unavailable, message };
        }
        let message = match status.message() {
            "" => format!("{} (no reason given)", status.code().description().to_lowercase()),
            message => message.to_owned(),
        };
        Refused { code: status.code(), message }
    }
}

/// An answer that is an error, in the daemon's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What kind of error it is.
    pub(crate) code: Code,
    /// What the daemon says.
    pub(crate) message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Refused {}

impl Refused {
    /// Whether the object that was asked for is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    fn line(timeout: Option<Duration>) -> Line {
        Line { address: "/run/x.sock".parse().unwrap(), timeout }
    }

    #[test]
    fn the_server_speaks_for_itself() {
        let status = Status::not_found("container c1 not found");
        let refused = line(None).refused(&status);
        assert_eq!(refused.to_string(), "container c1 not found");
        assert!(refused.is_not_found());

        let silent = line(None).refused(&Status::new(Code::Aborted, ""));
        assert_eq!(silent.to_string(), "the operation was aborted (no reason given)");
    }

    #[test]
    fn a_broken_connection_is_called_one() {
        let mut status = Status::unknown("transport error");
        status.set_source(Arc::new(io::Error::from(io::ErrorKind::BrokenPipe)));

        let refused = line(None).refused(&status);

        assert_eq!(refused.code, Code::Unavailable);
        let expected = "the connection to unix:///run/x.sock broke: broken pipe";
        assert_eq!(refused.to_string(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn questions_have_a_limit_and_actions_only_one_that_is_asked_for() {
        let never = || std::future::pending::<Result<Response<()>, Status>>();
        let hour = Duration::from_secs(3600);

        let refused = line(None).question(never()).await.unwrap_err();
        assert_eq!(refused.to_string(), "no answer on unix:///run/x.sock within 10.0 s");
        let refused = line(Some(hour)).action(never()).await.unwrap_err();
        assert_eq!(refused.code, Code::DeadlineExceeded);
        let patient = line(Some(hour));
        assert!(tokio::time::timeout(hour * 2, patient.patiently(never())).await.is_err());
    }
}
