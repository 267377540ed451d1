//! Lengths of time.

use std::time::Duration;

use super::{scaled, split_unit};

const UNITS: [(&str, u64); 5] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Parses `90s`, `10m`, `1h30m`, `1.5h`, `2d`, `500ms`; a plain number is seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let parsed = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        scaled(text, 1_000_000_000)
    } else {
        sum(text)
    };
    parsed
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("{text:?} is no length of time: write 90s, 10m or 1h30m"))
}

fn sum(mut text: &str) -> Option<u64> {
    let mut total = 0u64;
    while !text.is_empty() {
        let (number, rest) = split_unit(text);
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *scale)?)?;
        text = rest;
    }
    Some(total)
}

/// Writes a short length exactly enough to compare: `850 ms`, `2.3 s`, `4 min`, `3 h`.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_millis() as f64 / 1000.0),
        60..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// Writes a length the way people tell it: `3 minutes`, `1 hour`, `2 days`.
pub(crate) fn tell(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        86_400..1_209_600 => (seconds / 86_400, "day"),
        1_209_600..5_184_000 => (seconds / 604_800, "week"),
        5_184_000..63_072_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_parsed() {
        for (text, millis) in [
            ("0", 0),
            ("90", 90_000),
            ("90s", 90_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            ("1m0.5s", 60_500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for text in ["", "s", "1x", "-5s", "1 s", "5s3", "1h-3m", "99999999999999d"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lengths_are_shown_and_told() {
        for (millis, shown, told) in [
            (850, "850 ms", "0 seconds"),
            (1_000, "1.0 s", "1 second"),
            (61_000, "1 min", "1 minute"),
            (180_000, "3 min", "3 minutes"),
            (7_200_000, "2 h", "2 hours"),
            (86_400_000, "24 h", "1 day"),
            (1_300_000_000, "361 h", "2 weeks"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!((show(duration).as_str(), tell(duration).as_str()), (shown, told));
        }
    }
}
