//! Asks the registry whether it lets a caller read something: by HEAD, or by a GET of its first byte where HEAD tells too
//! little. Callers that ask the same at the same time are told the same.

use std::sync::Arc;

use super::caller::{Asker, Caller};
use super::rights::place::Place;
use super::rights::principal::Principal;
use super::rights::rights::{AskedAt, Rights};
use super::source::{Fault, FaultKind, Proof, Retry, Said, Subject, Want};
use super::together::{Inquiry, Together};
use crate::host::{TaskGroup, watched};
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
    Fault { said: Said::Refused, ..Fault::new(Retry::Never, Unproven).of(FaultKind::Unproven) }
}

/// Whether that is what was answered.
pub(crate) fn is_unproven(fault: &Fault) -> bool {
    fault.kind == FaultKind::Unproven
}

/// What a registry says of a content, and whether that content is shared, so that what is stored may be released on it.
pub(crate) type Proven = (Proof, bool);

/// Asks registries for proof.
pub(crate) struct Proofs {
    rights: Arc<Rights>,
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
    pub(crate) fn new(rights: Arc<Rights>, store: Store, tasks: TaskGroup) -> Self {
        Self { rights, store, asked: Together::new(tasks) }
    }

    /// Asks the source by HEAD, once for all that ask the same, and remembers what it proves.
    ///
    /// # Errors
    /// The source's fault; or [`Unproven`], where its 200 does not vouch for this content.
    pub(crate) async fn prove(
        self: &Arc<Self>,
        caller: &Caller,
        digest: &Digest,
        content: Content,
    ) -> Result<Proven, Fault> {
        self.prove_by(Means::Status, caller.clone(), digest, content).await
    }

    /// The same for a blob by a GET of its first byte: of a registry that takes no HEAD, or says too little by it.
    ///
    /// # Errors
    /// As of [`Proofs::prove`].
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
        let subject = match content {
            Content::Manifest => Subject::Manifest(*digest),
            Content::Blob => Subject::Blob(*digest),
        };
        let answered = match self.means {
            // Where there is no digest either, a length of 0 is no length but a habit of gateways.
            Means::Status => caller.source.prove(&subject).await.map(|proof| match proof {
                Proof { digest: None, size: Some(0), .. } => Proof { size: None, ..proof },
                proof => proof,
            }),
            Means::FirstByte => first_byte(caller, digest).await,
        };
        let proof = match answered {
            Ok(proof) => proof,
            Err(fault) => {
                rights.heed(caller, &fault);
                // To callers that may not know that it is there, many registries say that it is not.
                let is_hidden = fault.said == Said::Missing && caller.principal == Principal::Anonymous;
                if is_hidden && rights.links.find(&caller.place, digest, *content).await.is_some() {
                    rights.close(&caller.place, asked);
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
        rights.vouched(caller, digest, *content, proof.media_type.clone(), shared, (reach, asked));
        Ok((proof, shared))
    }
}

/// The length that a GET of the first byte tells; one of the whole, whose body is left, where no range is taken: an empty
/// content has none.
async fn first_byte(caller: &Caller, digest: &Digest) -> Result<Proof, Fault> {
    let source = &caller.source;
    let whole = || Want { origins: caller.origins, ..Want::default() };
    let opening = source.open(digest, Want { to: Some(1), ..whole() });
    let opened = match watched(caller.trust.deadline, &**source, opening).await {
        Err(fault) if fault.said == Said::Refused || fault.unfit => source.open(digest, whole()).await,
        opened => opened,
    };
    opened.map(|flow| flow.proof)
}
