//! Finds a blob for a caller: permission first, then the store, a fill under way, or a new fill.

use std::sync::Arc;

use super::caller::{Caller, Requester};
use super::fill::{Ending, Entered, Fills, Opening, Waiter, says_nothing};
use super::missing::Missing;
use super::proofs::{Proofs, unproven};
use super::refusals::Refusals;
use super::rights::asked_at::AskedAt;
use super::rights::rights::{Rights, Yes};
use super::rights::trust::Permission;
use super::source::{Fault, Proof, Reach, Retry, Said, Subject};
use super::stored::Stored;
use super::together::is_the_leaders;
use crate::host::LogThrottle;
use crate::oci::{Digest, Look};
use crate::store::{self, Blob, Content, Store};
use crate::telemetry::Outcome;

static NO_FILE: LogThrottle = LogThrottle::new();

/// Where a blob's bytes come from.
pub enum BlobFound {
    /// The store.
    Stored(Stored, Outcome),
    /// A fill under way. The caller waits for its length, or for what broke it.
    Filling(Waiter, Outcome),
    /// The store cannot take it: pass it on without keeping it.
    Unstorable {
        /// Why not.
        cause: store::Error,
        /// The caller's right is known: a mirror may bring it. Else the registry's own answer has to prove it.
        known: bool,
    },
}

/// Finds blobs by digest.
pub(crate) struct BlobLookup {
    rights: Arc<Rights>,
    refusals: Arc<Refusals>,
    proofs: Arc<Proofs>,
    fills: Arc<Fills>,
    missing: Missing<(Digest, Content)>,
    store: Store,
}

/// How far the caller's right to a blob reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Its own GET has to earn it.
    None,
    /// What this registry delivers: a fill of it, not what is stored from elsewhere. With a length, in bytes, only
    /// content of that length: the registry said no digest, as a page that answers everything with 200 does not.
    Here(Option<u64>),
    /// Any stored content.
    Released,
}

impl BlobLookup {
    pub(crate) fn new(
        rights: Arc<Rights>,
        refusals: Arc<Refusals>,
        proofs: Arc<Proofs>,
        fills: Arc<Fills>,
        missing: Missing<(Digest, Content)>,
        store: Store,
    ) -> Self {
        Self { rights, refusals, proofs, fills, missing, store }
    }

    /// As [`Cache::blob`](super::Cache::blob).
    pub(crate) async fn find(
        self: &Arc<Self>,
        requester: &impl Requester,
        digest: &Digest,
    ) -> Result<BlobFound, Fault> {
        let released = self.rights.released(requester.reader(), digest, Content::Blob).await;
        let is_good = released.as_ref().is_some_and(|released| released.permission == Permission::Good);
        if is_good && let Some(found) = self.find_stored(requester, digest).await? {
            return Ok(found);
        }
        // Boxed, as all that follows a hit is: each connection holds the future of one hit, which stays small.
        Box::pin(self.at_source(requester.caller(), digest, released.map(|released| released.permission))).await
    }

    async fn at_source(
        self: &Arc<Self>,
        caller: &Caller,
        digest: &Digest,
        permission: Option<Permission>,
    ) -> Result<BlobFound, Fault> {
        let asked = AskedAt::now();
        if permission == Some(Permission::Good) {
            return self.enter(caller, digest, Right::Released, asked).await;
        }
        if let Some(fault) = self.missing.known(caller, (*digest, Content::Blob), caller.trust.missing_for) {
            return Err(fault);
        }
        let right = match self.right_ahead(caller, digest, permission.is_some()).await {
            // It might read lately, and the registry cannot be asked.
            Err(fault) if permission.is_some() => {
                if !self.rights.may_still(caller, &fault).await {
                    return Err(fault);
                }
                Right::Released
            }
            right => right?,
        };
        self.enter(caller, digest, right, asked).await
    }

