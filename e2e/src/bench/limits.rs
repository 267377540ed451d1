//! What the disk and one core can do at best, measured in the same run: no engine is faster, and
//! figures of two machines compare only beside these.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::image::Prose;

const MIB: usize = 1 << 20;
const WRITTEN: usize = 1024 * MIB;
const INFLATED: usize = 128 * MIB;

/// Rates in MB/s.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    disk: f64,
    gzip: f64,
    zstd: f64,
    sha256: f64,
}

impl Limits {
    /// Writes a gigabyte to `dir` and syncs it; then inflates and hashes on one thread.
    pub(super) fn measure(dir: &Path) -> Result<Self> {
        let content = Prose::new(42).content(INFLATED);
        let disk = disk(dir, &content[..MIB])?;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&content).context("gzip")?;
        let gzip = gzip.finish().context("gzip")?;
        let zstd = zstd::encode_all(content.as_slice(), 3).context("zstd")?;
        let gzip = drained(flate2::bufread::GzDecoder::new(gzip.as_slice()))?;
        let zstd = drained(zstd::stream::read::Decoder::with_buffer(zstd.as_slice())?)?;
        let start = Instant::now();
        std::hint::black_box(Sha256::digest(&content));
        Ok(Self { disk, gzip, zstd, sha256: rate(INFLATED, start) })
    }
}

fn disk(dir: &Path, piece: &[u8]) -> Result<f64> {
    let path = dir.join("sequential");
    let mut file = File::create(&path).context("make a file")?;
    let start = Instant::now();
    for _ in 0..WRITTEN / piece.len() {
        file.write_all(piece).context("write a file")?;
    }
    file.sync_all().context("sync a file")?;
    let rate = rate(WRITTEN, start);
    std::fs::remove_file(&path).context("remove a file")?;
    Ok(rate)
}

fn drained(mut decoder: impl Read) -> Result<f64> {
    let mut buffer = vec![0; 256 << 10];
    let (mut total, start) = (0, Instant::now());
    loop {
        match decoder.read(&mut buffer).context("inflate")? {
            0 => return Ok(rate(total, start)),
            n => total += n,
        }
    }
}

fn rate(bytes: usize, start: Instant) -> f64 {
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "limits of this machine, MB/s: {:.0} written in sequence and synced; on one core \
             {:.0} inflated from gzip, {:.0} from zstd, {:.0} hashed by sha256",
            self.disk, self.gzip, self.zstd, self.sha256
        )
    }
}
