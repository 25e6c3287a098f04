//! Finds a manifest by digest for a caller: small, fetched whole, verified, byte-exact for ever after.

use std::sync::Arc;

use bytes::Bytes;

use super::store::ManifestStore;
use super::whole::{NoManifest, WrongManifest, media_type_of};
use crate::cache::caller::{Asker, Caller, Requester};
use crate::cache::missing::Missing;
use crate::cache::proofs::Proofs;
use crate::cache::refusals::Refusals;
use crate::cache::rights::asked_at::AskedAt;
use crate::cache::rights::place::Place;
use crate::cache::rights::rights::{Released, Rights, Yes};
use crate::cache::rights::trust::Permission;
use crate::cache::source::{Fault, Proof, Reach, Retry, Subject, Whole};
use crate::cache::together::{Inquiry, Together};
use crate::host::{Coalesced, TaskGroup};
use crate::oci::{Digest, Look, kept_type};
use crate::store::Content;
use crate::telemetry::Outcome;

/// A manifest as it is served.
#[derive(Clone, Debug)]
pub struct ManifestFound {
    /// What it is.
    pub digest: Digest,
    /// The bytes as the registry sent them.
    pub bytes: Bytes,
    /// `Content-Type`.
    pub media_type: String,
    /// Where it came from; what is no manifest of a known shape is a bypass.
    pub outcome: Outcome,
}

/// Manifests by digest.
pub(crate) struct Manifests {
    rights: Arc<Rights>,
    refusals: Arc<Refusals>,
    proofs: Arc<Proofs>,
    kept: ManifestStore,
    missing: Missing<(Digest, Content)>,
    fetched: Together<Fetching>,
    delivered: Together<Delivery>,
}

/// One caller's question for a manifest, whose answer proves its right. The answer says whether it is kept.
#[derive(Clone)]
struct Fetching {
    manifests: Arc<Manifests>,
    caller: Caller,
    digest: Digest,
}

/// The same, asked for several principals: it tells that the bytes exist, and nothing of another one's rights.
#[derive(Clone)]
struct Delivery {
    caller: Caller,
    digest: Digest,
}

impl Manifests {
    pub(crate) fn new(
        rights: Arc<Rights>,
        refusals: Arc<Refusals>,
        proofs: Arc<Proofs>,
        kept: ManifestStore,
        missing: Missing<(Digest, Content)>,
        tasks: &TaskGroup,
    ) -> Self {
        let (fetched, delivered) = (Together::new(tasks.clone()), Together::new(tasks.clone()));
        Self { rights, refusals, proofs, kept, missing, fetched, delivered }
    }

    /// As [`Cache::manifest`](crate::cache::Cache::manifest).
    pub(crate) async fn find(
        self: &Arc<Self>,
        requester: &impl Requester,
        digest: &Digest,
    ) -> Result<ManifestFound, Fault> {
        let released = self.rights.released(requester.reader(), digest, Content::Manifest).await;
        if let Some(released) = released.as_ref().filter(|released| released.permission == Permission::Good)
            && let Some(bytes) = self.kept.find(digest).await
        {
            return Ok(found(*digest, bytes, released.linked.media_type.clone(), Outcome::Hit));
        }
        Box::pin(self.at_source(requester.caller(), digest, released)).await // see `BlobLookup::find`
    }

    async fn at_source(
        self: &Arc<Self>,
        caller: &Caller,
        digest: &Digest,
        released: Option<Released>,
    ) -> Result<ManifestFound, Fault> {
        if released.as_ref().is_some_and(|released| released.permission == Permission::Good) {
            return self.fetch(caller, digest).await;
        }
        if let Some(fault) = self.missing.known(caller, (*digest, Content::Manifest), caller.trust.missing_for) {
            return Err(fault);
        }
        let shared = self.rights.are_shared(&caller.place, digest).await;
        let stored = if shared { self.kept.find(digest).await } else { None };
        if stored.is_some() || !caller.decides() {
            let lapsed = released.is_some();
            let proving = Box::pin(self.proven(caller, digest, stored.as_ref()));
            match (caller.in_time(lapsed, proving).await, stored) {
                (Ok(Some(found)), _) => return Ok(found),
                (Ok(None), _) => {}
                (Err(fault), Some(bytes)) if lapsed => {
                    if !self.rights.may_still(caller, &fault).await {
                        return Err(fault);
                    }
                    let media_type = released.and_then(|released| released.linked.media_type.clone());
                    return Ok(found(*digest, bytes, media_type, Outcome::Hit));
                }
                (Err(fault), _) => return Err(fault),
            }
        }
        self.fetch(caller, digest).await
    }

