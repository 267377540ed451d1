//! The spine of a layer: all bytes of its archive that are in no file of its tree.
//!
//! No blobs are kept, and yet the very archive that a layer came as can be written again, for a
//! save or a push: headers, padding and whatever else there was are noted while they are read, and
//! between them which part of which file stood there.
//!
//! ```text
//! spine := "berthsp1" size:u64 is-exact:u64 zstd( { record } end )       little-endian
//! record := 0 length:u32 bytes | 1 path-length:u32 path offset:u64 length:u64
//! end := 2 path-length:u32 path
//! ```
//!
//! `size` is that of the whole archive. The path at the end is that of a file whose content is lost
//! because a later entry of the same archive took its place; such a layer is not exact.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};

const MAGIC: &[u8; 8] = b"berthsp1";
const HEADER: usize = 24;
/// Raw bytes of one record.
const RAW: usize = 64 << 10;
/// Longer paths cannot have been unpacked.
const MAX_PATH: usize = 4096;
/// Headers are mostly zeros; more effort makes them hardly smaller.
const LEVEL: i32 = 1;

/// Whoever reads an archive hears what becomes of it.
pub(crate) trait Witness {
    /// The next `length` bytes are those of this file from `offset` on.
    fn content(&mut self, path: &[u8], offset: u64, length: u64);
    /// A file that was written before, or a directory with such files, is not there any more.
    fn lost(&mut self, path: &[u8]);
}

/// Notes all that is read through it.
pub(crate) struct Recorder<R> {
    input: R,
    spine: Writer,
}

struct Writer {
    out: zstd::Encoder<'static, BufWriter<File>>,
    raw: Vec<u8>,
    /// Bytes to come that are in a file.
    content: u64,
    size: u64,
    lost: Option<Vec<u8>>,
    /// The first failure; told at the end, because reading goes on without a spine.
    failed: Option<io::Error>,
}

impl<R: BufRead> Recorder<R> {
    /// Writes the spine of what is read from `input` to an empty file.
    pub(crate) fn new(input: R, mut file: File) -> io::Result<Self> {
        file.write_all(&[0; HEADER])?;
        let out = zstd::Encoder::new(BufWriter::with_capacity(RAW, file), LEVEL)?;
        let spine = Writer {
            out,
            raw: Vec::with_capacity(RAW),
            content: 0,
            size: 0,
            lost: None,
            failed: None,
        };
        Ok(Self { input, spine })
    }

    /// Reads on to the end, and completes the spine. Answers the input all the same.
    pub(crate) fn finish(mut self) -> (R, io::Result<()>) {
        let rest = self.rest();
        (self.input, rest.and_then(|()| self.spine.finish()))
    }

    fn rest(&mut self) -> io::Result<()> {
        loop {
            match self.input.fill_buf()?.len() {
                0 => return Ok(()),
                length => self.consume(length),
            }
        }
    }
}

impl<R> Witness for Recorder<R> {
    fn content(&mut self, path: &[u8], offset: u64, length: u64) {
        if length > 0 {
            self.spine.attempt(|spine| spine.put_content(path, offset, length));
            self.spine.content = length;
        }
    }

    fn lost(&mut self, path: &[u8]) {
        self.spine.lost.get_or_insert_with(|| path.to_vec());
    }
}

impl<R: BufRead> BufRead for Recorder<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What is consumed is buffered, so this reads nothing.
        if let Ok(bytes) = self.input.fill_buf() {
            self.spine.pass(&bytes[..amount]);
        }
        self.input.consume(amount);
    }
}

impl<R: BufRead> Read for Recorder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(out.len());
        out[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl Writer {
    fn attempt(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) {
        if self.failed.is_none() {
            self.failed = write(self).err();
        }
    }

    /// Takes in bytes of the archive: those that are in no file are kept.
    fn pass(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        let content = usize::try_from(self.content).unwrap_or(bytes.len()).min(bytes.len());
        self.content -= content as u64;
        let mut raw = &bytes[content..];
        while !raw.is_empty() {
            let room = (RAW - self.raw.len()).min(raw.len());
            self.raw.extend_from_slice(&raw[..room]);
            raw = &raw[room..];
            if self.raw.len() == RAW {
                self.attempt(Self::put_raw);
                self.raw.clear();
            }
        }
    }

    fn put_raw(&mut self) -> io::Result<()> {
        if !self.raw.is_empty() {
            self.out.write_all(&[0])?;
            put_bytes(&mut self.out, &self.raw)?;
            self.raw.clear();
        }
        Ok(())
    }

    fn put_content(&mut self, path: &[u8], offset: u64, length: u64) -> io::Result<()> {
        self.put_raw()?;
        self.out.write_all(&[1])?;
        put_bytes(&mut self.out, path)?;
        self.out.write_all(&offset.to_le_bytes())?;
        self.out.write_all(&length.to_le_bytes())
    }

    fn finish(mut self) -> io::Result<()> {
        self.attempt(Self::put_raw);
        if let Some(error) = self.failed {
            return Err(error);
        }
        let lost = self.lost.unwrap_or_default();
        self.out.write_all(&[2])?;
        put_bytes(&mut self.out, &lost)?;
        let mut file = self.out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        let is_exact = u64::from(lost.is_empty());
        let header = [&MAGIC[..], &self.size.to_le_bytes(), &is_exact.to_le_bytes()].concat();
        file.rewind()?;
        file.write_all(&header)
    }
}

fn put_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)
}

