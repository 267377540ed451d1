//! Shares of processors, as `--cpus` has them.

use super::scaled;

/// Length of a period of the kernel's bandwidth control, in microseconds: its default.
pub(crate) const PERIOD: i64 = 100_000;

/// The least quota that the kernel takes, in microseconds (`cpu.max`).
const QUOTA_MIN: i64 = 1_000;

/// Parses `0.5` or `2` into a quota: microseconds of processor time in each [`PERIOD`].
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let quota = scaled(text, PERIOD.unsigned_abs()).and_then(|quota| i64::try_from(quota).ok());
    quota
        .filter(|quota| *quota >= QUOTA_MIN)
        .ok_or_else(|| format!("{text:?} is no number of processors of at least 0.01"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_become_a_quota() {
        assert_eq!(parse("0.5"), Ok(50_000));
        assert_eq!(parse("2"), Ok(200_000));
        assert_eq!(parse("0.01"), Ok(1_000));
    }

    #[test]
    fn too_little_and_nonsense_is_refused() {
        for text in ["0", "0.001", "-1", "half", "", "99999999999999999999"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
