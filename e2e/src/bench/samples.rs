//! Measured values and what is said about them.

/// Values of one quantity, in any unit.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    values: Vec<f64>,
}

impl Samples {
    /// Adds a value.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value below which half of them lie; 0 if there are none.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value below which nine tenths of them lie.
    pub fn p90(&self) -> f64 {
        self.quantile(0.9)
    }

    /// Interpolates between the two values next to the rank.
    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
        let target = part * last as f64;
        let below = (0..last).rev().find(|rank| *rank as f64 <= target).unwrap_or(0);
        let above = sorted[(below + 1).min(last)];
        sorted[below] + (above - sorted[below]) * (target - below as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples { values: values.to_vec() }
    }

    #[test]
    fn quantiles_lie_between_the_values_next_to_their_rank() {
        let odd = samples(&[3.0, 1.0, 2.0]);
        assert_eq!((odd.median(), odd.p90()), (2.0, 2.8));
        let even = samples(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(even.median(), 2.5);
        assert_eq!(samples(&[7.0]).p90(), 7.0);
        assert_eq!(samples(&[]).median(), 0.0);
    }
}
