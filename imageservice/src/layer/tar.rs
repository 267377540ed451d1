//! A reader of tar streams that nobody can make hold much memory, or read two ways.
//!
//! ustar, GNU and PAX headers (POSIX.1-2001 pax, "GNU tar: Basic Tar Format"). Field layout comes
//! from the `tar` crate; its archive reader is not used, because it holds extension headers of any
//! size in memory and ends PAX values at a newline, which breaks binary xattrs. Where readers of
//! the world disagree, this one does as Go's `archive/tar`, which made most images, or refuses.

use std::io::{self, BufRead};

use tar::Header;

use super::pax::{Records, Time};
use super::sparse::{self, Segment};

const BLOCK: u64 = 512;
/// The longest extension header or sparse map, as in Go's reader.
pub(crate) const MAX_EXTENSION: u64 = 1 << 20;

/// A member of the archive, without its content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it stands in the archive: any bytes.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// Extended attributes by their full names.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `size` bytes, of which only the segments are stored, when there are any.
    File {
        size: u64,
        segments: Option<Vec<Segment>>,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    Hardlink {
        target: Vec<u8>,
    },
    Character {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Reads members one after the other; the content of a member can be read until the next is asked
/// for.
pub(crate) struct TarReader<R> {
    input: R,
    /// Bytes of the current member's content that were not read yet.
    left: u64,
    padding: u64,
    /// Bytes read so far.
    position: u64,
}

/// Extension headers that stand before a member.
#[derive(Default)]
struct Extensions {
    pax: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, position: 0 }
    }

    /// What is read from.
    pub(crate) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// What is behind the archive's end is the caller's.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// Where in the stream the content of the current member goes on.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next member; `None` at the end of the archive, which is a block of zeros or the end of
    /// the stream between two members.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        let mut is_extended = false;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return if is_extended {
                    Err(malformed("ends after an extension"))
                } else {
                    Ok(None)
                };
            };
            let slot = match header.as_old().linkflag[0] {
                b'x' => {
                    let records = Records::parse(&self.extension(&header)?)?;
                    once(&mut extensions.pax, records)
                }
                b'L' => once(&mut extensions.long_name, self.long(&header)?),
                b'K' => once(&mut extensions.long_link, self.long(&header)?),
                // Global defaults: Go's reader does not apply them to members either.
                b'g' => {
                    self.begin(size_of(&header)?);
                    continue;
                }
                _ => return self.member(&header, extensions).map(Some),
            };
            slot?;
            is_extended = true;
        }
    }

    /// Hands `length` bytes of the current member's content to `sink`, in the pieces in which they
    /// came.
    pub(crate) fn copy(
        &mut self,
        mut length: u64,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if length > self.left {
            return Err(malformed("content shorter than its map"));
        }
        while length > 0 {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Err(cut_short());
            }
            let n = available.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            sink(&available[..n])?;
            self.input.consume(n);
            self.position += n as u64;
            self.left -= n as u64;
            length -= n as u64;
        }
        Ok(())
    }

    /// Announces content of the given stored size.
    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK;
    }

    /// Goes to the end of the current member. An archive may end before the padding of its last
    /// one: Go's reader takes that for an end, and umoci writes such.
    fn skip(&mut self) -> io::Result<()> {
        self.copy(self.left, |_| Ok(()))?;
        let mut padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or_default();
        while padding > 0 {
            let n = self.input.fill_buf()?.len().min(padding);
            if n == 0 {
                break;
            }
            self.input.consume(n);
            self.position += n as u64;
            padding -= n;
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(cut_short()),
                n => filled += n,
            }
        }
        self.position += BLOCK;
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        check_sum(&header)?;
        Ok(Some(header))
    }

    /// The content of an extension header, which is held in memory.
    fn extension(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let size = size_of(header)?;
        if size > MAX_EXTENSION {
            return Err(malformed("an extension header of more than a megabyte"));
        }
        self.begin(size);
        let mut content = Vec::new();
        self.copy(size, |bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(content)
    }

    /// A GNU long name: ends at its first NUL.
    fn long(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let mut name = self.extension(header)?;
        name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> io::Result<Entry> {
        let pax = extensions.pax.unwrap_or_default();
        let old = header.as_old();
        let header_name = || header.path_bytes().into_owned();
        let header_link = || header.link_name_bytes().unwrap_or_default().into_owned();
        let name = one_of(extensions.long_name, pax.path, header_name)?;
        let target = one_of(extensions.long_link, pax.link_path, header_link)?;
        let mut kind = self.kind(header, &name, target)?;
        if let Kind::File { size, segments } = &mut kind {
            let stored = match pax.size {
                Some(size) => size,
                None => size_of(header)?,
            };
            self.begin(stored);
            (*size, *segments) = self.content(header, pax.sparse.as_ref(), stored)?;
        }
        Ok(Entry {
            name: pax.sparse.and_then(|sparse| sparse.name).unwrap_or(name),
            kind,
            mode: u32::try_from(number(&old.mode)? & 0o7777).unwrap_or_default(),
            uid: id(pax.uid.map_or_else(|| number(&old.uid), Ok)?)?,
            gid: id(pax.gid.map_or_else(|| number(&old.gid), Ok)?)?,
            mtime: pax.mtime.map_or_else(
                || Ok(Time { seconds: number(&old.mtime)?, nanos: 0 }),
                io::Result::Ok,
            )?,
            xattrs: pax.xattrs,
        })
    }

    /// What a member is. Only files have content; a size on anything else says nothing.
    fn kind(&self, header: &Header, name: &[u8], target: Vec<u8>) -> io::Result<Kind> {
        let file = Kind::File { size: 0, segments: None };
        let device = || -> io::Result<(u32, u32)> {
            let bytes = header.as_bytes();
            let field = |range| number(&bytes[range]).map(u32::try_from);
            match (field(329..337)?, field(337..345)?) {
                (Ok(major), Ok(minor)) => Ok((major, minor)),
                _ => Err(malformed("a device number out of range")),
            }
        };
        Ok(match header.as_old().linkflag[0] {
            // Archives older than POSIX mark directories by a slash alone.
            0 if name.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => file,
            b'1' => Kind::Hardlink { target },
            b'2' => Kind::Symlink { target },
            b'3' => device().map(|(major, minor)| Kind::Character { major, minor })?,
            b'4' => device().map(|(major, minor)| Kind::Block { major, minor })?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(malformed(format!("an entry of unknown type {:?}", other as char)));
            }
        })
    }

    /// Apparent size and map of a file of which `stored` bytes are in the archive.
    fn content(
        &mut self,
        header: &Header,
        pax: Option<&sparse::PaxSparse>,
        stored: u64,
    ) -> io::Result<(u64, Option<Vec<Segment>>)> {
        let (size, segments) = if header.entry_type().is_gnu_sparse() {
            let gnu =
                header.as_gnu().ok_or_else(|| malformed("a sparse entry that is not GNU's"))?;
            // Further blocks of the map stand before the content and are not part of its size.
            let read_block = |block: &mut [u8]| {
                self.input.read_exact(block)?;
                self.position += BLOCK;
                Ok(())
            };
            sparse::of_gnu_header(gnu, read_block)?
        } else if let Some(pax) = pax {
            sparse::of_pax(pax, self)?
        } else {
            return Ok((stored, None));
        };
        sparse::check(size, &segments, self.left)?;
        Ok((size, Some(segments)))
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> io::Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed("two extension headers of one kind for one entry")),
    }
}

