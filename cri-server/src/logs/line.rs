//! Lines of the CRI log format: `TIME STREAM TAG TEXT`.

use crate::api::admin::LogLine;
use crate::api::admin::log_line::Stream;

/// Cuts what is read into lines.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The beginning of a line whose end was not read yet.
    carry: Vec<u8>,
}

impl Splitter {
    /// The lines that `bytes` complete. What is no line of the format is left out: a log may
    /// have been torn by a full disk.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<LogLine> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            if self.carry.is_empty() {
                lines.extend(parse(line));
            } else {
                self.carry.extend_from_slice(line);
                lines.extend(parse(&std::mem::take(&mut self.carry)));
            }
        }
        self.carry.extend_from_slice(rest);
        lines
    }
}

fn parse(line: &[u8]) -> Option<LogLine> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = parse_time(std::str::from_utf8(fields.next()?).ok()?)?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    // Tags are separated by colons; the first one tells whether the line is whole.
    let partial = match fields.next()?.first()? {
        b'F' => false,
        b'P' => true,
        _ => return None,
    };
    Some(LogLine { stream: stream.into(), time, text: fields.next()?.to_vec(), partial })
}

/// Nanoseconds since the epoch of an RFC 3339 time, with any number of digits of a second and
/// any offset: other runtimes write them differently.
fn parse_time(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').unwrap_or("");
    let digits = &digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())];
    let nanos: i64 = format!("{:0<9}", digits.get(..digits.len().min(9))?).parse().ok()?;
    let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let seconds = (days(year, month, day) * 24 + hour) * 3600 + minute * 60 + second;
    (seconds - offset(zone)?).checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Seconds that a zone is east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let east = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
    match zone.as_bytes()[0] {
        b'+' => Some(east),
        b'-' => Some(-east),
        _ => None,
    }
}

/// Days since the epoch, in the Gregorian calendar, counted by years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_however_they_are_cut() {
        let text = b"2024-02-29T00:00:00.123456789Z stdout F a b\n\
                     2024-02-29T01:00:00.1+01:00 stderr P c\n";
        for cut in 0..text.len() {
            let mut splitter = Splitter::default();
            let mut lines = splitter.push(&text[..cut]);
            lines.extend(splitter.push(&text[cut..]));
            let [first, second] = &lines[..] else { panic!("{lines:?}") };
            assert_eq!((first.time, &first.text[..]), (1_709_164_800_123_456_789, &b"a b"[..]));
            assert_eq!((second.time, second.partial), (1_709_164_800_100_000_000, true));
            assert_eq!(second.stream(), Stream::Stderr);
        }
    }

    #[test]
    fn what_is_no_line_is_left_out() {
        for bad in ["", "x", "2024 stdout F a", "2024-02-29T00:00:00Z stdin F a", "é stdout F a"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
        let empty = parse(b"1970-01-01T00:00:00Z stdout F ").unwrap();
        assert_eq!((empty.time, empty.text.len()), (0, 0));
    }
}
