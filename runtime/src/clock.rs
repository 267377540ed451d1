//! The time of day, as numbers and as RFC 3339 writes it.

use std::io::Write as _;

/// The time, in seconds and nanoseconds since the epoch.
pub(crate) fn now() -> (i64, u32) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The time, in nanoseconds since the epoch.
pub(crate) fn nanoseconds() -> i64 {
    let (seconds, nanoseconds) = now();
    seconds * 1_000_000_000 + i64::from(nanoseconds)
}

/// The time as text, to the nanosecond, in UTC.
pub fn rfc3339() -> String {
    let mut clock = Clock::default();
    clock.set(now());
    let mut text = Vec::new();
    clock.stamp(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes times, and takes the costly part of it (the date) once a second.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    now: (i64, u32),
    second: Option<i64>,
    text: Vec<u8>,
}

impl Clock {
    /// Sets the time, in seconds and nanoseconds since the epoch; never back.
    pub(crate) fn set(&mut self, now: (i64, u32)) {
        self.now = self.now.max(now);
    }

    /// Appends the time, as RFC 3339 has it, to the nanosecond.
    pub(crate) fn stamp(&mut self, log: &mut Vec<u8>) {
        let (second, nanos) = self.now;
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            let (year, month, day) = date(second.div_euclid(86_400));
            let of_day = second.rem_euclid(86_400);
            let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
            // Writing to a vector does not fail.
            let _ = write!(
                self.text,
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
            );
        }
        log.extend_from_slice(&self.text);
        let _ = write!(log, ".{nanos:09}Z");
    }
}

/// Year, month and day of a day counted from the epoch (the proleptic Gregorian calendar, by
/// the method of counting from 1 March of the year 0).
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}
