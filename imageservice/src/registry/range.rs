//! Parts of a blob: what is asked for, and what an answer turns out to be (RFC 9110, "Range
//! Requests").
//!
//! Blobs are named by their digest, so that parts of different answers, and even of different
//! hosts, belong together without `If-Range`; whether they do is checked where the whole is hashed.

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, TRANSFER_ENCODING};
use reqwest::{Response, StatusCode, Version};

use crate::error::Error;

/// What an answer brings of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Bytes before the ones that were asked for, to be left out.
    pub(super) skip: u64,
    /// Whether the host has understood what a range is.
    pub(super) is_range: bool,
    /// Whether the end of this answer may be a connection that broke, for all that can be told.
    pub(super) ends_with_connection: bool,
}

/// Why an answer cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The blob has another size there.
    Size(u64),
    Nonsense(String),
}

impl Misfit {
    pub(super) fn into_error(self, what: &str, registry: &str, size: u64) -> Error {
        let what = what.to_owned();
        match self {
            Self::Size(got) => Error::SizeMismatch { what, expected: size, got },
            Self::Nonsense(reason) => {
                Error::BadAnswer { what, registry: registry.to_owned(), reason }
            }
        }
    }
}

/// The header that asks for a part; none for the whole. `until` is one past its last byte.
pub(super) fn header(from: u64, until: Option<u64>) -> Option<String> {
    match until {
        Some(until) => Some(format!("bytes={from}-{}", until.saturating_sub(1))),
        None if from > 0 => Some(format!("bytes={from}-")),
        None => None,
    }
}

/// What a successful answer brings, to who asked for bytes from `from` on of a blob of `size`.
pub(super) fn judge(response: &Response, from: u64, size: u64) -> Result<Part, Misfit> {
    let is_old = response.version() < Version::HTTP_11;
    judge_head(response.status(), response.headers(), is_old, (from, size))
}

fn judge_head(
    status: StatusCode,
    headers: &HeaderMap,
    is_old: bool,
    (from, size): (u64, u64),
) -> Result<Part, Misfit> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let length = text(CONTENT_LENGTH).and_then(|length| length.trim().parse().ok());
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    let ends_with_connection = length.is_none() && !is_chunked && is_old;
    match status {
        StatusCode::OK => match length {
            Some(length) if length != size => Err(Misfit::Size(length)),
            _ => Ok(Part { skip: from, is_range: false, ends_with_connection }),
        },
        StatusCode::PARTIAL_CONTENT => {
            let range = text(CONTENT_RANGE).and_then(ContentRange::parse);
            let range = range.ok_or_else(|| nonsense("a part without a range"))?;
            if range.size.is_some_and(|other| other != size) {
                return Err(Misfit::Size(range.size.unwrap_or_default()));
            }
            let is_apt = (range.first..=range.last).contains(&from) && range.last < size;
            if !is_apt || length.is_some_and(|length| length != range.last - range.first + 1) {
                return Err(nonsense("another part than was asked for"));
            }
            Ok(Part { skip: from - range.first, is_range: true, ends_with_connection })
        }
        other => Err(Misfit::Nonsense(format!("{other} in place of a blob"))),
    }
}

fn nonsense(reason: &str) -> Misfit {
    Misfit::Nonsense(reason.to_owned())
}

/// `bytes 0-99/1234`, or `/*` at its end.
struct ContentRange {
    first: u64,
    last: u64,
    size: Option<u64>,
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        let (range, size) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let size = if size == "*" { None } else { Some(size.parse().ok()?) };
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (unit.eq_ignore_ascii_case("bytes") && first <= last).then_some(Self { first, last, size })
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    const SIZE: u64 = 100;

    fn judged(
        status: u16,
        fields: &[(HeaderName, &'static str)],
        from: u64,
    ) -> Result<Part, Misfit> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().unwrap());
        }
        judge_head(StatusCode::from_u16(status).unwrap(), &headers, false, (from, SIZE))
    }

    #[test]
    fn a_range_is_asked_for_only_where_it_is_needed() {
        assert_eq!(header(0, None), None);
        assert_eq!(header(7, None).as_deref(), Some("bytes=7-"));
        assert_eq!(header(0, Some(10)).as_deref(), Some("bytes=0-9"));
        assert_eq!(header(4, Some(5)).as_deref(), Some("bytes=4-4"));
    }

    #[test]
    fn answers_are_taken_for_what_they_are() {
        let part = |skip, is_range| Part { skip, is_range, ends_with_connection: false };
        let range = |text| vec![(CONTENT_RANGE, text)];
        for (status, fields, from, expected) in [
            (200, vec![(CONTENT_LENGTH, "100")], 0, Ok(part(0, false))),
            (200, vec![(CONTENT_LENGTH, "100")], 40, Ok(part(40, false))),
            (200, vec![(TRANSFER_ENCODING, "chunked")], 40, Ok(part(40, false))),
            (200, vec![(CONTENT_LENGTH, "99")], 0, Err(Misfit::Size(99))),
            (206, range("bytes 40-99/100"), 40, Ok(part(0, true))),
            (206, range("bytes 40-59/100"), 40, Ok(part(0, true))),
            (206, range("Bytes 40-99/*"), 40, Ok(part(0, true))),
            (206, range("bytes 32-99/100"), 40, Ok(part(8, true))),
            (206, range("bytes 40-98/99"), 40, Err(Misfit::Size(99))),
        ] {
            assert_eq!(judged(status, &fields, from), expected, "{status} {fields:?} {from}");
        }
    }

    #[test]
    fn nonsense_is_told() {
        let lie = [(CONTENT_RANGE, "bytes 40-99/100"), (CONTENT_LENGTH, "70")];
        assert!(matches!(judged(206, &lie, 40), Err(Misfit::Nonsense(_))));
        for text in [
            "",
            "bytes",
            "bytes 40-99",
            "bytes */100",
            "bytes -/100",
            "bytes 99-40/100",
            "bytes 41-99/100",
            "bytes 0-39/100",
            "bytes 40-100/100",
            "bytes 40-99/x",
            "lines 40-99/100",
            "bytes 40-99999999999999999999/100",
            "bytes 40-18446744073709551615/100",
        ] {
            let judged = judged(206, &[(CONTENT_RANGE, text)], 40);
            assert!(matches!(judged, Err(Misfit::Nonsense(_))), "{text:?}: {judged:?}");
        }
        assert!(matches!(judged(204, &[], 0), Err(Misfit::Nonsense(_))));
    }
}