/// A spine that is read.
pub(crate) struct Spine {
    records: zstd::Decoder<'static, BufReader<File>>,
    size: u64,
    is_exact: bool,
}

/// What comes next in the archive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Raw(Vec<u8>),
    Content { path: Vec<u8>, offset: u64, length: u64 },
}

impl Spine {
    /// Reads the header.
    pub(crate) fn open(mut file: File) -> io::Result<Self> {
        let mut header = [0; HEADER];
        file.read_exact(&mut header)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        if header[..8] != *MAGIC {
            return Err(broken("it begins with something else"));
        }
        let (size, is_exact) = (number(8), number(16) == 1);
        Ok(Self { records: zstd::Decoder::new(file)?, size, is_exact })
    }

    /// Bytes of the whole archive.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether all of the archive can be had again.
    pub(crate) fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// The next piece of the archive; `None` at its end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece>> {
        Ok(match self.number::<1>()? {
            0 => Some(Piece::Raw(self.bytes(RAW)?)),
            1 => Some(Piece::Content {
                path: self.bytes(MAX_PATH)?,
                offset: self.number::<8>()?,
                length: self.number::<8>()?,
            }),
            2 => None,
            _ => return Err(broken("a record of no kind")),
        })
    }

    /// The file that is lost, of a layer that is not exact.
    pub(crate) fn lost(mut self) -> io::Result<Vec<u8>> {
        while self.next()?.is_some() {}
        self.bytes(MAX_PATH)
    }

    fn number<const N: usize>(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.records.read_exact(&mut bytes[..N])?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.number::<4>()?).ok().filter(|length| *length <= limit);
        let mut bytes = vec![0; length.ok_or_else(|| broken("a record that is too long"))?];
        self.records.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn broken(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("broken spine: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Archives of raw bytes and contents, in this order, come back as they were.
    fn recorded(steps: &[(&[u8], Option<&[u8]>)], lost: Option<&[u8]>) -> (Vec<Piece>, Spine) {
        let file = tempfile::tempfile().unwrap();
        let archive: Vec<u8> = steps.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
        let input = BufReader::with_capacity(7, archive.as_slice());
        let mut recorder = Recorder::new(input, file.try_clone().unwrap()).unwrap();
        for (bytes, path) in steps.iter().filter(|(_, path)| *path != Some(b"unread")) {
            if let Some(path) = path {
                recorder.content(path, 5, bytes.len() as u64);
            }
            recorder.read_exact(&mut vec![0; bytes.len()]).unwrap();
        }
        lost.into_iter().for_each(|path| recorder.lost(path));
        recorder.finish().1.unwrap();
        let reopen = || {
            let mut file = file.try_clone().unwrap();
            io::Seek::rewind(&mut file).unwrap();
            Spine::open(file).unwrap()
        };
        let mut spine = reopen();
        let pieces = std::iter::from_fn(|| spine.next().unwrap()).collect();
        assert_eq!(spine.size(), archive.len() as u64);
        (pieces, reopen())
    }

    #[test]
    fn what_is_in_no_file_is_kept_and_what_is_is_named() {
        let long = vec![9; 100_000];
        let steps: &[(&[u8], Option<&[u8]>)] = &[
            (b"header", None),
            (b"content of a", Some(b"a")),
            (b"padding", None),
            (b"", Some(b"empty")),
            (&long, None),
            (b"content of b/c", Some(b"b/c")),
            (b"zeros at the end", Some(b"unread")),
        ];
        let (pieces, spine) = recorded(steps, None);
        assert!(spine.is_exact());
        let content =
            |path: &[u8], length| Piece::Content { path: path.to_vec(), offset: 5, length };
        let first = [Piece::Raw(b"header".to_vec()), content(b"a", 12)];
        assert_eq!(pieces[..2], first);
        let raw: Vec<u8> = pieces[2..pieces.len() - 2]
            .iter()
            .flat_map(|piece| match piece {
                Piece::Raw(bytes) => bytes.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(raw, [b"padding", long.as_slice()].concat());
        let last = [content(b"b/c", 14), Piece::Raw(b"zeros at the end".to_vec())];
        assert_eq!(pieces[pieces.len() - 2..], last);
    }

    #[test]
    fn what_is_lost_is_named() {
        let (pieces, spine) = recorded(&[(b"h", None), (b"c", Some(b"a"))], Some(b"a"));
        assert_eq!(pieces.len(), 2);
        assert!(!spine.is_exact());
        assert_eq!(spine.lost().unwrap(), b"a");
    }

    #[test]
    fn a_spine_that_is_none_or_was_cut_off_is_an_error() {
        let file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            io::Seek::rewind(&mut file).unwrap();
            Spine::open(file)
        };
        assert!(file(b"").is_err());
        assert!(file(&[0; 100]).is_err());
        let header = [&MAGIC[..], &[0; 16]].concat();
        let cut = file(&header).and_then(|mut spine| spine.next());
        assert!(cut.is_err());
        let long = zstd::encode_all(&[0, 255, 255, 255, 255][..], 1).unwrap();
        assert!(file(&[header, long].concat()).and_then(|mut spine| spine.next()).is_err());
    }
}
