//! Sizes in bytes. All units are powers of 1024, as other engines' memory flags have it.

use super::{scaled, split_unit};

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// Parses `64m`, `1.5g`, `512KiB`, or a plain number of bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let unit = unit.to_ascii_lowercase();
    let known = |(_, name): &(u32, &str)| {
        let letter = &name[..1].to_ascii_lowercase();
        let long = name.to_ascii_lowercase();
        unit == *letter || unit == long || (letter != "b" && unit == format!("{letter}b"))
    };
    let power = match unit.as_str() {
        "" => Some(0),
        _ => (0u32..).zip(UNITS).find(known).map(|(power, _)| power),
    };
    power
        .and_then(|power| scaled(number, 1024u64.pow(power)))
        .ok_or_else(|| format!("{text:?} is no size: write 512k, 64m or 1.5g"))
}

/// Writes `64 MiB`, `1.5 GiB`, `0 B`: three digits at most before the point, one after it.
pub(crate) fn show(bytes: u64) -> String {
    let mut number = bytes as f64;
    let mut unit = 0;
    // A number that would be rounded to 1024.0 belongs to the next unit.
    while number >= 1023.95 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    let number = format!("{number:.1}");
    let number = number.strip_suffix(".0").unwrap_or(&number);
    format!("{number} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_in_every_usual_spelling() {
        for text in ["64m", "64M", "64mb", "64MiB", "65536k", "67108864", "67108864b", "0.0625g"] {
            assert_eq!(parse(text), Ok(64 << 20), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "m", "-1m", "64 m", "64x", "64bb", "64ib", "1e3", "99999999999p"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_shown_with_one_digit_after_the_point() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1 MiB"),
            (64 << 20, "64 MiB"),
            (12_999_999, "12.4 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(show(bytes), text);
        }
    }
}
