//! A blob for a caller: permission, then the store, a fill under way, or a new fill.

use super::fill::{Ending, Entered, Guest, Opening};
use super::lookup::Asked;
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

/// How far the caller's right to a blob reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Its own GET has to earn it.
    None,
    /// What this registry delivers: a fill of it, not what is stored from elsewhere.
    Here,
    /// Whatever is stored.
    Released,
}

impl Cache {
    /// Finds a blob for the caller, asking its source where permission or bytes are missing. Cancel-safe: what
    /// was started goes on.
    ///
    /// # Errors
    /// What the source answered instead.
    pub async fn blob(&self, caller: &Caller, digest: &Digest) -> Result<BlobFound, Fault> {
        if self.released(caller, digest, Content::Blob).await.is_some() {
            return self.enter(caller, digest, Right::Released).await;
        }
        if let Some(fault) = self.known_missing(caller, digest, Content::Blob) {
            return Err(fault);
        }
        self.enter(caller, digest, Right::None).await
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
        let (proof, _) = self.prove(caller, digest, Content::Blob).await?;
        Ok((proof.size, Outcome::Miss))
    }

    /// Joins, starts or skips the fill, as far as the caller's right reaches.
    async fn enter(&self, caller: &Caller, digest: &Digest, mut right: Right) -> Result<BlobFound, Fault> {
        if right == Right::None {
            right = self.right_by_head(caller, digest).await?;
        }
        loop {
            if right == Right::Released
                && let Some(blob) = self.stored(digest).await
            {
                self.store.catalog().used(digest);
                return Ok(BlobFound::Stored(Stored::new(blob, self, caller), Outcome::Hit));
            }
            // A fill that ends notes its link before it leaves the map, so that nothing is fetched a second time.
            let takes_stored = || match right {
                Right::Released => true,
                Right::Here => false,
                Right::None => self.is_released_now(caller, digest, Content::Blob),
            };
            let asked = Asked::now();
            let entered = self.fills.enter(digest, caller, right != Right::None, takes_stored).await;
            let (fill, opening, outcome) = match entered {
                Err(cause) => {
                    if right == Right::None {
                        self.prove(caller, digest, Content::Blob).await?;
                    }
                    return Ok(BlobFound::Unstorable(cause));
                }
                Ok(Entered::Stored(_)) => {
                    right = Right::Released;
                    continue;
                }
                Ok(Entered::Leaving(fill)) => {
                    fill.gone().await;
                    continue;
                }
                Ok(Entered::UnderWay(fill)) if right != Right::None => {
                    return Ok(BlobFound::Filling(fill, Outcome::Collapsed));
                }
                Ok(Entered::UnderWay(_)) => {
                    let (_, shared) = self.prove(caller, digest, Content::Blob).await?;
                    right = if shared { Right::Released } else { Right::Here };
                    continue;
                }
                Ok(Entered::Leads(fill, opening)) => {
                    self.heed_fill(caller, digest, fill.ending(), opening.clone(), asked);
                    (fill, opening, Outcome::Miss)
                }
                Ok(Entered::SameLead(fill, opening)) => (fill, opening, Outcome::Collapsed),
            };
            if right != Right::None {
                return Ok(BlobFound::Filling(fill, outcome));
            }
            match opening.outcome().await {
                Ok(()) => return Ok(BlobFound::Filling(fill, outcome)),
                // Another source brought the content home before this one was asked: prove it by HEAD.
                Err(fault) if fault.retry == Retry::Again && self.stored(digest).await.is_some() => {
                    let (_, shared) = self.prove(caller, digest, Content::Blob).await?;
                    right = if shared { Right::Released } else { Right::Here };
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// What a HEAD can earn before anything is fetched: the stored content, if it is shared; or the right to what
    /// a mirror will deliver. Where HEAD is refused for its own sake, the caller's own GET will tell.
    async fn right_by_head(&self, caller: &Caller, digest: &Digest) -> Result<Right, Fault> {
        let shared = self.links.are_shared(&caller.place.registry, digest).await;
        let takes_stored = shared && self.stored(digest).await.is_some();
        if !takes_stored && caller.source.decides() {
            return Ok(Right::None);
        }
        match self.prove(caller, digest, Content::Blob).await {
            Ok(_) if takes_stored => Ok(Right::Released),
            Ok(_) => Ok(Right::Here),
            Err(fault) if caller.source.decides() && fault.said.is_about_head() => Ok(Right::None),
            Err(fault) => Err(fault),
        }
    }

    /// What the leading source's answer says of rights is noted at once; that the content is here, only when it
    /// was delivered whole and its digest matched. Both even when the caller has left meanwhile.
    fn heed_fill(&self, caller: &Caller, digest: &Digest, ending: Ending, opening: Opening, asked: Asked) {
        let (cache, caller, digest) = (self.clone(), caller.clone(), *digest);
        tokio::spawn(async move {
            match opening.outcome().await {
                Ok(()) => {
                    if caller.source.decides() {
                        cache.grants.give(&caller.place, &caller.principal, asked.instant);
                    }
                    if ending.verified().await {
                        cache.delivered(&caller, &digest, Content::Blob, None, asked);
                    }
                }
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
