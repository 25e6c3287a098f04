//! Defines a digest, the name of content by its hash, and the hasher that computes it.
//!
//! Only sha256 and sha512 exist here (image-spec, "Registered algorithms"). A digest of another algorithm does not parse,
//! so content that cannot be verified cannot enter the cache.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 64 hexadecimal digits.
    Sha256,
    /// SHA-512, 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// The name before the colon, and of the folder under `blobs/`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// The digest of some content: `sha256:<64 hex>` or `sha512:<128 hex>`, lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 64], // a shorter digest leaves zeros behind it, so that equality holds
}

impl Digest {
    /// The digest of `content` under `algorithm`.
    #[must_use]
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal part, which is the file name in an OCI image layout.
    #[must_use]
    pub fn hex(&self) -> String {
        self.write_hex(&mut [0; 128]).to_owned()
    }

    /// Writes hexadecimal digits without `{:02x}`: a hit writes its digest three times, which took a quarter of its CPU time.
    fn write_hex<'a>(&self, text: &'a mut [u8; 128]) -> &'a str {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let bytes = &self.bytes[..self.algorithm.length()];
        for (digits, byte) in text.chunks_exact_mut(2).zip(bytes) {
            digits[0] = DIGITS[usize::from(byte >> 4)];
            digits[1] = DIGITS[usize::from(byte & 15)];
        }
        std::str::from_utf8(&text[..bytes.len() * 2]).unwrap_or_default()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        f.write_str(":")?;
        f.write_str(self.write_hex(&mut [0; 128]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a digest that this program can verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: expected sha256:<64 hex digits> or sha512:<128 hex digits>, in lower case")]
pub struct BadDigest;

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let (name, hex) = text.split_once(':').ok_or(BadDigest)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(BadDigest),
        };
        let hex = hex.as_bytes();
        if hex.len() != algorithm.length() * 2 {
            return Err(BadDigest);
        }
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self { algorithm, bytes })
    }
}

fn nibble(digit: u8) -> Result<u8, BadDigest> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(BadDigest),
    }
}

/// Computes a digest over bytes that arrive in pieces.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// Under SHA-256.
    Sha256(Sha256),
    /// Under SHA-512.
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// A hasher without input.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Box::new(Sha512::new())),
        }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all input.
    #[must_use]
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 64];
        match self {
            Self::Sha256(hasher) => {
                bytes[..32].copy_from_slice(&hasher.finalize());
                Digest { algorithm: Algorithm::Sha256, bytes }
            }
            Self::Sha512(hasher) => {
                bytes.copy_from_slice(&hasher.finalize());
                Digest { algorithm: Algorithm::Sha512, bytes }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_empty_digest_is_known() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), EMPTY);
    }

    #[test]
    fn what_is_not_a_digest_is_refused() {
        let upper = EMPTY.to_uppercase();
        let texts = ["", "sha256", "sha256:", "md5:00", "sha256:zz", &EMPTY[..70], &upper, "sha256:../../etc/passwd"];
        for text in texts {
            assert_eq!(text.parse::<Digest>(), Err(BadDigest), "{text}");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_parsed(content: Vec<u8>, long: bool) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let digest = Digest::of(algorithm, &content);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = text.parse::<Digest>();
        }
    }
}
