//! Asking again: how often, and after which pause.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::endpoint::Endpoint;
use super::failure::Failure;
use super::hosts::Capability;
use crate::error::{Error, Result};

/// Attempts at an endpoint that has no replacement.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A registry that wants a longer pause is unavailable for now.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Which endpoint to ask now. A mirror gets one attempt, and none in the rest of the pull if it is
/// out of order; the last endpoint is the registry itself and gets several.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    endpoints: &'a [Endpoint],
    need: Capability,
    current: usize,
    attempt: u32,
}

impl<'a> Attempts<'a> {
    /// Begins with the first endpoint that can do what is needed; `None` if there is none.
    pub(super) fn begin(endpoints: &'a [Endpoint], need: Capability) -> Option<Self> {
        let mut attempts = Self { endpoints, need, current: 0, attempt: 1 };
        attempts.current = attempts.usable(0)?;
        Some(attempts)
    }

    /// The endpoint to ask, and its place among all.
    pub(super) fn current(&self) -> (usize, &'a Endpoint) {
        (self.current, &self.endpoints[self.current])
    }

    /// The attempt failed: goes to the next endpoint, or waits until the same may be asked again.
    ///
    /// # Errors
    /// The failure itself, if nothing is left to try. With the registry itself that is its answer,
    /// and not that of a mirror before it.
    pub(super) async fn failed(&mut self, failure: Failure) -> Result<()> {
        let (index, endpoint) = self.current();
        if index + 1 < self.endpoints.len() {
            let error = failure.error;
            tracing::debug!(host = endpoint.host(), %error, "mirror failed, trying the next");
            if error.is_transient() {
                endpoint.give_up();
            }
            self.current = self.usable(index + 1).ok_or(error)?;
            return Ok(());
        }
        let random = u32::try_from(RandomState::new().hash_one(index) >> 32).unwrap_or_default();
        let jitter = f64::from(random) / f64::from(u32::MAX);
        match pause(self.attempt, &failure, jitter) {
            // Time is the only thing to wait for here: a busy registry sends no event.
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(failure.error),
        }
        self.attempt += 1;
        Ok(())
    }

    fn usable(&self, from: usize) -> Option<usize> {
        let can = |endpoint: &Endpoint| endpoint.can(self.need) && !endpoint.is_given_up();
        (from..self.endpoints.len()).find(|index| can(&self.endpoints[*index]))
    }
}

/// How long to wait after failure number `attempt`; `None` to give up. `jitter` of 0 to 1 spreads
/// many nodes that failed together.
fn pause(attempt: u32, failure: &Failure, jitter: f64) -> Option<Duration> {
    let is_transient = matches!(failure.error, Error::Unavailable { .. });
    if attempt >= ATTEMPTS || !is_transient {
        return None;
    }
    match failure.retry_after {
        Some(wanted) if wanted > LONGEST_RETRY_AFTER => None,
        Some(wanted) => Some(wanted + FIRST_PAUSE.mul_f64(jitter)),
        None => {
            let longest = LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.pow(attempt - 1));
            Some(longest.mul_f64(0.5 + jitter / 2.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(retry_after: Option<u64>) -> Failure {
        let error =
            Error::Unavailable { what: "x".into(), registry: "r".into(), reason: "503".into() };
        Failure { error, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn pauses_grow_and_end() {
        let pauses: Vec<_> = (1..=5).map(|n| pause(n, &failure(None), 1.0)).collect();
        let millis = |n| Some(Duration::from_millis(n));
        assert_eq!(pauses, [millis(250), millis(500), millis(1000), millis(2000), None]);
        assert_eq!(pause(1, &failure(None), 0.0), millis(125));
    }

    #[test]
    fn retry_after_is_heard_within_reason() {
        assert_eq!(pause(1, &failure(Some(3)), 0.0), Some(Duration::from_secs(3)));
        assert_eq!(pause(1, &failure(Some(0)), 0.0), Some(Duration::ZERO));
        assert_eq!(pause(1, &failure(Some(3600)), 0.0), None);
        assert_eq!(pause(1, &failure(Some(u64::MAX)), 0.0), None);
    }

    #[test]
    fn what_will_not_change_is_not_asked_again() {
        let error = Error::NotInRegistry { what: "x".into(), registry: "r".into() };
        assert_eq!(pause(1, &error.into(), 0.0), None);
    }
}