/// A name that is said in two extensions must be the same in both.
fn one_of(
    gnu: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
    header: impl Fn() -> Vec<u8>,
) -> io::Result<Vec<u8>> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err(malformed("two different names for one entry")),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(header()),
    }
}

fn size_of(header: &Header) -> io::Result<u64> {
    u64::try_from(number(&header.as_old().size)?).map_err(|_| malformed("a negative size"))
}

fn id(value: i64) -> io::Result<u32> {
    // The last one means "unchanged" to chown(2).
    u32::try_from(value)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| malformed("a user or group id out of range"))
}

/// A numeric field: octal digits between spaces and NULs, or big-endian two's complement after a
/// set high bit (GNU's base 256). Blank is zero.
pub(crate) fn number(field: &[u8]) -> io::Result<i64> {
    let bad = || malformed("a header with a number that is none");
    if field[0] & 0x80 != 0 {
        let start = if field[0] & 0x40 == 0 {
            i128::from(field[0] & 0x3f)
        } else {
            i128::from(field[0]) - 256
        };
        let value = field[1..].iter().try_fold(start, |value, byte| {
            value.checked_mul(256).map(|value| value + i128::from(*byte))
        });
        return value.and_then(|value| i64::try_from(value).ok()).ok_or_else(bad);
    }
    let digits = field.iter().map(|b| if *b == 0 { ' ' } else { *b as char }).collect::<String>();
    match digits.trim() {
        "" => Ok(0),
        // Only digits: the parser below would take a sign.
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            i64::from_str_radix(digits, 8).map_err(|_| bad())
        }
        _ => Err(bad()),
    }
}

/// The sum of all bytes with the sum's own field as spaces; old tars summed signed bytes.
fn check_sum(header: &Header) -> io::Result<()> {
    const FIELD: std::ops::Range<usize> = 148..156;
    let bytes = header.as_bytes();
    let byte = |(index, byte): (usize, &u8)| if FIELD.contains(&index) { b' ' } else { *byte };
    let unsigned: i64 = bytes.iter().enumerate().map(|b| i64::from(byte(b))).sum();
    let signed: i64 = bytes.iter().enumerate().map(|b| i64::from(byte(b).cast_signed())).sum();
    let expected = number(&bytes[FIELD])?;
    if expected == unsigned || expected == signed {
        Ok(())
    } else {
        Err(malformed("a wrong checksum in a header"))
    }
}

pub(crate) fn malformed(reason: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed tar archive: {reason}"))
}

fn cut_short() -> io::Error {
    malformed("cut short")
}

#[cfg(test)]
mod tests;
