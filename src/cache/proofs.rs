//! Asks the registry whether it lets a caller read something: by HEAD, or by GET where HEAD is refused or tells too little.
//! Callers that ask the same at the same time are told the same.

use std::sync::Arc;

use super::caller::{Asker, Caller};
use super::hint::first_byte;
use super::refusals::Refusals;
use super::rights::asked_at::AskedAt;
use super::rights::place::Place;
use super::rights::rights::{Rights, Yes};
use super::source::{Fault, FaultKind, Proof, Retry, Said, Subject};
use super::together::{Inquiry, Together};
use crate::host::TaskGroup;
use crate::oci::{Digest, Look};
use crate::store::{Content, Store};

/// By what the registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Means {
    Status,
    /// Of a blob. It has to be answered by the registry itself, and tells the length.
    FirstByte,
}

/// A 200 that is not about the content asked for: a login page, say.
#[derive(Debug, thiserror::Error)]
#[error("the registry's answer does not say that it is this content")]
struct Unproven;

/// What is answered to a caller to which nothing was proven.
pub(crate) fn unproven() -> Fault {
    Fault { said: Said::Refused, ..Fault::new(Retry::Never, Unproven).of(FaultKind::Unproven) }.unfit()
}

/// What a registry says of a content, and whether that content is shared, so that what is stored may be released on it.
pub(crate) type Proven = (Proof, bool);

/// Asks registries for proof.
pub(crate) struct Proofs {
    rights: Arc<Rights>,
    refusals: Arc<Refusals>,
    store: Store,
    asked: Together<Proving>,
}

/// One question for proof.
#[derive(Clone)]
struct Proving {
    proofs: Arc<Proofs>,
    caller: Caller,
    means: Means,
    digest: Digest,
    content: Content,
}

impl Proofs {
    pub(crate) fn new(rights: Arc<Rights>, refusals: Arc<Refusals>, store: Store, tasks: TaskGroup) -> Self {
        Self { rights, refusals, store, asked: Together::new(tasks) }
    }

    /// What `read` makes of what the source proves by HEAD, which is asked once for all that ask the same; what `get` comes
    /// to where HEAD is refused, or makes nothing of it.
    ///
    /// # Errors
    /// Those of `get`; those of the source where GET would meet the same.
    pub(crate) async fn prove_or<T>(
        self: &Arc<Self>,
        caller: &Caller,
        digest: &Digest,
        content: Content,
        read: impl FnOnce(Proven) -> Result<T, Fault>,
        get: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let proven = self.prove_by(Means::Status, caller.clone(), digest, content).await;
        let by_head = match proven.and_then(read) {
            Err(fault) if fault.is_about_head() => fault,
            told => return told,
        };
        let got = get.await;
        let by_head = Some(&by_head).filter(|fault| fault.kind != FaultKind::Unproven);
        caller.source.compared(&subject(digest, content), by_head, got.as_ref().err());
        got
    }

    /// The same for a blob by a GET of its first byte.
    ///
    /// # Errors
    /// The source's fault; or [`Unproven`], where its answer does not vouch for this content.
    pub(crate) async fn prove_by_first_byte(
        self: &Arc<Self>,
        caller: &Caller,
        digest: &Digest,
    ) -> Result<Proven, Fault> {
        self.prove_by(Means::FirstByte, caller.without_mirrors(), digest, Content::Blob).await
    }

    async fn prove_by(
        self: &Arc<Self>,
        means: Means,
        caller: Caller,
        digest: &Digest,
        content: Content,
    ) -> Result<Proven, Fault> {
        let proving = Proving { proofs: self.clone(), caller, means, digest: *digest, content };
        self.asked.ask(&proving).await.into_inner()
    }
}

impl Inquiry for Proving {
    type Key = (Place, Digest, Content, Asker, Means);
    type Answer = Proven;

    fn key(&self) -> Self::Key {
        (self.caller.place.clone(), self.digest, self.content, self.caller.asker(), self.means)
    }

    fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What HEAD would say of stored content that the caller may have by now.
    async fn look_again(&self) -> Option<Proven> {
        let linked = self.proofs.rights.released_now(self.caller.reader(), &self.digest, self.content)?;
        let size = self.proofs.store.find(&self.digest).await.ok()??.len();
        let media_type = linked.media_type.clone();
        Some((Proof { digest: Some(self.digest), media_type, size: Some(size) }, true))
    }

    async fn ask(&self) -> Result<Proven, Fault> {
        let Self { proofs, caller, digest, content, .. } = self;
        let (rights, asked) = (&proofs.rights, AskedAt::now());
        let subject = subject(digest, *content);
        let answered = match self.means {
            Means::Status => caller.source.prove(&subject).await,
            Means::FirstByte => first_byte(&*caller.source, digest, caller.origins, caller.trust.deadline).await,
        };
        let proof = match answered {
            Ok(proof) => proof,
            Err(fault) => {
                if self.means != Means::Status || !fault.is_about_head() {
                    proofs.refusals.heed(caller, &subject, &fault).await;
                }
                return Err(fault);
            }
        };
        let shared = rights.are_shared(&caller.place, digest).await;
        // Threat: a registry that says yes to everything, to learn by our answer whether another one's private content
        // is here. So what is here counts only if it is shared.
        let here = if shared { proofs.store.find(digest).await.ok().flatten() } else { None };
        let length = here.map(|blob| blob.len());
        let Some(reach) = proof.reach(&subject, length) else {
            // Of a blob that is not here, nothing can be checked yet, and nothing is proven or released by this.
            let is_open = *content == Content::Blob && length.is_none() && proof.digest.is_none();
            return if is_open && proof.look() != Look::Page { Ok((proof, false)) } else { Err(unproven()) };
        };
        // The type that counts is that of GET, else that of the manifest itself: HEAD's is often another.
        rights.vouched(caller, digest, *content, None, shared, Yes { to: &subject, reach, asked });
        Ok((proof, shared))
    }
}

fn subject(digest: &Digest, content: Content) -> Subject {
    match content {
        Content::Manifest => Subject::Manifest(*digest),
        Content::Blob => Subject::Blob(*digest),
    }
}
