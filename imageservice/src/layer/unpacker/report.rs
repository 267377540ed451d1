//! What an unpacker tells berthd at its end: records of length-prefixed byte strings.
//!
//! berthd believes none of it that could harm another layer: paths are clean or refused, and the
//! report as a whole has a bounded length.

use std::io::{self, Write};

use crate::digest::Digest;
use crate::error::Error;
use crate::layer::apply::{Applied, Debts};
use crate::layer::path::clean;
use crate::layer::seal::Seals;

/// How the unpacking of a layer ended.
#[derive(Debug)]
pub(crate) enum Report {
    Done { diff_id: Digest, applied: Applied },
    Failed(Error),
}

/// Tags of records; the last two end a report.
const DIRECTORY: u8 = b'd';
const LINK: u8 = b'l';
const OPAQUE: u8 = b'o';
const XATTR: u8 = b'x';
const DONE: u8 = b'k';
const FAILED: u8 = b'e';

impl Report {
    /// Writes the report.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut record = |tag: u8, fields: &[&[u8]]| -> io::Result<()> {
            out.write_all(&[tag])?;
            for field in fields {
                let length = u32::try_from(field.len()).map_err(io::Error::other)?;
                out.write_all(&length.to_le_bytes())?;
                out.write_all(field)?;
            }
            Ok(())
        };
        match self {
            Self::Done { diff_id, applied: Applied { debts, seals } } => {
                debts.directories.iter().try_for_each(|path| record(DIRECTORY, &[path]))?;
                debts.links.iter().try_for_each(|(path, to)| record(LINK, &[path, to]))?;
                seals.opaque.iter().try_for_each(|path| record(OPAQUE, &[path]))?;
                for (path, xattrs) in &seals.xattrs {
                    for (name, value) in xattrs {
                        record(XATTR, &[path, name, value])?;
                    }
                }
                record(DONE, &[diff_id.as_str().as_bytes()])
            }
            Self::Failed(error) => {
                let [kind, a, b, c] = fields_of(error);
                record(FAILED, &[kind.as_bytes(), a.as_bytes(), b.as_bytes(), c.as_bytes()])
            }
        }
    }

    /// Reads a report about the layer that messages call `what`; `None` if it is none.
    pub(crate) fn read(mut bytes: &[u8], what: &str) -> Option<Self> {
        let mut debts = Debts::default();
        let mut seals = Seals::default();
        loop {
            let (tag, rest) = bytes.split_first()?;
            bytes = rest;
            match *tag {
                DIRECTORY => debts.directories.push(path(&mut bytes)?),
                LINK => debts.links.push((path(&mut bytes)?, path(&mut bytes)?)),
                OPAQUE => seals.opaque.push(directory(&mut bytes)?),
                XATTR => {
                    let path = path(&mut bytes)?;
                    let xattr = (field(&mut bytes)?.to_vec(), field(&mut bytes)?.to_vec());
                    seals.xattrs.entry(path).or_default().push(xattr);
                }
                DONE => {
                    let diff_id = text(&mut bytes)?.parse().ok()?;
                    return Some(Self::Done { diff_id, applied: Applied { debts, seals } });
                }
                FAILED => {
                    let mut text = || text(&mut bytes);
                    let fields = [text()?, text()?, text()?, text()?];
                    return error_of(fields, what).map(Self::Failed);
                }
                _ => return None,
            }
        }
    }
}

fn field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (field, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(field)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    String::from_utf8(field(bytes)?.to_vec()).ok()
}

/// A path below the layer's root.
fn path(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    directory(bytes).filter(|path| !path.is_empty())
}

/// The same, or the root itself.
fn directory(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let path = field(bytes)?;
    (clean(path).ok()? == path).then(|| path.to_vec())
}