    /// As [`Cache::blob_head`](super::Cache::blob_head).
    pub(crate) async fn head(
        self: &Arc<Self>,
        requester: &impl Requester,
        digest: &Digest,
    ) -> Result<(Option<u64>, Outcome), Fault> {
        let released = self.rights.released(requester.reader(), digest, Content::Blob).await;
        let stored = if released.is_some() { self.stored(digest).await? } else { None };
        let (Some(released), Some(blob)) = (released, stored) else {
            return Box::pin(self.described(requester.caller(), digest)).await;
        };
        if released.permission < Permission::Good {
            let caller = requester.caller();
            match caller.in_time(true, Box::pin(self.right_proven(caller, digest))).await {
                Ok(_) => return Ok((Some(blob.len()), Outcome::Miss)),
                Err(fault) => {
                    if !self.rights.may_still(caller, &fault).await {
                        return Err(fault);
                    }
                }
            }
        }
        self.store.catalog().used(digest);
        Ok((Some(blob.len()), Outcome::Hit))
    }

    /// What the registry says of a blob: by HEAD, and where that is refused or tells too little by a GET of its first byte.
    async fn described(&self, caller: &Caller, digest: &Digest) -> Result<(Option<u64>, Outcome), Fault> {
        let by_get = self.proofs.prove_by_first_byte(caller, digest);
        let (proof, _) = self.proofs.prove_or(caller, digest, Content::Blob, Ok, by_get).await?;
        Ok((proof.size, Outcome::Miss))
    }

    /// Whether it is stored, or on its way from the caller's registry. What only another registry's callers may have
    /// counts as not stored, so that this one does not learn by our requests that it is here.
    pub(crate) async fn is_at_hand(&self, caller: &Caller, digest: &Digest) -> bool {
        let is_stored =
            !matches!(self.store.look(digest).await, Ok(None)) && self.rights.are_shared(&caller.place, digest).await;
        is_stored || self.fills.has(digest, &caller.place.registry)
    }

    /// Whether there are files enough to fetch what nobody has asked for: half of them are for what is asked for.
    pub(crate) fn has_files_to_spare(&self) -> bool {
        let files = self.store.files();
        files.used() < files.most() / 2
    }

