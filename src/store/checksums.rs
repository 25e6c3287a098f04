//! Checks every read of a blob without its digest, by a checksum of each 64 KiB: crc32c (CRC-32/ISCSI).
//!
//! A disk reads 64 KiB at little more than the cost of less, 4 bytes for such a granule are 1/16384 of the blob, and a
//! small range checks only the granules that it touches.

use std::sync::Arc;

use crc_fast::{CrcAlgorithm, crc32_iscsi};

use crate::oci::Digest;

/// The bytes that one checksum covers. The last granule of a blob may be shorter.
pub(crate) const GRANULE: u64 = 64 << 10;

/// Computes the checksums of content that is read from its first byte to its last. The same bytes are fed to the
/// digest, so that the checksums vouch for what was verified.
#[derive(Clone, Debug)]
pub struct Checksums {
    done: Vec<u32>,
    /// The checksum of the granule that is not complete.
    open: crc_fast::Digest,
    length: u64,
}

impl Checksums {
    /// Starts with nothing read.
    #[must_use]
    pub fn new() -> Self {
        Self { done: Vec::new(), open: crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi), length: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(GRANULE - self.length % GRANULE).unwrap_or(bytes.len());
            let (some, rest) = bytes.split_at(room.min(bytes.len()));
            self.open.update(some);
            self.length += some.len() as u64;
            if self.length.is_multiple_of(GRANULE) {
                self.close_granule();
            }
            bytes = rest;
        }
    }

    fn close_granule(&mut self) {
        self.done.push(self.open.finalize_reset() as u32); // crc32c in 64 bits
    }

    /// The number of bytes read so far.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no caller asks; 0 is a length like any other")]
    pub fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn finish(mut self) -> Sums {
        if !self.length.is_multiple_of(GRANULE) {
            self.close_granule();
        }
        Sums(self.done.into())
    }
}

impl Default for Checksums {
    fn default() -> Self {
        Self::new()
    }
}

/// A blob's checksums, in order. Clones share one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sums(Arc<[u32]>);

impl Sums {
    /// Whether `bytes` are the granule with this number.
    pub(crate) fn is_good(&self, granule: u64, bytes: &[u8]) -> bool {
        let sum = usize::try_from(granule).ok().and_then(|granule| self.0.get(granule));
        sum.is_some_and(|sum| *sum == crc32_iscsi(bytes))
    }

    /// Whether the number of checksums fits a blob of this length.
    pub(crate) fn fits(&self, length: u64) -> bool {
        self.0.len() as u64 == length.div_ceil(GRANULE)
    }

    /// The memory that they take, in bytes.
    pub(crate) fn weight(&self) -> u32 {
        u32::try_from(self.0.len() * 4 + 128).unwrap_or(u32::MAX)
    }

    /// Encodes them for the catalog: 4 bytes each, the least significant first.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|sum| sum.to_le_bytes()).collect()
    }

    /// Decodes the result of [`Sums::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let four = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        Self(bytes.chunks(4).map(four).collect())
    }
}

/// The error of a read of a damaged blob, inside an [`std::io::Error`]. Everything read before, at positions below
/// `at`, was checked and is right. The bytes from `at` on must be fetched from the registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{digest} is damaged on the disk at byte {at} or after it")]
pub struct Damaged {
    /// The blob.
    pub digest: Digest,
    /// The position of the failed read, in bytes.
    pub at: u64,
}

impl Damaged {
    /// The damage inside the error of a read, if there is any.
    #[must_use]
    pub fn of(error: &std::io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn however_the_bytes_come_the_sums_are_those_of_the_granules(
            length in 0..300_000_usize,
            cuts in prop::collection::vec(1..100_000_usize, 1..8),
        ) {
            let content: Vec<u8> = (0..length).map(|at| ((at * 31) >> 3) as u8).collect();
            let mut sums = Checksums::new();
            let (mut at, mut cut) = (0, cuts.iter().cycle());
            while at < length {
                let to = (at + cut.next().unwrap()).min(length);
                sums.update(&content[at..to]);
                at = to;
            }
            let sums = sums.finish();
            prop_assert!(sums.fits(length as u64));
            for (granule, bytes) in (0..).zip(content.chunks(GRANULE as usize)) {
                prop_assert!(sums.is_good(granule, bytes));
                let mut flipped = bytes.to_vec();
                flipped[bytes.len() / 2] ^= 1;
                prop_assert!(!sums.is_good(granule, &flipped));
            }
            let known = crc32_iscsi(b"123456789");
            prop_assert_eq!(known, 0xe306_9283, "this is crc32c, whoever computes it: it lies on disks");
            prop_assert_eq!(Sums::decode(&sums.encode()), sums);
        }
    }
}
