//! The rate at which containers use CPU time, from one look to the next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Shortest time between two looks that a rate is computed from.
const APART: i64 = 100_000_000;

/// Earlier looks, by container.
#[derive(Clone, Debug, Default)]
pub struct CpuSamples(Arc<Mutex<HashMap<String, Sample>>>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: i64,
    used: u64,
    rate: Option<u64>,
}

impl CpuSamples {
    /// CPU nanoseconds per second since the look before; absent at the first.
    pub fn rate(&self, id: &str, at: i64, used: u64) -> Option<u64> {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = samples.get(id).copied();
        let next = match last {
            Some(last) if at - last.at < APART => return last.rate,
            Some(last) => {
                let span = u128::from((at - last.at).unsigned_abs());
                let rate = u128::from(used.saturating_sub(last.used)) * 1_000_000_000 / span;
                Sample { at, used, rate: u64::try_from(rate).ok() }
            }
            None => Sample { at, used, rate: None },
        };
        samples.insert(id.to_owned(), next);
        next.rate
    }

    /// Forgets a container.
    pub fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_what_was_used_since_the_look_before() {
        let samples = CpuSamples::default();
        let second = 1_000_000_000;
        assert_eq!(samples.rate("c", 0, 0), None);
        assert_eq!(samples.rate("c", 2 * second, 1_000_000_000), Some(500_000_000));
        // Too close to tell: what was true is told again.
        assert_eq!(samples.rate("c", 2 * second + 1, 2_000_000_000), Some(500_000_000));
        assert_eq!(samples.rate("c", 3 * second, 1_000_000_000), Some(0));
        samples.forget("c");
        assert_eq!(samples.rate("c", 4 * second, 5), None);
    }
}