    /// Joins, starts or skips the fill, as far as the caller's right reaches, which was `asked` about then.
    async fn enter(
        self: &Arc<Self>,
        caller: &Caller,
        digest: &Digest,
        mut right: Right,
        mut asked: AskedAt,
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
                Right::None => self.rights.released_now(caller.reader(), digest, Content::Blob).is_some(),
            };
            if right == Right::None {
                asked = AskedAt::now();
            }
            let (blobs, leader, wanted) = (self.clone(), caller.clone(), *digest);
            let heed = move |ending, opening| blobs.heed_fill(leader, wanted, right, ending, opening, asked);
            let entered = self.fills.enter(digest, caller, right != Right::None, takes_stored, heed).await;
            if let Ok(Entered::UnderWay(fill) | Entered::SameSource(fill, _)) = &entered
                && fill.is_opening()
                && caller.decides()
                && let Some(absent) = caller.source.absence()
            {
                return Err(absent); // what is being asked was asked before, and nobody waits for that
            }
            let (fill, opening, outcome) = match entered {
                Err(cause) if cause.is_exhausted() => return Err(Fault::of_store(Retry::Again, cause)),
                Err(cause) => {
                    let known = matches!(right, Right::Released | Right::Here(None));
                    return Ok(BlobFound::Unstorable { cause, known });
                }
                Ok(Entered::Stored(_)) => {
                    right = Right::Released;
                    continue;
                }
                Ok(Entered::Leaving(fill)) => {
                    tokio::select! {
                        () = fill.gone() => {}
                        () = self.store.hang() => {}
                    }
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
                // Another source delivered the content before this one was asked, or its answer is no proof of what the
                // others delivered: prove it.
                Err(fault) if says_nothing(&fault) => right = self.right_proven(caller, digest).await?,
                Err(fault) if again && outcome == Outcome::Collapsed && is_the_leaders(&fault) => {
                    again = false;
                    asked = AskedAt::now();
                    right = self.right_proven(caller, digest).await?;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// What a question can earn before anything is fetched: the stored content, if it is shared; or the right to what
    /// a mirror will deliver.
    async fn right_ahead(self: &Arc<Self>, caller: &Caller, digest: &Digest, lapsed: bool) -> Result<Right, Fault> {
        let shared = self.rights.are_shared(&caller.place, digest).await;
        let takes_stored = shared && self.stored(digest).await?.is_some();
        if !takes_stored && caller.decides() {
            return Ok(Right::None);
        }
        match caller.in_time(lapsed, self.right_proven(caller, digest)).await {
            // The registry's answer to a GET of the whole will tell.
            Err(fault) if fault.said == Said::Refused && caller.decides() => Ok(Right::None),
            right => right,
        }
    }

    /// What the registry's word now gives the caller a right to: by HEAD; where that is refused for its own sake, or says
    /// nothing, by a GET of the first byte.
    async fn right_proven(self: &Arc<Self>, caller: &Caller, digest: &Digest) -> Result<Right, Fault> {
        let right = |(proof, shared): (Proof, bool)| if shared { Ok(Right::Released) } else { right_here(&proof) };
        let by_get = async { self.proofs.prove_by_first_byte(caller, digest).await.and_then(right) };
        self.proofs.prove_or(caller, digest, Content::Blob, right, by_get).await
    }

    /// A no of the leading source is noted at once; a yes, and that the content is here, only when it was delivered
    /// whole and its digest matched: a page that answers everything with 200 says neither. Nor does a page before a
    /// mirror that delivers: of what the registry told nothing but a length, that has to be the content's. The fill is
    /// not over before this is, so that the next caller finds the link.
    async fn heed_fill(
        self: Arc<Self>,
        caller: Caller,
        digest: Digest,
        right: Right,
        ending: Ending,
        opening: Opening,
        asked: AskedAt,
    ) {
        let subject = Subject::Blob(digest);
        match opening.outcome().await {
            Ok(reach) => match (right, ending.verified().await) {
                (_, None) => {}
                (Right::Released, _) if !caller.decides() => {} // there is a link, and this is no new word
                (Right::Here(Some(told)), Some(length)) if !caller.decides() => {
                    if told == length {
                        let yes = Yes { to: &subject, reach: Reach::Content, asked };
                        self.rights.vouched(&caller, &digest, Content::Blob, None, true, yes);
                    }
                }
                (_, Some(_)) => {
                    let yes = Yes { to: &subject, reach, asked };
                    self.rights.delivered(&caller, &digest, Content::Blob, None, yes);
                }
            },
            Err(fault) => {
                self.refusals.heed(&caller, &subject, &fault).await;
                self.missing.note(&caller, (digest, Content::Blob), caller.trust.missing_for, &fault, asked);
            }
        }
    }

    async fn find_stored(&self, requester: &impl Requester, digest: &Digest) -> Result<Option<BlobFound>, Fault> {
        let Some(blob) = self.stored(digest).await? else { return Ok(None) };
        self.store.catalog().used(digest);
        let stored = Stored::new(blob, self.fills.clone(), requester.caller().clone());
        Ok(Some(BlobFound::Stored(stored, Outcome::Hit)))
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
                Err(Fault::of_store(Retry::Again, error))
            }
            Err(_) if self.store.is_hanging() => Ok(None), // the log says so
            Err(error) => {
                let (registry, repository) = self.store.catalog().place(digest).unzip();
                tracing::error!(registry, repository, %digest, %error, "cannot read a cached blob; the registry is asked instead");
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

/// The fill for a caller that has that `right`, once it is known that it reaches so far.
async fn found(fill: Waiter, right: Right, outcome: Outcome) -> Result<BlobFound, Fault> {
    if let Right::Here(Some(size)) = right
        && fill.length().await? != Some(size)
    {
        return Err(unproven());
    }
    Ok(BlobFound::Filling(fill, outcome))
}
