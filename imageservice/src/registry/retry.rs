//! Asking again: whom, how often, and after which pause.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::failure::Failure;
use super::hosts::Capability;
use crate::error::{Error, Result};

/// Attempts at an endpoint that has no replacement.
const ATTEMPTS: u32 = 5;
/// How many attempts one counts for that took long: three of these are enough.
const STALL: u32 = 2;
/// How long an attempt may take without being a stall.
const SLOW: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A registry that wants a longer pause is unavailable for now.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Which endpoint to ask now. A mirror gets one attempt, and none in the rest of the pull if it is
/// out of order; the last endpoint is the registry itself and gets several.
#[derive(Debug)]
pub(super) struct Attempts {
    need: Capability,
    current: usize,
    attempt: u32,
    /// When the attempt under way began.
    since: Instant,
}

impl Attempts {
    /// Begins with the first endpoint that can do what is needed; `None` if there is none.
    pub(super) fn begin(endpoints: &[Endpoint], need: Capability) -> Option<Self> {
        let current = usable(endpoints, need, 0)?;
        Some(Self { need, current, attempt: 1, since: Instant::now() })
    }

    /// Begins with an endpoint that has just served.
    pub(super) fn begin_at(endpoint: usize, need: Capability) -> Self {
        Self { need, current: endpoint, attempt: 1, since: Instant::now() }
    }

    /// The endpoint to ask, by its place among all.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// What was asked for comes: the next failure is the first one.
    pub(super) fn reset(&mut self) {
        (self.attempt, self.since) = (1, Instant::now());
    }

    /// The attempt failed: goes to the next endpoint, or waits until the same may be asked again.
    ///
    /// # Errors
    /// The failure itself, if nothing is left to try. With the registry itself that is its answer,
    /// and not that of a mirror before it.
    pub(super) async fn failed(&mut self, endpoints: &[Endpoint], failure: Failure) -> Result<()> {
        let endpoint = &endpoints[self.current];
        if self.current + 1 < endpoints.len() {
            let error = failure.error;
            tracing::debug!(host = endpoint.host(), %error, "mirror failed, trying the next");
            endpoint.failed(&error);
            self.current = usable(endpoints, self.need, self.current + 1).ok_or(error)?;
            self.reset();
            return Ok(());
        }
        let random = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or_default();
        let jitter = f64::from(random) / f64::from(u32::MAX);
        let Some(pause) = pause(self.attempt, &failure, jitter) else { return Err(failure.error) };
        let error = &failure.error;
        tracing::debug!(host = endpoint.host(), %error, ?pause, "registry failed, asking again");
        self.attempt += if is_stall(error) || self.since.elapsed() > SLOW { STALL } else { 1 };
        // Time is the only thing to wait for here: a busy registry sends no event.
        tokio::time::sleep(pause).await;
        self.since = Instant::now();
        Ok(())
    }
}

/// The last endpoint is asked in any case; one before it unless it is known to be out of order.
fn usable(endpoints: &[Endpoint], need: Capability, from: usize) -> Option<usize> {
    let is_usable = |index: &usize| {
        let (endpoint, is_last) = (&endpoints[*index], *index + 1 == endpoints.len());
        endpoint.can(need) && (is_last || endpoint.may_be_asked())
    };
    let all = || from..endpoints.len();
    // Better one that was out of order a while ago than none.
    all().find(is_usable).or_else(|| all().find(|index| endpoints[*index].can(need)))
}

fn is_stall(error: &Error) -> bool {
    matches!(error, Error::Timeout { .. })
}

/// How long to wait after failure number `attempt`; `None` to give up. `jitter` of 0 to 1 spreads
/// many nodes that failed together.
fn pause(attempt: u32, failure: &Failure, jitter: f64) -> Option<Duration> {
    if attempt >= ATTEMPTS || !failure.error.is_transient() {
        return None;
    }
    match failure.retry_after {
        Some(wanted) if wanted > LONGEST_RETRY_AFTER => None,
        Some(wanted) => Some(wanted + FIRST_PAUSE.mul_f64(jitter)),
        None if is_stall(&failure.error) => Some(Duration::ZERO),
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
    fn three_stalls_are_enough() {
        let after = Duration::from_secs(60);
        let error = Error::Timeout { what: "x".into(), after, reason: "stalled" };
        let stall = Failure::from(error);
        let asked_again = (1..).step_by(2).take_while(|n| pause(*n, &stall, 1.0).is_some());
        assert_eq!(asked_again.count(), 2);
    }

    #[test]
    fn what_will_not_change_is_not_asked_again() {
        let error = Error::NotInRegistry { what: "x".into(), registry: "r".into() };
        assert_eq!(pause(1, &error.into(), 0.0), None);
    }
}
