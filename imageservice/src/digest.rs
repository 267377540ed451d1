//! Content digests: parsing what others promise, and computing what came.
//!
//! A digest becomes part of paths and URLs, so only the two registered algorithms of the OCI image
//! specification ("Digests") in their exact lower-case form exist as values of this type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// `sha256:` or `sha512:` and lower-case hex of the right length.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// The hash functions of the OCI image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Digest {
    /// The digest of bytes in memory, by sha256.
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hex digits after the colon.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The whole text, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha512:") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// Whether these bytes have this digest, and if not, the digest that they have.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), Self> {
        let mut hasher = Hasher::new(self.algorithm());
        hasher.update(bytes);
        let got = hasher.finish();
        if got == *self { Ok(()) } else { Err(got) }
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, hex) = text.split_once(':').ok_or("a digest is algorithm:hex")?;
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err("the digest algorithm must be sha256 or sha512"),
        };
        if hex.len() != length || !is_lower_hex(hex) {
            return Err("a digest needs all of its hex digits, in lower case");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the text is hex digits in lower case and nothing else.
pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A digest under computation.
#[derive(Debug, Clone)]
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(match self {
            Self::Sha256(hasher) => format!("sha256:{}", hex::encode(hasher.finalize())),
            Self::Sha512(hasher) => format!("sha512:{}", hex::encode(hasher.finalize())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_exact_digests_parse() {
        assert!(EMPTY.parse::<Digest>().is_ok());
        assert!(format!("sha512:{}", "0".repeat(128)).parse::<Digest>().is_ok());
        for bad in [
            "",
            "sha256:",
            "sha256:abc",
            &EMPTY.to_uppercase(),
            &format!("{EMPTY}0"),
            &format!("sha256:../{}", &EMPTY[10..]),
            &format!("md5:{}", "0".repeat(32)),
            &format!("sha512:{}", "0".repeat(64)),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn check_tells_the_digest_that_came() {
        let empty: Digest = EMPTY.parse().unwrap();
        assert_eq!(empty.check(b""), Ok(()));
        assert_eq!(empty.check(b"x"), Err(Digest::sha256(b"x")));
        let long = Digest::try_from(format!("sha512:{}", "0".repeat(128))).unwrap();
        assert!(long.check(b"").unwrap_err().as_str().starts_with("sha512:cf83e1357eefb8bd"));
    }
}
