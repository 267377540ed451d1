//! Maps of sparse files: which parts of a file are stored, the rest being holes.
//!
//! GNU tar has four ways to write them ("GNU tar: Sparse Formats"): type `S` with the map in the
//! header, and PAX 0.0, 0.1 and 1.0. All end as the same list, checked the same way.

use std::io::{self, BufRead};

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use super::pax::decimal;
use super::tar::{MAX_EXTENSION, TarReader, malformed, number};

/// The most segments of a map: what fits into an extension header in the smallest notation.
const MAX_SEGMENTS: usize = 1 << 16;
const BLOCK: u64 = 512;

/// A stored part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Segment {
    pub(crate) fn pairs(numbers: &[u64]) -> io::Result<Vec<Self>> {
        if !numbers.len().is_multiple_of(2) {
            return Err(malformed("a sparse map with half a pair"));
        }
        let pair = |pair: &[u64]| Self { offset: pair[0], length: pair[1] };
        Ok(numbers.chunks_exact(2).map(pair).collect())
    }
}

/// What PAX records say about a sparse file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PaxSparse {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    /// The file's name, where the header's is a made-up one.
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) size: u64,
    /// Of versions 0.0 and 0.1; 1.0 has its map before the content.
    pub(crate) segments: Vec<Segment>,
}

/// The map of an entry of type `S`; `read_block` reads the blocks that continue it.
pub(crate) fn of_gnu_header(
    header: &GnuHeader,
    mut read_block: impl FnMut(&mut [u8]) -> io::Result<()>,
) -> io::Result<(u64, Vec<Segment>)> {
    let mut segments = Vec::new();
    take_gnu(&header.sparse, &mut segments)?;
    let mut goes_on = header.is_extended();
    while goes_on {
        let mut block = GnuExtSparseHeader::new();
        read_block(block.as_mut_bytes())?;
        take_gnu(&block.sparse, &mut segments)?;
        goes_on = block.is_extended();
    }
    Ok((unsigned(&header.realsize)?, segments))
}

fn take_gnu(fields: &[GnuSparseHeader], segments: &mut Vec<Segment>) -> io::Result<()> {
    for field in fields.iter().take_while(|field| !field.is_empty()) {
        segments
            .push(Segment { offset: unsigned(&field.offset)?, length: unsigned(&field.numbytes)? });
    }
    if segments.len() > MAX_SEGMENTS { Err(malformed("a sparse map too long")) } else { Ok(()) }
}

fn unsigned(field: &[u8]) -> io::Result<u64> {
    u64::try_from(number(field)?).map_err(malformed)
}

/// The map that PAX records describe; for version 1.0 it is read from before the content: decimal
/// numbers, one per line, padded to a block.
pub(crate) fn of_pax<R: BufRead>(
    pax: &PaxSparse,
    reader: &mut TarReader<R>,
) -> io::Result<(u64, Vec<Segment>)> {
    match (pax.major, pax.minor) {
        (0, 0 | 1) => Ok((pax.size, pax.segments.clone())),
        (1, 0) => Ok((pax.size, read_map(reader)?)),
        (major, minor) => Err(malformed(format!("sparse format {major}.{minor}"))),
    }
}

fn read_map<R: BufRead>(reader: &mut TarReader<R>) -> io::Result<Vec<Segment>> {
    let mut text = Vec::new();
    let mut numbers: Vec<u64> = Vec::new();
    let mut parsed = 0;
    loop {
        reader.copy(BLOCK, |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })?;
        while let Some(length) = text[parsed..].iter().position(|b| *b == b'\n') {
            numbers.push(decimal(&text[parsed..parsed + length])?);
            parsed += length + 1;
            // The first number says how many pairs follow.
            if numbers.len() as u64 == numbers[0].saturating_mul(2).saturating_add(1) {
                return Segment::pairs(&numbers[1..]);
            }
        }
        if text.len() as u64 >= MAX_EXTENSION {
            return Err(malformed("a sparse map too long"));
        }
    }
}

/// A map is in order, does not overlap, ends within the file, and describes all that is stored.
pub(crate) fn check(size: u64, segments: &[Segment], stored: u64) -> io::Result<()> {
    let mut end = 0;
    let mut sum: u64 = 0;
    for segment in segments {
        if segment.offset < end {
            return Err(malformed("a sparse map out of order"));
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .ok_or_else(|| malformed("a sparse map too far"))?;
        sum += segment.length;
    }
    if end > size || sum != stored {
        return Err(malformed("a sparse map that does not fit its file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(u64, u64)]) -> Vec<Segment> {
        pairs.iter().map(|(offset, length)| Segment { offset: *offset, length: *length }).collect()
    }

    #[test]
    fn maps_are_checked() {
        assert!(check(100, &map(&[(0, 10), (50, 50)]), 60).is_ok());
        assert!(check(100, &map(&[(100, 0)]), 0).is_ok());
        assert!(check(0, &[], 0).is_ok());
        for (size, pairs, stored) in [
            (100, &[(50, 10), (0, 10)][..], 20),
            (100, &[(0, 10), (5, 10)], 20),
            (100, &[(95, 10)], 10),
            (100, &[(0, 10)], 11),
            (100, &[(u64::MAX, 2)], 2),
            (u64::MAX, &[(0, u64::MAX), (u64::MAX, 1)], 0),
        ] {
            assert!(check(size, &map(pairs), stored).is_err(), "{pairs:?}");
        }
    }
}
