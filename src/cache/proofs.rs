//! Whether the registry lets a caller read something: asked by HEAD, or by a GET of its first byte where HEAD tells too
//! little. Whoever asks the same at the same time is told the same.

use super::cache::Asked;
use super::rights::caller::Asker;
use super::source::stopped;
use super::{Cache, Caller, Fault, NoAnswer, Place, Principal, Proof, Retry, Said, Subject, Want};
use crate::host::{Coalesced, Flights, watched, within};
use crate::oci::{Digest, Look};
use crate::store::Content;

/// What is being asked now.
pub(crate) type Proofs = Flights<(Place, Digest, Content, Asker, Means), Result<(Proof, bool), Fault>>;

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

/// What is answered to whom nothing was proven.
pub(crate) fn unproven() -> Fault {
    Fault { said: Said::Refused, ..Fault::new(Retry::Never, Unproven) }
}

/// Whether that is what was answered.
pub(crate) fn is_unproven(fault: &Fault) -> bool {
    fault.cause.is::<Unproven>()
}

/// The length that a GET of the first byte tells; one of the whole, whose body is left, where no range is taken: an empty
/// content has none.
async fn first_byte(caller: &Caller) -> Result<Proof, Fault> {
    let source = &caller.source;
    let opening = source.open(Want { to: Some(1), ..Want::default() });
    let opened = match watched(caller.trust.deadline, &**source, opening).await {
        Err(fault) if fault.said == Said::Refused || fault.unfit => source.open(Want::default()).await,
        opened => opened,
    };
    opened.map(|flow| flow.proof)
}

impl Cache {
    /// Asks the source by HEAD, once for all who ask the same, and remembers what it proves. Answers the proof,
    /// and whether the content is shared, so that what is stored may be released on it.
    ///
    /// # Errors
    /// The source's fault; or [`Unproven`], where its 200 does not vouch for this content.
    pub(crate) async fn prove(
        &self,
        caller: &Caller,
        digest: &Digest,
        content: Content,
    ) -> Result<(Proof, bool), Fault> {
        self.prove_by(Means::Status, caller, digest, content).await
    }

    /// The same for a blob by a GET of its first byte: of a registry that takes no HEAD, or says too little by it.
    ///
    /// # Errors
    /// As of [`Cache::prove`].
    pub(crate) async fn prove_by_first_byte(&self, caller: &Caller, digest: &Digest) -> Result<(Proof, bool), Fault> {
        self.prove_by(Means::FirstByte, &caller.without_mirrors(), digest, Content::Blob).await
    }

    async fn prove_by(
        &self,
        means: Means,
        caller: &Caller,
        digest: &Digest,
        content: Content,
    ) -> Result<(Proof, bool), Fault> {
        let key = (caller.place.clone(), *digest, content, caller.asker(), means);
        let (cache, leader, wanted) = (self.clone(), caller.clone(), *digest);
        let proven = self.proofs.run(key, caller.source.fresh_since(), move || async move {
            // Look again: an earlier flight notes what it proved before it makes room for this one.
            match cache.proven_now(&leader, &wanted, content).await {
                Some(proof) => Ok((proof, true)),
                None => cache.ask_for_proof(means, &leader, &wanted, content).await,
            }
        });
        match proven.await.unwrap_or_else(stopped) {
            // The leader's token may have expired; this one has its own.
            Coalesced::Joined(Err(fault)) if fault.said == Said::Denied => {
                self.ask_for_proof(means, caller, digest, content).await
            }
            landed => landed.into_inner(),
        }
    }

    /// What the registry says of the caller's right. One who might read lately (`lapsed`), and would be served on that,
    /// waits for it no longer than its deadline.
    pub(crate) async fn in_time<T>(
        &self,
        caller: &Caller,
        lapsed: bool,
        asking: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let asking = Box::pin(asking);
        if !lapsed {
            return asking.await;
        }
        let deadline = caller.trust.deadline;
        let answered = within(deadline, &*caller.source, asking).await;
        answered.unwrap_or_else(|| Err(Fault::new(Retry::Again, NoAnswer(deadline))))
    }

    /// What HEAD would say of stored content that the caller may have by now.
    async fn proven_now(&self, caller: &Caller, digest: &Digest, content: Content) -> Option<Proof> {
        if !self.is_released_now(caller, digest, content) {
            return None;
        }
        let media_type = self.links.find_hot(&caller.place, digest, content)?;
        let size = self.store.find(digest).await.ok()??.len();
        Some(Proof { digest: Some(*digest), media_type, size: Some(size) })
    }

    async fn ask_for_proof(
        &self,
        means: Means,
        caller: &Caller,
        digest: &Digest,
        content: Content,
    ) -> Result<(Proof, bool), Fault> {
        let asked = Asked::now();
        let answered = match means {
            // Where there is no digest either, a length of 0 is no length but a habit of gateways.
            Means::Status => caller.source.prove().await.map(|proof| match proof {
                Proof { digest: None, size: Some(0), .. } => Proof { size: None, ..proof },
                proof => proof,
            }),
            Means::FirstByte => first_byte(caller).await,
        };
        let proof = match answered {
            Ok(proof) => proof,
            Err(fault) => {
                self.heed(caller, &fault);
                // To whoever may not know that it is there, many registries say that it is not.
                let is_hidden = fault.said == Said::Missing && caller.principal == Principal::Anonymous;
                if is_hidden && self.links.find(&caller.place, digest, content).await.is_some() {
                    self.close(&caller.place, asked);
                }
                return Err(fault);
            }
        };
        let shared = self.links.are_shared(&caller.place.registry, digest).await;
        // Threat: a registry that says yes to everything, to learn by our answer whether another one's private content
        // is here. So what is here counts only if it is shared.
        let here = if shared { self.store.find(digest).await.ok().flatten() } else { None };
        let length = here.map(|blob| blob.len());
        let subject = match content {
            Content::Manifest => Subject::Manifest(*digest),
            Content::Blob => Subject::Blob(*digest),
        };
        let Some(reach) = proof.reach(subject, length) else {
            // Of a blob that is not here, nothing can be checked yet, and nothing is proven or released by this.
            let is_open = content == Content::Blob && length.is_none() && proof.digest.is_none();
            return if is_open && proof.look() != Look::Page { Ok((proof, false)) } else { Err(unproven()) };
        };
        self.vouched(caller, digest, content, proof.media_type.clone(), shared, (reach, asked));
        Ok((proof, shared))
    }
}