    /// Asks the registry for the caller's right: by HEAD, which gives what is `stored`; by GET where HEAD is refused, or
    /// says too little. `None` where it may have the manifest, which is still to be fetched.
    async fn proven(
        self: &Arc<Self>,
        caller: &Caller,
        digest: &Digest,
        stored: Option<&Bytes>,
    ) -> Result<Option<ManifestFound>, Fault> {
        let linked = self.rights.links.find(&caller.place, digest, Content::Manifest).await;
        let media_type = linked.and_then(|linked| linked.media_type.clone());
        let by_head = |_| Ok(stored.map(|bytes| found(*digest, bytes.clone(), media_type, Outcome::Hit)));
        let caller_alone = caller.without_mirrors();
        let by_get = async { self.fetch(&caller_alone, digest).await.map(Some) };
        self.proofs.prove_or(caller, digest, Content::Manifest, by_head, by_get).await
    }

    /// As [`Cache::manifest_head`](crate::cache::Cache::manifest_head).
    pub(crate) async fn head(
        self: &Arc<Self>,
        requester: &impl Requester,
        digest: &Digest,
    ) -> Result<(Proof, Outcome), Fault> {
        let released = self.rights.released(requester.reader(), digest, Content::Manifest).await;
        let stored = if released.is_some() { self.kept.find(digest).await } else { None };
        let (Some(Released { linked, permission }), Some(bytes)) = (released, stored) else {
            return Box::pin(self.described(requester.caller(), digest)).await;
        };
        let mut outcome = Outcome::Hit;
        if permission < Permission::Good {
            let caller = requester.caller();
            match caller.in_time(true, Box::pin(self.proven(caller, digest, Some(&bytes)))).await {
                Ok(_) => outcome = Outcome::Miss,
                Err(fault) => {
                    if !self.rights.may_still(caller, &fault).await {
                        return Err(fault);
                    }
                }
            }
        }
        Ok((described(&found(*digest, bytes, linked.media_type.clone(), outcome)), outcome))
    }

    /// What the registry says of a manifest: by HEAD, and where that is refused or tells too little by GET.
    async fn described(self: &Arc<Self>, caller: &Caller, digest: &Digest) -> Result<(Proof, Outcome), Fault> {
        let caller_alone = caller.without_mirrors();
        let by_get = async {
            let found = self.fetch(&caller_alone, digest).await?;
            Ok((described(&found), found.outcome))
        };
        let by_head = |(proof, _)| Ok((proof, Outcome::Miss));
        self.proofs.prove_or(caller, digest, Content::Manifest, by_head, by_get).await
    }

    /// One GET for a registry's content at a time, which goes on and is kept when its callers leave.
    async fn fetch(self: &Arc<Self>, caller: &Caller, digest: &Digest) -> Result<ManifestFound, Fault> {
        let fetching = Fetching { manifests: self.clone(), caller: caller.clone(), digest: *digest };
        let (fetched, outcome) = match self.fetched.ask(&fetching).await {
            Coalesced::Led(fetched) => (fetched, Outcome::Miss),
            Coalesced::Joined(fetched) => (fetched, Outcome::Collapsed),
        };
        let (whole, verified) = fetched?;
        Ok(found(*digest, whole.bytes, whole.media_type, if verified { outcome } else { Outcome::Bypass }))
    }

