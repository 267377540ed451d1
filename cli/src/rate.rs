//! How fast something goes on, and how long it will take.

use std::collections::VecDeque;
use std::time::Duration;

/// What is longer ago says nothing of how fast it goes now.
const WINDOW: Duration = Duration::from_secs(5);

/// The last few seconds of a count that grows.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    seen: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Takes in what the count is after so much time.
    pub(crate) fn see(&mut self, at: Duration, count: u64) {
        let is_old = |(seen, _): &(Duration, u64)| at.saturating_sub(*seen) > WINDOW;
        // The last one before the window is where it begins.
        while self.seen.get(1).is_some_and(is_old) {
            self.seen.pop_front();
        }
        // An attempt that began anew counts from there.
        if self.seen.back().is_some_and(|(_, before)| *before > count) {
            self.seen.clear();
        }
        self.seen.push_back((at, count));
    }

    /// Counts per second, if that can be told yet.
    pub(crate) fn per_second(&self) -> Option<u64> {
        let (first, last) = (self.seen.front()?, self.seen.back()?);
        per_second(last.1 - first.1, last.0.saturating_sub(first.0))
    }
}

/// Counts per second, if there was any time for it.
pub(crate) fn per_second(count: u64, time: Duration) -> Option<u64> {
    let nanos = time.as_nanos();
    let scaled = u128::from(count) * 1_000_000_000;
    (nanos > 0).then(|| u64::try_from(scaled / nanos).unwrap_or(u64::MAX))
}

/// How long `left` takes at this rate; never is `None`.
pub(crate) fn eta(left: u64, per_second: Option<u64>) -> Option<Duration> {
    let rate = per_second.filter(|rate| *rate > 0)?;
    Some(Duration::from_secs(left.div_ceil(rate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), None);
        rate.see(seconds(0), 0);
        assert_eq!(rate.per_second(), None);
        rate.see(seconds(1), 1000);
        assert_eq!(rate.per_second(), Some(1000));
        for second in 2..60 {
            rate.see(seconds(second), 1000);
        }
        assert_eq!(rate.per_second(), Some(0), "it has stalled");
        rate.see(seconds(60), 500);
        rate.see(seconds(61), 600);
        assert_eq!(rate.per_second(), Some(100), "it began anew");
    }

    #[test]
    fn what_does_not_go_on_never_ends() {
        assert_eq!(eta(1000, Some(300)), Some(seconds(4)));
        assert_eq!(eta(0, Some(300)), Some(seconds(0)));
        assert_eq!(eta(1, Some(0)), None);
        assert_eq!(eta(1, None), None);
        assert_eq!(per_second(5, Duration::ZERO), None);
        assert_eq!(per_second(u64::MAX, Duration::from_nanos(1)), Some(u64::MAX));
    }
}
