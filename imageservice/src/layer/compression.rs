//! Which compression a stream has, told by its first bytes, and its inverse.
//!
//! Media types are often wrong about this; the magic is not.

use std::io::{self, BufRead, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

/// The largest window that a zstd frame may ask us to hold in memory: 128 MiB, zstd's own default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
    /// One that we know and do not support.
    Foreign(&'static str),
}

impl Compression {
    fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A zstd frame, or a skippable one before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Foreign("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Self::Foreign("bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Foreign("lz4"),
            _ => Self::None,
        }
    }
}

/// The uncompressed bytes of `input`. Gzip streams may have several members (pigz, eStargz) and
/// zstd streams several frames.
///
/// # Errors
/// `Unsupported`, with the name of the compression, for one that we know but do not support.
pub(crate) fn inflate<'a, R: BufRead + 'a>(mut input: R) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = [0; 6];
    let mut filled = 0;
    while filled < head.len() {
        match input.read(&mut head[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    let compression = Compression::detect(&head[..filled]);
    let input: Chain<Cursor<Vec<u8>>, R> = Cursor::new(head[..filled].to_vec()).chain(input);
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Compression::Foreign(name) => {
            return Err(io::Error::new(io::ErrorKind::Unsupported, name));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        // A tiny buffer: the magic comes in pieces.
        inflate(io::BufReader::with_capacity(2, bytes))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn each_supported_form_inflates() {
        let frames =
            [zstd::encode_all(&b"one"[..], 3).unwrap(), zstd::encode_all(&b"two"[..], 3).unwrap()];
        for (form, bytes) in [
            ("plain", b"onetwo".to_vec()),
            ("gzip of two members", [gzip(b"one"), gzip(b"two")].concat()),
            ("zstd of two frames", frames.concat()),
            (
                "zstd after a skippable frame",
                [b"\x50\x2a\x4d\x18\x01\0\0\0x".to_vec(), frames.concat()].concat(),
            ),
        ] {
            assert_eq!(inflated(&bytes).unwrap(), b"onetwo", "{form}");
        }
        assert_eq!(inflated(b"").unwrap(), b"");
        assert_eq!(inflated(b"x").unwrap(), b"x");
    }

    #[test]
    fn foreign_compressions_are_named() {
        for (bytes, name) in
            [(&b"\xfd7zXZ\0rest"[..], "xz"), (b"BZh91AY&SY", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")]
        {
            let error = inflated(bytes).unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (io::ErrorKind::Unsupported, name.into())
            );
        }
    }

    #[test]
    fn broken_streams_are_errors() {
        let whole = gzip(b"something");
        assert!(inflated(&whole[..whole.len() - 2]).is_err());
        assert!(inflated(&[whole, b"trailing".to_vec()].concat()).is_err());
        let zstd = zstd::encode_all(&b"something"[..], 3).unwrap();
        assert!(inflated(&zstd[..zstd.len() - 2]).is_err());
    }

    #[test]
    fn a_zstd_window_that_would_not_fit_in_memory_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(b"small").unwrap();
        assert!(inflated(&encoder.finish().unwrap()).is_err());
    }
}
