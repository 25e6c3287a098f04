//! A blob for a caller: permission, then the store, a fill under way, or a new fill.

use super::cache::{Asked, Standing};
use super::fill::{Ending, Entered, Opening, Waiter, says_nothing};
use super::proofs::unproven;
use super::{Cache, Caller, Fault, Proof, Reach, Retry, Said, Stored};
use crate::host::Seldom;
use crate::oci::{Digest, Look};
use crate::store::{self, Blob, Content};
use crate::telemetry::Outcome;

static NO_FILE: Seldom = Seldom::new();

/// Where a blob's bytes come from.
pub enum BlobFound {
    /// The store.
    Stored(Stored, Outcome),
    /// A fill under way. Its length, or what broke it, is to be waited for.
    Filling(Waiter, Outcome),
    /// The store cannot take it: pass it on without keeping it.
    Unstorable {
        /// Why not.
        cause: store::Error,
        /// The caller's right is known: a mirror may bring it. Else the registry's own answer has to prove it.
        known: bool,
    },
}

/// How far the caller's right to a blob reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Its own GET has to earn it.
    None,
    /// What this registry delivers: a fill of it, not what is stored from elsewhere. With a length, in bytes, only
    /// content of that length: the registry said no digest, as a page that answers everything with 200 does not.
    Here(Option<u64>),
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
        let released = self.released(caller, digest, Content::Blob).await;
        let is_good = released.as_ref().is_some_and(|released| released.standing == Standing::Good);
        if is_good && let Some(found) = self.find_stored(caller, digest).await? {
            return Ok(found);
        }
        // Boxed, as whatever comes after a hit is: the future of a hit stays small, of which each connection has one.
        Box::pin(self.blob_at_source(caller, digest, released.map(|released| released.standing))).await
    }

    async fn blob_at_source(
        &self,
        caller: &Caller,
        digest: &Digest,
        standing: Option<Standing>,
    ) -> Result<BlobFound, Fault> {
        let asked = Asked::now();
        if standing == Some(Standing::Good) {
            return self.enter(caller, digest, Right::Released, asked).await;
        }
        if let Some(fault) = self.known_missing(caller, digest, Content::Blob) {
            return Err(fault);
        }
        let right = match self.right_ahead(caller, digest, standing.is_some()).await {
            // It might read lately, and the registry cannot be asked.
            Err(fault) if standing.is_some() => {
                if !self.may_still(caller, &fault).await {
                    return Err(fault);
                }
                Right::Released
            }
            right => right?,
        };
        self.enter(caller, digest, right, asked).await
    }

    /// What HEAD answers for a blob: its length in bytes. Never downloads it.
    ///
    /// # Errors
    /// What the source answered instead.
    pub async fn blob_head(&self, caller: &Caller, digest: &Digest) -> Result<(Option<u64>, Outcome), Fault> {
        let released = self.released(caller, digest, Content::Blob).await;
        let stored = if released.is_some() { self.stored(digest).await? } else { None };
        let (Some(released), Some(blob)) = (released, stored) else {
            let proven = Box::pin(self.prove(caller, digest, Content::Blob)).await;
            return proven.map(|(proof, _)| (proof.size, Outcome::Miss));
        };
        if released.standing < Standing::Good {
            match self.in_time(caller, true, self.right_proven(caller, digest)).await {
                Ok(_) => return Ok((Some(blob.len()), Outcome::Miss)),
                Err(fault) => {
                    if !self.may_still(caller, &fault).await {
                        return Err(fault);
                    }
                }
            }
        }
        self.store.catalog().used(digest);
        Ok((Some(blob.len()), Outcome::Hit))
    }

    /// Joins, starts or skips the fill, as far as the caller's right reaches, which was `asked` about then.
    async fn enter(
        &self,
        caller: &Caller,
        digest: &Digest,
        mut right: Right,
        mut asked: Asked,
    ) -> Result<BlobFound, Fault> {
        let mut again = true;
        loop {
            if right == Right::Released
                && let Some(found) = self.find_stored(caller, digest).await?
            {
                return Ok(found);
            }
            // A fill that ends notes its link before it leaves the map, so that nothing is fetched a second time.
            let takes_stored = || match right {
                Right::Released => true,
                Right::Here(_) => false,
                Right::None => self.is_released_now(caller, digest, Content::Blob),
            };
            if right == Right::None {
                asked = Asked::now();
            }
            let (cache, asker, wanted) = (self.clone(), caller.clone(), *digest);
            let heed = move |ending, opening| cache.heed_fill(asker, wanted, right, ending, opening, asked);
            let entered = self.fills.enter(digest, caller, right != Right::None, takes_stored, heed).await;
            if let Ok(Entered::UnderWay(fill) | Entered::SameSource(fill, _)) = &entered
                && fill.is_opening()
                && caller.source.decides()
                && let Some(absent) = caller.source.absence()
            {
                return Err(absent); // what is being asked was asked before, and nobody waits for that
            }
            let (fill, opening, outcome) = match entered {
                Err(cause) if cause.is_exhausted() => return Err(Fault::new(Retry::Again, cause)),
                Err(cause) => {
                    let known = matches!(right, Right::Released | Right::Here(None));
                    return Ok(BlobFound::Unstorable { cause, known });
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
                    return found(fill, right, Outcome::Collapsed).await;
                }
                // Kept while the registry is asked: were it to end meanwhile, the same bytes would be fetched again.
                Ok(Entered::UnderWay(fill)) => {
                    right = self.right_proven(caller, digest).await?;
                    // What ended it was said to the others: this one has not asked for the bytes yet.
                    if right == Right::Released || fill.length().await.is_err() {
                        continue;
                    }
                    let found = found(fill, right, Outcome::Collapsed).await?;
                    if let BlobFound::Filling(fill, _) = &found {
                        fill.take_part();
                    }
                    return Ok(found);
                }
                Ok(Entered::Started(fill, opening)) => (fill, opening, Outcome::Miss),
                Ok(Entered::SameSource(fill, opening)) => (fill, opening, Outcome::Collapsed),
            };
            if right != Right::None {
                return found(fill, right, outcome).await;
            }
            match opening.outcome().await {
                Ok(_) => return Ok(BlobFound::Filling(fill, outcome)),
                // Another source brought the content home before this one was asked, or its answer is no proof of what
                // others brought: prove it.
                Err(fault) if says_nothing(&fault) => right = self.right_proven(caller, digest).await?,
                // The leader's token may have expired; this one has its own.
                Err(fault) if again && outcome == Outcome::Collapsed && fault.said == Said::Denied => {
                    again = false;
                    asked = Asked::now();
                    right = self.right_proven(caller, digest).await?;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// What a question can earn before anything is fetched: the stored content, if it is shared; or the right to what
    /// a mirror will deliver.
    async fn right_ahead(&self, caller: &Caller, digest: &Digest, lapsed: bool) -> Result<Right, Fault> {
        let shared = self.links.are_shared(&caller.place.registry, digest).await;
        let takes_stored = shared && self.stored(digest).await?.is_some();
        if !takes_stored && caller.source.decides() {
            return Ok(Right::None);
        }
        match self.in_time(caller, lapsed, self.right_proven(caller, digest)).await {
            // The registry's answer to a GET of the whole will tell.
            Err(fault) if fault.said == Said::Refused && caller.source.decides() => Ok(Right::None),
            right => right,
        }
    }

    /// What the registry's word now gives the caller a right to: by HEAD; where that is refused for its own sake, or says
    /// nothing, by a GET of the first byte.
    async fn right_proven(&self, caller: &Caller, digest: &Digest) -> Result<Right, Fault> {
        let right = |(proof, shared): (Proof, bool)| if shared { Ok(Right::Released) } else { right_here(&proof) };
        let by_head = self.prove(caller, digest, Content::Blob).await.and_then(right);
        match by_head {
            Err(fault) if fault.is_about_head() => self.prove_by_first_byte(caller, digest).await.and_then(right),
            right => right,
        }
    }

    /// A no of the leading source is noted at once; a yes, and that the content is here, only when it was delivered
    /// whole and its digest matched: a page that answers everything with 200 says neither. Nor does a page before a
    /// mirror that delivers: of what the registry told nothing but a length, that has to be the content's. The fill is
    /// not over before this is, so that whoever comes next finds the link.
    async fn heed_fill(
        self,
        caller: Caller,
        digest: Digest,
        right: Right,
        ending: Ending,
        opening: Opening,
        asked: Asked,
    ) {
        match opening.outcome().await {
            Ok(reach) => match (right, ending.verified().await) {
                (_, None) => {}
                (Right::Released, _) if !caller.source.decides() => {} // there is a link, and this is no new word
                (Right::Here(Some(told)), Some(length)) if !caller.source.decides() => {
                    if told == length {
                        self.vouched(&caller, &digest, Content::Blob, None, true, (Reach::Content, asked));
                    }
                }
                (_, Some(_)) => self.delivered(&caller, &digest, Content::Blob, None, (reach, asked)),
            },
            Err(fault) => {
                self.heed(&caller, &fault);
                self.note_missing(&caller, &digest, Content::Blob, &fault);
            }
        }
    }

    async fn find_stored(&self, caller: &Caller, digest: &Digest) -> Result<Option<BlobFound>, Fault> {
        let Some(blob) = self.stored(digest).await? else { return Ok(None) };
        self.store.catalog().used(digest);
        Ok(Some(BlobFound::Stored(Stored::new(blob, self, caller), Outcome::Hit)))
    }

    /// The committed blob; one that the catalog does not know is hashed first. For want of a file descriptor the
    /// registry is not asked instead: that would take another one.
    async fn stored(&self, digest: &Digest) -> Result<Option<Blob>, Fault> {
        match self.store.find(digest).await {
            Ok(found) => Ok(found),
            Err(error) if error.is_exhausted() => {
                if NO_FILE.is_due() {
                    tracing::warn!(%digest, %error, reason = "files", "cannot open blobs: too many files are open");
                }
                Err(Fault::new(Retry::Again, error))
            }
            Err(error) => {
                tracing::error!(%digest, %error, "cannot read a cached blob; the registry is asked instead");
                Ok(None)
            }
        }
    }
}

/// A registry that says neither the digest nor a length has shown nothing; nor has one that says a length as pages do.
fn right_here(proof: &Proof) -> Result<Right, Fault> {
    match (proof.digest, proof.size) {
        (Some(_), _) => Ok(Right::Here(None)),
        (None, Some(size)) if proof.look() == Look::Content => Ok(Right::Here(Some(size))),
        (None, _) => Err(unproven()),
    }
}

/// The fill for who has that `right`, once it is known that it reaches so far.
async fn found(fill: Waiter, right: Right, outcome: Outcome) -> Result<BlobFound, Fault> {
    if let Right::Here(Some(size)) = right
        && fill.length().await? != Some(size)
    {
        return Err(unproven());
    }
    Ok(BlobFound::Filling(fill, outcome))
}
