//! A blob for a caller: permission, then the store, a fill under way, or a new fill.

use std::sync::Arc;

use super::fill::{Entered, Fill, Opening};
use super::{Cache, Fault, Place, Principal, Retry, Source};
use crate::oci::Digest;
use crate::store::{self, Blob, Content};
use crate::telemetry::Outcome;

/// Where a blob's bytes come from.
pub enum BlobFound {
    /// The store.
    Stored(Blob, Outcome),
    /// A fill under way. Its length, or what broke it, is to be waited for.
    Filling(Arc<Fill>, Outcome),
    /// The store cannot take it: pass it on without keeping it.
    Unstorable(store::Error),
}

impl Cache {
    /// Finds a blob for `principal`, asking `source` where permission or bytes are missing. Cancel-safe: what
    /// was started goes on.
    ///
    /// # Errors
    /// What the source answered instead.
    pub async fn blob(
        &self,
        place: &Place,
        digest: &Digest,
        principal: &Principal,
        source: Arc<dyn Source>,
    ) -> Result<BlobFound, Fault> {
        if self.released(place, digest, Content::Blob, principal).await.is_some() {
            return self.enter(place, digest, principal, true, &source).await;
        }
        if let Some(fault) = self.known_missing(place, digest, Content::Blob, principal) {
            return Err(fault);
        }
        if self.stored(digest).await.is_some() && self.links.are_shared(&place.registry, digest).await {
            self.prove(place, digest, Content::Blob, principal, &source).await?;
            return self.enter(place, digest, principal, true, &source).await;
        }
        self.enter(place, digest, principal, false, &source).await
    }

    /// What HEAD answers for a blob: its length in bytes. Never downloads it.
    ///
    /// # Errors
    /// What the source answered instead.
    pub async fn blob_head(
        &self,
        place: &Place,
        digest: &Digest,
        principal: &Principal,
        source: Arc<dyn Source>,
    ) -> Result<(Option<u64>, Outcome), Fault> {
        if self.released(place, digest, Content::Blob, principal).await.is_some() {
            if let Some(blob) = self.stored(digest).await {
                self.store.catalog().used(digest);
                return Ok((Some(blob.len()), Outcome::Hit));
            }
        }
        let proof = self.prove(place, digest, Content::Blob, principal, &source).await?;
        Ok((proof.size, Outcome::Miss))
    }

    /// Joins, starts or skips the fill. Without permission, the caller's own source must open or prove first.
    async fn enter(
        &self,
        place: &Place,
        digest: &Digest,
        principal: &Principal,
        permitted: bool,
        source: &Arc<dyn Source>,
    ) -> Result<BlobFound, Fault> {
        let mut permitted = permitted;
        // Stored, but given to another registry's credentials only: this one must deliver it itself.
        let anew = !permitted && !self.links.are_shared(&place.registry, digest).await;
        loop {
            if permitted && let Some(blob) = self.stored(digest).await {
                self.store.catalog().used(digest);
                return Ok(BlobFound::Stored(blob, Outcome::Hit));
            }
            let entered = self.fills.enter(digest, place, principal, permitted, anew && !permitted, source.clone());
            let (fill, opening, outcome) = match entered {
                Err(cause) => {
                    if !permitted {
                        self.prove(place, digest, Content::Blob, principal, source).await?;
                    }
                    return Ok(BlobFound::Unstorable(cause));
                }
                Ok(Entered::UnderWay(fill)) if permitted => return Ok(BlobFound::Filling(fill, Outcome::Collapsed)),
                Ok(Entered::Stored(_)) if permitted => continue,
                Ok(Entered::Stored(_) | Entered::UnderWay(_)) => {
                    self.prove(place, digest, Content::Blob, principal, source).await?;
                    permitted = true;
                    continue;
                }
                Ok(Entered::Leads(fill, opening)) => {
                    self.heed_opening(place, digest, principal, opening.clone());
                    (fill, opening, Outcome::Miss)
                }
                Ok(Entered::SameLead(fill, opening)) => (fill, opening, Outcome::Collapsed),
            };
            if permitted {
                return Ok(BlobFound::Filling(fill, outcome));
            }
            match opening.outcome().await {
                Ok(()) => {
                    self.proven(place, digest, Content::Blob, principal, None);
                    return Ok(BlobFound::Filling(fill, outcome));
                }
                // Another source brought the content home before this one was asked: prove it by HEAD.
                Err(fault) if fault.retry == Retry::Again && self.stored(digest).await.is_some() => {
                    self.prove(place, digest, Content::Blob, principal, source).await?;
                    permitted = true;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// What the leading source's own answer proves is noted even when its caller has left meanwhile.
    fn heed_opening(&self, place: &Place, digest: &Digest, principal: &Principal, opening: Opening) {
        let (cache, place, digest, principal) = (self.clone(), place.clone(), *digest, principal.clone());
        tokio::spawn(async move {
            match opening.outcome().await {
                Ok(()) => cache.proven(&place, &digest, Content::Blob, &principal, None),
                Err(fault) => {
                    cache.heed(&place, &principal, &fault);
                    cache.note_missing(&place, &digest, Content::Blob, &principal, &fault);
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
