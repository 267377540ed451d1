//! Lists of processors and memory nodes: `0-3,7`.

use crate::plan::Numbers;

/// One more than the largest number that Linux can be built to know.
const END: usize = 8192;

/// Parses a list in the kernel's format; an empty text is an empty list.
///
/// # Errors
/// What is wrong with it, to be put behind the field's name.
pub(super) fn parse(list: &str) -> Result<Vec<u64>, String> {
    let mut words = Vec::new();
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first, list)?, number(last, list)?);
        if first > last {
            return Err(format!("{list:?} has the range {part:?}, which is the wrong way round"));
        }
        if words.len() <= last / 64 {
            words.resize(last / 64 + 1, 0);
        }
        for number in first..=last {
            words[number / 64] |= 1 << (number % 64);
        }
    }
    Ok(words)
}

/// Every processor that there can be.
pub(super) fn every() -> Numbers {
    Numbers { words: Vec::new() }
}

fn number(text: &str, list: &str) -> Result<usize, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse::<usize>().ok()).flatten();
    let number = number.ok_or_else(|| format!("{list:?} is no list of numbers such as 0-3,7"))?;
    if number >= END {
        return Err(format!("{list:?} names {number}; the largest possible is {}", END - 1));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_bits() {
        for (list, words) in [
            ("", &[][..]),
            ("0", &[1]),
            ("0-3,7", &[0x8f]),
            ("1,1,1-1", &[2]),
            ("63,64", &[1 << 63, 1]),
            ("128", &[0, 0, 1]),
        ] {
            assert_eq!(parse(list).unwrap(), words, "{list}");
        }
        assert_eq!(parse("0-8191").unwrap(), [u64::MAX; 128]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for list in
            [",", "0,", ",1", "-", "1-", "-1", "3-1", "a", "0x1", "+1", " 1", "8192", "1-2-3"]
        {
            assert!(parse(list).is_err(), "{list}");
        }
        assert!(parse("99999999999999999999999").is_err());
    }
}
