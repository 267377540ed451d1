//! A large image for measuring pulls: several layers, many files, content that compresses
//! about as well as programs and libraries do, and the same bytes every time.

use anyhow::Result;

use super::{Entry, Image, Layer};

const LAYERS: usize = 4;
/// Sizes of files in bytes, taken in turn: many small ones, a few large, as in a distribution.
const SIZES: [usize; 12] =
    [700, 2_100, 4_096, 900, 12_000, 1_500, 33_000, 5_000, 80_000, 2_800, 250_000, 1_100_000];
const FILES_PER_DIR: usize = 64;

/// An image whose layers hold about `bytes` of files, with busybox below them. Another `number`
/// gives other content of the same kind.
pub fn big(bytes: usize, number: u64) -> Result<Image> {
    // An odd factor, so that no number gives the generator the state 0.
    let mut noise = Noise((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let layers = (0..LAYERS).map(|number| layer(number, bytes / LAYERS, &mut noise));
    layers.fold(Image::busybox()?, super::ImageBuilder::layer).build()
}

fn layer(number: usize, bytes: usize, noise: &mut Noise) -> Layer {
    let mut layer = Layer::new().with(Entry::dir(&format!("data{number}")));
    let mut left = bytes;
    for file in 0.. {
        if left == 0 {
            break;
        }
        let dir = format!("data{number}/{:03}", file / FILES_PER_DIR);
        if file % FILES_PER_DIR == 0 {
            layer = layer.with(Entry::dir(&dir));
        }
        let size = SIZES[file % SIZES.len()].min(left);
        layer = layer.with(Entry::file(&format!("{dir}/{file:06}"), noise.content(size)));
        left -= size;
    }
    layer
}

/// A small generator (xorshift64): no seed from outside, no dependency.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Half noise, half repetition of what stood shortly before.
    fn content(&mut self, size: usize) -> Vec<u8> {
        const PIECE: usize = 64;
        let mut bytes = Vec::with_capacity(size + PIECE);
        while bytes.len() < size {
            let word = self.next();
            let back = PIECE + (word >> 32) as usize % 4096;
            if word.is_multiple_of(2) && bytes.len() >= back {
                let from = bytes.len() - back;
                bytes.extend_from_within(from..from + PIECE);
            } else {
                (0..PIECE / 8).for_each(|_| bytes.extend(self.next().to_le_bytes()));
            }
        }
        bytes.truncate(size);
        bytes
    }
}
