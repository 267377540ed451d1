//! Lengths of time as people write them: `90s`, `1m30s`, `500ms`.

use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses numbers with units, the larger unit first and each at most once.
/// `0s` is zero; a number without a unit is refused.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut millis = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (_, unit) = units.find(|(name, _)| *name == &rest[..letters])?;
        rest = &rest[letters..];
        millis = millis.checked_add(number.checked_mul(*unit)?)?;
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// Writes what [`parse`] reads. Parts below a millisecond are dropped.
pub(super) fn format(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, unit) in UNITS {
        if millis >= unit {
            text.push_str(&format!("{}{name}", millis / unit));
            millis %= unit;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["0s", "10s", "1m30s", "500ms", "2h", "1h500ms", "4m"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(parse("90s"), Some(Duration::from_secs(90)));
    }

    #[test]
    fn ambiguous_or_foreign_spellings_are_refused() {
        for text in
            ["", "10", "s", "-1s", "1.5s", "10 s", "30s1m", "1s1s", "1d", "99999999999999999999s"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
