//! Points in time: nanoseconds since the Unix epoch on the wire, RFC 3339 in text.
//!
//! The calendar is the proleptic Gregorian one in UTC; leap seconds do not exist, as in the
//! kernel's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::units::duration;

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// The time now, in nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// `2026-11-21T08:00:00.000000001Z`, or nothing for zero, which means "not yet" on the wire.
pub(crate) fn rfc3339(nanos: i64) -> Option<String> {
    if nanos == 0 {
        return None;
    }
    let (second, nanos) = (nanos.div_euclid(NANOS), nanos.rem_euclid(NANOS));
    let (year, month, day) = date(second.div_euclid(DAY));
    let of_day = second.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z"))
}

/// How long ago a point in time is, as in `3 minutes`. What lies ahead of our clock happens now.
pub(crate) fn since(nanos: i64, now: i64) -> String {
    let since = u64::try_from(now.saturating_sub(nanos)).unwrap_or(0);
    duration::tell(Duration::from_nanos(since))
}

/// `3 minutes ago`, or `-` for zero.
pub(crate) fn ago(nanos: i64, now: i64) -> String {
    if nanos == 0 { "-".to_owned() } else { format!("{} ago", since(nanos, now)) }
}

/// Parses a length of time before `now`, or a point in time as RFC 3339 has it.
pub(crate) fn parse_since(text: &str, now: i64) -> Result<i64, String> {
    if let Ok(length) = duration::parse(text) {
        let length = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
        return Ok(now.saturating_sub(length));
    }
    parse(text).ok_or_else(|| {
        format!("{text:?} is neither a length of time (10m) nor a time (2026-11-21T08:00:00Z)")
    })
}

fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let days = days(year, month, day)?;
    // A leap second counts as the one after it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days * DAY + hour * 3600 + minute * 60 + second - offset(zone)?;
    seconds.checked_mul(NANOS)?.checked_add(nanos(fraction)?)
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers(&zone[1..], ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn nanos(fraction: &str) -> Option<i64> {
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit()) && !fraction.is_empty();
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    digits.then(|| nine.parse().ok()).flatten()
}

/// Numbers of fixed widths with a separator between them.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (number, width) in found.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        *number = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(found)
}

/// Year, month and day of a day counted from the epoch, by the method of counting years from
/// 1 March, so that the leap day comes last.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// The day counted from the epoch, if there is such a day: the reverse of [`date`].
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * m + 2) / 5 + day - 1;
    let count = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (date(count) == (year, month, day)).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_back() {
        for (nanos, text) in [
            (1, "1970-01-01T00:00:00.000000001Z"),
            (1_709_164_799 * NANOS, "2024-02-28T23:59:59.000000000Z"),
            (1_709_164_800 * NANOS + 123, "2024-02-29T00:00:00.000000123Z"),
            (-NANOS, "1969-12-31T23:59:59.000000000Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
        ] {
            assert_eq!(rfc3339(nanos).as_deref(), Some(text));
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
        assert_eq!(rfc3339(0), None);
    }

    #[test]
    fn zones_and_fractions_are_understood() {
        for text in [
            "2024-02-29T00:00:00Z",
            "2024-02-29 00:00:00.000z",
            "2024-02-29T02:30:00+02:30",
            "2024-02-28T19:00:00.0-05:00",
        ] {
            assert_eq!(parse(text), Some(1_709_164_800 * NANOS), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-02-29T24:00:00Z",
            "2024-02-29T00:00:00",
            "2024-02-29",
            "2024-02-29T00:00:00.Z",
            "2024-02-29T00:00:00+2:00",
            "2024-02-29T00:00:00Z and more",
            "+024-02-29T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn since_counts_back_from_now_or_names_a_time() {
        assert_eq!(parse_since("10m", 1_000 * NANOS), Ok(400 * NANOS));
        assert_eq!(parse_since("1970-01-01T00:00:07Z", 0), Ok(7 * NANOS));
        assert!(parse_since("soon", 0).unwrap_err().contains("soon"));
    }

    #[test]
    fn ages_are_told() {
        assert_eq!(ago(NANOS, 181 * NANOS), "3 minutes ago");
        assert_eq!(ago(0, NANOS), "-");
        assert_eq!(ago(5 * NANOS, NANOS), "0 seconds ago");
    }
}