    /// The manifest, and whether it may be kept: its bytes are those of its digest, and it has the shape of one. Signed
    /// schema 1's are not, and are left to the client to verify; what else has the digest may be a page whose digest
    /// was asked for. A caller that waited for another principal's GET proves its own right by HEAD, which costs no pull
    /// where pulls are counted; by its own GET where HEAD is refused, or says nothing.
    async fn fetch_verified(&self, caller: &Caller, digest: &Digest) -> Result<(Whole, bool), Fault> {
        let delivery = Delivery { caller: caller.clone(), digest: *digest };
        let whole = match self.delivered.ask(&delivery).await {
            Coalesced::Led(whole) => whole?,
            Coalesced::Joined(whole) => {
                let (whole, own) = (whole?, Delivery { caller: caller.without_mirrors(), digest: *digest });
                self.proofs.prove_or(caller, digest, Content::Manifest, |_| Ok(whole), own.ask()).await?
            }
        };
        let said = Digest::of(digest.algorithm(), &whole.bytes);
        if said == *digest {
            let is_kept = kept_type(&whole.bytes).is_some();
            return Ok((whole.typed(), is_kept));
        }
        if whole.is_schema1() {
            return Ok((whole, false));
        }
        if kept_type(&whole.bytes).is_none() && Look::of(whole.media_type.as_deref()) != Look::Content {
            return Err(NoManifest::fault(whole.media_type.as_deref()));
        }
        let (registry, repository) = (&caller.place.registry, &caller.place.repository);
        tracing::error!(%registry, %repository, %digest, found = %said, "the registry's manifest is not what its digest says; refused");
        Err(Fault::new(Retry::Never, WrongManifest { wanted: *digest, found: said }))
    }
}

impl Inquiry for Fetching {
    /// A caller that asks the registry alone is not answered by a mirror.
    type Key = (Place, Digest, Asker, bool);
    type Answer = (Whole, bool);

    fn key(&self) -> Self::Key {
        (self.caller.place.clone(), self.digest, self.caller.asker(), self.caller.decides())
    }

    fn caller(&self) -> &Caller {
        &self.caller
    }

    async fn look_again(&self) -> Option<Self::Answer> {
        let linked = self.manifests.rights.released_now(self.caller.reader(), &self.digest, Content::Manifest)?;
        let bytes = self.manifests.kept.find_hot(&self.digest)?;
        let media_type = linked.media_type.clone();
        Some((Whole { bytes, media_type, digest: Some(self.digest), is_foreign: false }, true))
    }

    async fn ask(&self) -> Result<Self::Answer, Fault> {
        let Self { manifests, caller, digest } = self;
        let asked = AskedAt::now();
        let fetched = manifests.fetch_verified(caller, digest).await;
        match &fetched {
            Ok((whole, true)) => {
                let yes = Yes { to: &Subject::Manifest(*digest), reach: Reach::Place, asked };
                manifests.rights.delivered(caller, digest, Content::Manifest, whole.media_type.clone(), yes);
                manifests.kept.keep(*digest, &whole.bytes).await;
            }
            Ok((_, false)) => {}
            Err(fault) => {
                manifests.refusals.heed(caller, &Subject::Manifest(*digest), fault).await;
                let life = caller.trust.missing_for;
                manifests.missing.note(caller, (*digest, Content::Manifest), life, fault, asked);
            }
        }
        fetched
    }
}

impl Inquiry for Delivery {
    type Key = (Arc<str>, Digest);
    type Answer = Whole;

    fn key(&self) -> Self::Key {
        (self.caller.place.registry.clone(), self.digest)
    }

    fn caller(&self) -> &Caller {
        &self.caller
    }

    async fn look_again(&self) -> Option<Whole> {
        None
    }

    async fn ask(&self) -> Result<Whole, Fault> {
        self.caller.source.whole(&Subject::Manifest(self.digest), self.caller.origins).await
    }

    /// It was told to another principal.
    fn is_the_leaders(_: &Fault) -> bool {
        true
    }
}

fn found(digest: Digest, bytes: Bytes, media_type: Option<String>, outcome: Outcome) -> ManifestFound {
    let media_type = media_type.unwrap_or_else(|| media_type_of(&bytes));
    ManifestFound { digest, bytes, media_type, outcome }
}

fn described(found: &ManifestFound) -> Proof {
    let size = Some(found.bytes.len() as u64);
    Proof { digest: Some(found.digest), media_type: Some(found.media_type.clone()), size }
}
