//! The digest reader: a fill's first follower, so that sequential, parallel and resumed fills hash alike.

use std::io;
use std::sync::Arc;

use super::fill::Fill;
use super::plan::{Gone, Seat};
use crate::cache::{Fault, Retry};
use crate::oci::{Digest, Hasher};
use crate::store::Staged;

/// How much is taken at once.
const CHUNK: usize = 256 << 10;

/// Hashes the file as it grows, on blocking threads that read the page cache. Answers the digest and the
/// length in bytes.
pub(super) async fn digest(fill: &Fill) -> Result<(Digest, u64), Fault> {
    let mut hasher = Hasher::new(fill.digest().algorithm());
    let mut at = 0;
    loop {
        let readable = std::future::poll_fn(|cx| fill.readable(at, false, Seat::HASHER, cx)).await;
        let end = readable.map_err(|(Gone::Broken(fault) | Gone::Adrift(fault))| fault)?;
        if end == at {
            return Ok((hasher.finish(), at));
        }
        hasher = hash(hasher, fill.staged().clone(), at, end).await?;
        at = end;
    }
}

/// Takes the bytes from `at` to `end` of a staged file into `hasher`.
pub(super) async fn hash(mut hasher: Hasher, staged: Arc<Staged>, mut at: u64, end: u64) -> Result<Hasher, Fault> {
    let hashed = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; CHUNK];
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            match staged.read_at(at, &mut buffer[..wanted])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    hasher.update(&buffer[..read]);
                    at += read as u64;
                }
            }
        }
        Ok(hasher)
    });
    let hashed: io::Result<Hasher> = hashed.await.unwrap_or_else(|_| Err(io::Error::other("interrupted")));
    hashed.map_err(|cause| Fault::new(Retry::Never, cause))
}
