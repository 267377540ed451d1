//! Large images for measuring how layers are unpacked: content that compresses and inflates as
//! that of programs, libraries and scripts does, and the same bytes every time.

use anyhow::Result;

use super::{Compression, Entry, Image, Layer};

/// Sizes of files in bytes, taken in turn, as in a distribution with an interpreter: 40 KB on
/// average, half of them below 5 KB.
const DISTRIBUTION: [usize; 12] =
    [700, 2_100, 4_096, 900, 12_000, 1_500, 33_000, 5_000, 80_000, 2_800, 250_000, 92_000];
/// Sizes of files in a layer that is one large model or archive.
const MODEL: [usize; 1] = [32 << 20];
const FILES_PER_DIR: usize = 64;

/// A large image.
#[derive(Debug, Clone, Copy)]
pub struct Bulk {
    layers: usize,
    /// Bytes of files, in all layers.
    bytes: usize,
    sizes: &'static [usize],
    compression: Compression,
}

impl Bulk {
    /// Four layers with as many files as a distribution has in that many bytes.
    pub fn distribution(bytes: usize) -> Self {
        Self { layers: 4, bytes, sizes: &DISTRIBUTION, compression: Compression::Gzip }
    }

    /// One layer of a few large files.
    pub fn model(bytes: usize) -> Self {
        Self { layers: 1, bytes, sizes: &MODEL, compression: Compression::Gzip }
    }

    /// Packs the layers this way. Gzip is the default.
    pub fn compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// How many files there are.
    pub fn files(self) -> usize {
        self.sizes_of_layer().len() * self.layers
    }

    /// Bytes that the files take of a disk with blocks of 4 KiB.
    pub fn allocated(self) -> usize {
        const BLOCK: usize = 4096;
        let files = self.sizes_of_layer().into_iter().map(|size| size.next_multiple_of(BLOCK));
        files.sum::<usize>() * self.layers
    }

    /// Makes it. Takes some seconds.
    pub fn build(self) -> Result<Image> {
        let layers = (0..self.layers).map(|number| self.layer(number));
        let image = layers.fold(Image::from_scratch(), super::ImageBuilder::layer);
        image.compression(self.compression).usual_level().build()
    }

    fn sizes_of_layer(self) -> Vec<usize> {
        let mut left = self.bytes / self.layers;
        let sizes = self.sizes.iter().cycle().map_while(|size| {
            let size = (*size).min(left);
            left -= size;
            (size > 0).then_some(size)
        });
        sizes.collect()
    }

    fn layer(self, number: usize) -> Layer {
        let mut prose = Prose::new(number as u64);
        let mut layer = Layer::new().with(Entry::dir(&format!("data{number}")));
        for (file, size) in self.sizes_of_layer().into_iter().enumerate() {
            let dir = format!("data{number}/{:03}", file / FILES_PER_DIR);
            if file % FILES_PER_DIR == 0 {
                layer = layer.with(Entry::dir(&dir));
            }
            layer = layer.with(Entry::file(&format!("{dir}/{file:06}"), prose.content(size)));
        }
        layer
    }
}

/// Short runs of literals, of which some bytes are more frequent than others, between repetitions
/// of any length and distance: about as many symbols for a kilobyte as gzip finds in programs.
#[derive(Debug)]
pub struct Prose(u64);

impl Prose {
    const LENGTHS: [usize; 8] = [4, 5, 6, 8, 12, 20, 32, 64];
    /// Distances go up to gzip's window of 32 KiB, short ones as often as long ones.
    const DISTANCE_BITS: usize = 15;

    /// Another `seed` gives other content of the same kind.
    pub fn new(seed: u64) -> Self {
        // An odd factor, so that no seed gives the generator the state 0.
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next `size` bytes.
    pub fn content(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 64);
        while bytes.len() < size {
            let dice = self.next().to_le_bytes().map(usize::from);
            let literals = (self.next() & self.next()).to_le_bytes();
            bytes.extend_from_slice(&literals[..1 + dice[0] % 8]);
            let length = Self::LENGTHS[dice[1] % Self::LENGTHS.len()];
            let reach = 1 << (dice[2] % (Self::DISTANCE_BITS + 1));
            let back = length + (dice[3] << 8 | dice[4]) % reach;
            if bytes.len() >= back {
                let from = bytes.len() - back;
                bytes.extend_from_within(from..from + length);
            }
        }
        bytes.truncate(size);
        bytes
    }

    /// A small generator (xorshift64): no seed from outside, no dependency.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
