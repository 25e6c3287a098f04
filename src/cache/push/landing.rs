//! Holds what has landed of one push: a staged file, and the hash of its bytes. All of it may wait for the disk.

use bytes::Bytes;

use super::room::UploadShare;
use crate::cache::fill::hashing::ContentHash;
use crate::cache::mismatch::Mismatch;
use crate::oci::{Algorithm, Digest, MANIFEST_LIMIT};
use crate::store::{Blob, Checksums, Error, Staged, Store};

/// Read at once where the bytes are hashed a second time.
const CHUNK: usize = 256 << 10;

/// The first bytes of a push, without a gap. Its file is removed when it is dropped.
pub struct Landing {
    store: Store,
    /// Made for the first byte.
    staged: Option<Staged>,
    algorithm: Algorithm,
    hash: ContentHash,
    length: u64,
    /// It may have so many bytes.
    most: u64,
    share: UploadShare,
}

/// What landed is not what the registry accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// The registry accepted another content than came.
    #[error("the pushed bytes have the digest {}, and the registry accepted {}", .0.found, .0.wanted)]
    Mismatch(Box<Mismatch>),
    /// There is no room for it before it is accepted.
    #[error("there is no room for it in the cache before the registry accepts it")]
    NoRoom,
    /// It cannot be stored.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Landing {
    /// Nothing yet, and at most so many bytes to come; the content will be named by a digest of this algorithm, most likely.
    pub(crate) fn new(store: Store, share: UploadShare, algorithm: Algorithm, most: u64) -> Self {
        Self { store, staged: None, algorithm, hash: ContentHash::new(algorithm), length: 0, most, share }
    }

    /// How many bytes have landed.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Writes and hashes the next bytes.
    ///
    /// # Errors
    /// [`NotKept`]: then the rest is not worth taking.
    pub(crate) fn take(&mut self, pieces: &[Bytes]) -> Result<(), NotKept> {
        let more = pieces.iter().map(|piece| piece.len() as u64).sum();
        if self.length.saturating_add(more) > self.most || !self.share.grow(more) {
            return Err(NotKept::NoRoom);
        }
        let staged = match &self.staged {
            Some(staged) => staged,
            None => self.staged.insert(self.store.stage_unnamed()?),
        };
        for piece in pieces {
            staged.write_at(self.length, piece)?;
            self.hash.update(piece);
            self.length += piece.len() as u64;
        }
        Ok(())
    }

    /// Publishes it as the blob that the registry accepted.
    ///
    /// # Errors
    /// [`NotKept`]: nothing is kept.
    pub(crate) fn commit(self, accepted: &Digest) -> Result<Blob, NotKept> {
        let Self { store, staged, algorithm, hash, length, share: _held, .. } = self;
        let staged = match staged {
            Some(staged) => staged,
            None => store.stage_unnamed()?, // of an empty content
        };
        let (found, checksums) = match algorithm == accepted.algorithm() {
            true => hash.finish(),
            false => hashed_again(&staged, accepted.algorithm(), length)?,
        };
        if found != *accepted {
            return Err(NotKept::Mismatch(Box::new(Mismatch { wanted: *accepted, found })));
        }
        Ok(staged.commit_as(accepted, checksums)?)
    }

    /// All of a manifest; `None` where it is too long for one, or cannot be read.
    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.length).ok().filter(|length| *length <= MANIFEST_LIMIT)?;
        let mut bytes = vec![0; length];
        let mut at = 0;
        while at < length {
            match self.staged.as_ref()?.read_at(at as u64, &mut bytes[at..]) {
                Ok(read) if read > 0 => at += read,
                _ => return None,
            }
        }
        Some(bytes)
    }
}

/// The same bytes under another algorithm: its client began the upload without saying which.
fn hashed_again(staged: &Staged, algorithm: Algorithm, length: u64) -> Result<(Digest, Checksums), Error> {
    let (mut hash, mut at) = (ContentHash::new(algorithm), 0);
    let mut buffer = vec![0; CHUNK];
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(CHUNK).min(CHUNK);
        let read = staged.read_at(at, &mut buffer[..wanted]).map_err(|source| staged.unreadable(source))?;
        if read == 0 {
            break; // the length will not match
        }
        hash.update(&buffer[..read]);
        at += read as u64;
    }
    Ok(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::super::room::Room;
    use super::*;
    use crate::host::{Percent, Size};
    use crate::store::Config;

    #[test]
    fn what_landed_in_pieces_is_committed_under_its_own_digest_of_any_algorithm_and_under_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
        let store = Store::open(&config).unwrap();
        let (bytes, room) = (vec![7; 100_000], Room::new(store.clone()));
        for (begun, named) in [
            (Algorithm::Sha256, Algorithm::Sha256),
            (Algorithm::Sha256, Algorithm::Sha512),
            (Algorithm::Sha512, Algorithm::Sha256),
        ] {
            for content in [&bytes[..], b""] {
                let mut landing = Landing::new(store.clone(), room.share(), begun, 1 << 20);
                for piece in content.chunks(30_000) {
                    landing.take(&[Bytes::copy_from_slice(piece)]).unwrap();
                }
                let digest = Digest::of(named, content);
                assert_eq!(landing.commit(&digest).unwrap().len(), content.len() as u64);
                assert_eq!(store.read_whole(&digest, 1 << 20).unwrap().unwrap(), content);
            }
        }
        let mut landing = Landing::new(store.clone(), room.share(), Algorithm::Sha256, 1 << 20);
        landing.take(&[Bytes::from_static(b"one")]).unwrap();
        let other = Digest::of(Algorithm::Sha256, b"other");
        assert!(matches!(landing.commit(&other), Err(NotKept::Mismatch(_))));
        assert!(store.read_whole(&other, 10).unwrap().is_none());
        assert_eq!(std::fs::read_dir(folder.path().join("cache/fills")).unwrap().count(), 0);
        store.close();
    }
}
