//! The digest reader: a fill's first follower, so that sequential, parallel and resumed fills hash alike.

use std::io;

use crate::cache::fill::fill::Fill;
use crate::cache::fill::plan::demand::ReaderId;
use crate::cache::fill::plan::phase::Gone;
use crate::cache::{Fault, Retry};
use crate::oci::{Algorithm, Digest, Hasher};
use crate::store::Checksums;

/// How much is taken at once.
const CHUNK: usize = 256 << 10;

/// How much is hashed before it is asked again whether to go on.
const STRETCH: u64 = 16 << 20;

/// What is computed over the bytes in order: the digest, and what the store keeps to recognise damage.
pub(crate) struct ContentHash {
    hasher: Hasher,
    checksums: Checksums,
}

impl ContentHash {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self { hasher: Hasher::new(algorithm), checksums: Checksums::new() }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.checksums.update(bytes);
    }

    pub(crate) fn finish(self) -> (Digest, Checksums) {
        (self.hasher.finish(), self.checksums)
    }
}

/// Reads the file as it grows, on blocking threads that read the page cache.
pub(crate) async fn prove(fill: &Fill) -> Result<(Digest, Checksums), Fault> {
    let mut hash = ContentHash::new(fill.digest().algorithm());
    let mut at = 0;
    loop {
        let readable = std::future::poll_fn(|cx| fill.readable(at, false, ReaderId::HASHER, cx)).await;
        let end = readable.map_err(|(Gone::Broken(fault) | Gone::Detached(fault))| fault)?;
        if end == at {
            return Ok(hash.finish());
        }
        let end = end.min(at + STRETCH);
        hash = take(hash, fill, at, end).await?;
        at = end;
    }
}

/// Takes the bytes from `at` to `end` of a fill's file into `hash`.
pub(crate) async fn take(mut hash: ContentHash, fill: &Fill, mut at: u64, end: u64) -> Result<ContentHash, Fault> {
    let staged = fill.staged().handle();
    let taken = fill.tasks().spawn_blocking(move || {
        let mut buffer = vec![0; CHUNK];
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            match staged.read_at(at, &mut buffer[..wanted])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    hash.update(&buffer[..read]);
                    at += read as u64;
                }
            }
        }
        Ok(hash)
    });
    let taken: io::Result<ContentHash> = taken.await.unwrap_or_else(|_| Err(io::Error::other("interrupted")));
    taken.map_err(|cause| Fault::new(Retry::Never, cause))
}
