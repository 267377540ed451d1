//! Quantities as people write and read them: sizes, processors, lengths of time.
//!
//! Parsing is exact: no number passes through a float on its way to berthd.

pub(crate) mod cpus;
pub(crate) mod duration;
pub(crate) mod size;

/// `text` times `scale`, rounded down: `"1.5"` with a scale of 10 is 15.
fn scaled(text: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let scale = u128::from(scale);
    let tens = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = number(whole)?.checked_mul(scale)?;
    let fraction = number(fraction)?.checked_mul(scale)? / tens;
    u64::try_from(whole.checked_add(fraction)?).ok()
}

/// Splits `"64m"` into `"64"` and `"m"`.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_scaled_exactly() {
        for (text, scale, expected) in [
            ("0", 7, Some(0)),
            ("12", 1024, Some(12_288)),
            ("1.5", 10, Some(15)),
            (".5", 100_000, Some(50_000)),
            ("2.", 3, Some(6)),
            ("0.1234567", 100_000, Some(12_345)),
            ("", 1, None),
            (".", 1, None),
            ("1.2.3", 1, None),
            ("-1", 1, None),
            ("1e3", 1, None),
            ("18446744073709551616", 1, None),
            ("99999999999999999999999999999999999999999", 1, None),
        ] {
            assert_eq!(scaled(text, scale), expected, "{text:?}");
        }
    }
}
