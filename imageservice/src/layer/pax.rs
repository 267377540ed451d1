//! PAX extended header records: `LENGTH KEY=VALUE\n`, where the length counts the whole record, so
//! that a value may hold any byte (POSIX.1-2001, pax, "pax Extended Header").

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::sparse::{PaxSparse, Segment};
use super::tar::malformed;

/// A point in time as tar can say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// The records that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link_path: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
    pub(crate) mtime: Option<Time>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<PaxSparse>,
}

impl Records {
    pub(crate) fn parse(mut content: &[u8]) -> io::Result<Self> {
        let mut records = Self::default();
        while !content.is_empty() {
            let (key, value, rest) = split_record(content)
                .ok_or_else(|| malformed("a PAX record that is not LENGTH KEY=VALUE"))?;
            content = rest;
            // An empty value takes a global default back, and there are none here.
            if !value.is_empty() {
                records.take(key, value)?;
            }
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link_path = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(signed(value)?),
            b"gid" => self.gid = Some(signed(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    self.take_libarchive(name, value)?;
                } else if let Some(field) = key.strip_prefix(b"GNU.sparse.") {
                    self.take_sparse(field, value)?;
                }
            }
        }
        Ok(())
    }

    /// libarchive writes names URL-encoded and values in base64, beside the SCHILY form or alone.
    fn take_libarchive(&mut self, name: &[u8], value: &[u8]) -> io::Result<()> {
        let bad = || malformed("an extended attribute in broken LIBARCHIVE form");
        let name = percent_decode(name).ok_or_else(bad)?;
        let value = STANDARD.decode(value).or_else(|_| STANDARD_NO_PAD.decode(value));
        self.xattrs.push((name, value.map_err(|_| bad())?));
        Ok(())
    }

    fn take_sparse(&mut self, field: &[u8], value: &[u8]) -> io::Result<()> {
        let sparse = self.sparse.get_or_insert_default();
        match field {
            b"major" => sparse.major = decimal(value)?,
            b"minor" => sparse.minor = decimal(value)?,
            b"name" => sparse.name = Some(value.to_vec()),
            b"size" | b"realsize" => sparse.size = decimal(value)?,
            // Version 0.0 repeats these two for each segment.
            b"offset" => sparse.segments.push(Segment { offset: decimal(value)?, length: 0 }),
            b"numbytes" => match sparse.segments.last_mut() {
                Some(segment) => segment.length = decimal(value)?,
                None => return Err(malformed("a sparse map that starts with a length")),
            },
            // Version 0.1 has them in one list.
            b"map" => {
                let numbers =
                    value.split(|b| *b == b',').map(decimal).collect::<io::Result<Vec<_>>>()?;
                sparse.segments = Segment::pairs(&numbers)?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn split_record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&content[..space]).ok()?).ok()?;
    if length <= space + 1 || length > content.len() || content[length - 1] != b'\n' {
        return None;
    }
    let record = &content[space + 1..length - 1];
    let equals = record.iter().position(|b| *b == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty()).then_some((key, value, &content[length..]))
}

/// Decimal digits and nothing else.
pub(crate) fn decimal(text: &[u8]) -> io::Result<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()
        .filter(|_| is_number)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed("a number in a PAX record that is none"))
}

fn signed(text: &[u8]) -> io::Result<i64> {
    let (sign, digits) = text.strip_prefix(b"-").map_or((1, text), |digits| (-1, digits));
    let value = i64::try_from(decimal(digits)?).map_err(malformed)?;
    Ok(sign * value)
}

/// Seconds with an optional fraction, of which nanoseconds are kept; may be negative.
fn time(text: &[u8]) -> io::Result<Time> {
    let point = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let seconds = signed(&text[..point])?;
    let fraction = text.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(malformed("a time in a PAX record that is none"));
    }
    let nanos = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = nanos.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    // -1.5 is one and a half second before 1970: two seconds down, half a second up.
    if text.starts_with(b"-") && nanos > 0 {
        return Ok(Time { seconds: seconds.saturating_sub(1), nanos: 1_000_000_000 - nanos });
    }
    Ok(Time { seconds, nanos })
}

fn percent_decode(name: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            decoded.extend(hex::decode(after.get(..2)?).ok()?);
            rest = &after[2..];
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = rest.len() + 1;
        while length != rest.len() + length.to_string().len() {
            length += 1;
        }
        [length.to_string().into_bytes(), rest].concat()
    }

    #[test]
    fn values_may_hold_newlines_and_equal_signs() {
        let value = b"\x01\n\0=\nrest";
        let content =
            [record("SCHILY.xattr.security.capability", value), record("path", b"a=b\nc")].concat();
        let records = Records::parse(&content).unwrap();
        assert_eq!(records.xattrs, [(b"security.capability".to_vec(), value.to_vec())]);
        assert_eq!(records.path.unwrap(), b"a=b\nc");
    }

    #[test]
    fn libarchive_attributes_are_decoded() {
        let records = Records::parse(&record("LIBARCHIVE.xattr.user.a%3db", b"AQID")).unwrap();
        assert_eq!(records.xattrs, [(b"user.a=b".to_vec(), vec![1, 2, 3])]);
        assert!(Records::parse(&record("LIBARCHIVE.xattr.user.a%", b"AQID")).is_err());
    }

    #[test]
    fn times() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("1700000000.5", 1_700_000_000, 500_000_000),
            ("1.123456789999", 1, 123_456_789),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("1.", 1, 0),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), Time { seconds, nanos }, "{text}");
        }
        for text in ["", ".5", "1.x", "1e3", "+1", "--1", "99999999999999999999"] {
            assert!(time(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn broken_records_are_refused() {
        for content in [
            "5",
            "x path=a\n",
            "9 path=a\n1",
            "4 =\n",
            "8 path=a",
            "99 path=a\n",
            "3 \n",
            "+9 path=a\n",
        ] {
            assert!(Records::parse(content.as_bytes()).is_err(), "{content:?}");
        }
        assert!(Records::parse(&record("size", b"-1")).is_err());
        assert!(Records::parse(&record("uid", b"0x1")).is_err());
        assert_eq!(Records::parse(&record("size", b"")).unwrap(), Records::default());
    }
}
