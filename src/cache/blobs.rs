//! A blob for a caller: permission, then the store, a fill under way, or a new fill.

use super::fill::{Entered, Guest, Opening};
use super::{Cache, Caller, Fault, Retry, Stored};
use crate::oci::Digest;
use crate::store::{self, Blob, Content};
use crate::telemetry::Outcome;

/// Where a blob's bytes come from.
pub enum BlobFound {
    /// The store.
    Stored(Stored, Outcome),
    /// A fill under way. Its length, or what broke it, is to be waited for.
    Filling(Guest, Outcome),
    /// The store cannot take it: pass it on without keeping it.
    Unstorable(store::Error),
}

impl Cache {
    /// Finds a blob for the caller, asking its source where permission or bytes are missing. Cancel-safe: what
    /// was started goes on.
    ///
    /// # Errors
    /// What the source answered instead.
    pub async fn blob(&self, caller: &Caller, digest: &Digest) -> Result<BlobFound, Fault> {
        if self.released(caller, digest, Content::Blob).await.is_some() {
            return self.enter(caller, digest, true).await;
        }
        if let Some(fault) = self.known_missing(caller, digest, Content::Blob) {
            return Err(fault);
        }
        self.enter(caller, digest, false).await
    }

    /// What HEAD answers for a blob: its length in bytes. Never downloads it.
    ///
    /// # Errors
    /// What the source answered instead.
    pub async fn blob_head(&self, caller: &Caller, digest: &Digest) -> Result<(Option<u64>, Outcome), Fault> {
        if self.released(caller, digest, Content::Blob).await.is_some()
            && let Some(blob) = self.stored(digest).await
        {
            self.store.catalog().used(digest);
            return Ok((Some(blob.len()), Outcome::Hit));
        }
        let proof = self.prove(caller, digest, Content::Blob).await?;
        Ok((proof.size, Outcome::Miss))
    }

    /// Joins, starts or skips the fill. Without permission, the caller's own source must open or prove first.
    async fn enter(&self, caller: &Caller, digest: &Digest, permitted: bool) -> Result<BlobFound, Fault> {
        let mut permitted = permitted;
        // Stored, but given to another registry's credentials only: this one must deliver it itself.
        let anew = !permitted && !self.links.are_shared(&caller.place.registry, digest).await;
        if !permitted && !anew && self.stored(digest).await.is_some() {
            self.prove(caller, digest, Content::Blob).await?;
            permitted = true;
        }
        loop {
            if permitted && let Some(blob) = self.stored(digest).await {
                self.store.catalog().used(digest);
                return Ok(BlobFound::Stored(Stored::new(blob, self, caller), Outcome::Hit));
            }
            let (fill, opening, outcome) = match self.fills.enter(digest, caller, permitted, anew && !permitted) {
                Err(cause) => {
                    if !permitted {
                        self.prove(caller, digest, Content::Blob).await?;
                    }
                    return Ok(BlobFound::Unstorable(cause));
                }
                Ok(Entered::Leaving(fill)) => {
                    fill.gone().await;
                    continue;
                }
                Ok(Entered::UnderWay(fill)) if permitted => return Ok(BlobFound::Filling(fill, Outcome::Collapsed)),
                Ok(Entered::Stored(_)) if permitted => continue,
                Ok(Entered::Stored(_) | Entered::UnderWay(_)) => {
                    self.prove(caller, digest, Content::Blob).await?;
                    permitted = true;
                    continue;
                }
                Ok(Entered::Leads(fill, opening)) => {
                    self.heed_opening(caller, digest, opening.clone());
                    (fill, opening, Outcome::Miss)
                }
                Ok(Entered::SameLead(fill, opening)) => (fill, opening, Outcome::Collapsed),
            };
            if permitted {
                return Ok(BlobFound::Filling(fill, outcome));
            }
            match opening.outcome().await {
                Ok(()) => {
                    self.proven(caller, digest, Content::Blob, None);
                    return Ok(BlobFound::Filling(fill, outcome));
                }
                // Another source brought the content home before this one was asked: prove it by HEAD.
                Err(fault) if fault.retry == Retry::Again && self.stored(digest).await.is_some() => {
                    self.prove(caller, digest, Content::Blob).await?;
                    permitted = true;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// What the leading source's own answer proves is noted even when its caller has left meanwhile.
    fn heed_opening(&self, caller: &Caller, digest: &Digest, opening: Opening) {
        let (cache, caller, digest) = (self.clone(), caller.clone(), *digest);
        tokio::spawn(async move {
            match opening.outcome().await {
                Ok(()) => cache.proven(&caller, &digest, Content::Blob, None),
                Err(fault) => {
                    cache.heed(&caller, &fault);
                    cache.note_missing(&caller, &digest, Content::Blob, &fault);
                }
            }
        });
    }

    /// The committed blob; one that the catalog does not know is hashed first.
    async fn stored(&self, digest: &Digest) -> Option<Blob> {
        match self.store.find(digest).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%digest, %error, "a stored blob cannot be read; the registry is asked instead");
                None
            }
        }
    }
}