fn fields_of(error: &Error) -> [String; 4] {
    let fields = |kind: &str, a: &str, b: &str, c: &str| [kind, a, b, c].map(str::to_owned);
    match error {
        Error::HostileLayer { entry, reason, .. } => fields("hostile", entry, reason, ""),
        Error::CorruptLayer { reason, .. } => fields("corrupt", reason, "", ""),
        Error::TooLarge { limit, .. } => fields("large", limit, "", ""),
        Error::Unsupported { reason, .. } => fields("unsupported", reason, "", ""),
        Error::NoSpace { step, path } => fields("full", step, &path.to_string_lossy(), ""),
        Error::Storage { step, path, source } => {
            let io = source.downcast_ref::<io::Error>();
            let errno = io.and_then(io::Error::raw_os_error);
            let source = errno.map_or_else(|| source.to_string(), |errno| errno.to_string());
            fields("storage", step, &path.to_string_lossy(), &source)
        }
        other => fields("storage", "unpack", "the layer", &other.to_string()),
    }
}

fn error_of([kind, a, b, c]: [String; 4], what: &str) -> Option<Error> {
    let what = what.to_owned();
    Some(match kind.as_str() {
        "hostile" => Error::HostileLayer { layer: what, entry: a, reason: b },
        "corrupt" => Error::CorruptLayer { layer: what, reason: a },
        "large" => Error::TooLarge { what, limit: a },
        "unsupported" => Error::Unsupported { what, reason: a },
        "full" => Error::NoSpace { step: "unpack", path: format!("{a} {b}").into() },
        "storage" => {
            let errno = c.parse().map(io::Error::from_raw_os_error);
            let source = errno.unwrap_or_else(|_| io::Error::other(c));
            Error::storage("unpack", format!("{a} {b}"), source)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(report: &Report) -> Option<Report> {
        let mut bytes = Vec::new();
        report.write(&mut bytes).unwrap();
        Report::read(&bytes, "layer X")
    }

    #[test]
    fn a_whole_report_arrives() {
        let xattr = (b"trusted.x".to_vec(), b"\0\n".to_vec());
        let applied = Applied {
            debts: Debts {
                directories: vec![b"a".to_vec(), b"a/b".to_vec()],
                links: vec![(b"l".to_vec(), b"t/o".to_vec())],
            },
            seals: Seals {
                opaque: vec![b"o".to_vec()],
                xattrs: [(b"f".to_vec(), vec![xattr])].into(),
            },
        };
        let diff_id = Digest::sha256(b"");
        let report = Report::Done { diff_id: diff_id.clone(), applied: applied.clone() };
        let Some(Report::Done { diff_id: got, applied: arrived }) = sent(&report) else {
            panic!("a report of success")
        };
        assert_eq!((got, arrived), (diff_id, applied));
    }

    #[test]
    fn failures_keep_their_kind() {
        let what = || "layer X".to_owned();
        for error in [
            Error::HostileLayer { layer: what(), entry: "e".into(), reason: "r".into() },
            Error::CorruptLayer { layer: what(), reason: "r".into() },
            Error::TooLarge { what: what(), limit: "l".into() },
            Error::Unsupported { what: what(), reason: "r".into() },
        ] {
            let Some(Report::Failed(got)) = sent(&Report::Failed(error.clone())) else {
                panic!("a failure")
            };
            assert_eq!(got.to_string(), error.to_string());
        }
        let error = Error::storage("write", "f", rustix::io::Errno::IO.into());
        let Some(Report::Failed(Error::Storage { path, source, .. })) =
            sent(&Report::Failed(error))
        else {
            panic!("a failure of the disk")
        };
        let source = source.downcast_ref::<io::Error>().unwrap().raw_os_error();
        assert_eq!((path.to_str(), source), (Some("write f"), Some(5)));
        let full = Error::storage("write", "f", rustix::io::Errno::NOSPC.into());
        assert!(matches!(sent(&Report::Failed(full)), Some(Report::Failed(Error::NoSpace { .. }))));
    }

    #[test]
    fn nonsense_is_no_report() {
        let path = |path: &[u8]| [&b"d\x03\0\0\0"[..], path, b"k"].concat();
        for bytes in [&b""[..], b"z", b"d", b"d\xff\xff\xff\xffa", &path(b"../"), &path(b"a//")] {
            assert!(Report::read(bytes, "layer X").is_none(), "{bytes:?}");
        }
    }
}
