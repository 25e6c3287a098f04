//! Answers whether a principal may read at a place, and by what right: all lookups ask here, and nothing else decides.
//!
//! A *right*: the registry said yes in this repository, to this principal (a grant) or to nobody's request (it is
//! public). A yes is a 200 that delivers or names a manifest, or that names a blob; bytes that have a blob's digest
//! are a yes to that blob alone, since anybody who knows a gateway's page can ask for its digest.
//! A *link*: this content is in this repository. It is noted when the registry has delivered the verified content, or a
//! mirror did on the registry's word, or the registry has vouched for content that is shared already: by HEAD, or by its
//! answer to a GET of the first byte. *Shared* content has been delivered without credentials somewhere, or by this very
//! registry. So a registry that says 200 to every HEAD, or opens a body and sends rubbish, earns nothing that another
//! one gave to somebody's credentials.

use std::sync::Arc;

use super::asked_at::AskedAt;
use super::grants::{Grants, NoMacKey};
use super::links::{Linked, Links};
use super::place::Place;
use super::principal::Principal;
use super::publics::{PublicAge, Publics};
use super::reader::PlaceReader;
use super::trust::{Permission, Trust};
use super::witnesses::Witnesses;
use crate::cache::caller::Caller;
use crate::cache::source::{Fault, FaultKind, Reach, Said, Subject};
use crate::oci::Digest;
use crate::store::{Content, Learned, Store};

/// The registry's yes to a caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Yes<'a> {
    /// To what: as it can be asked again.
    pub(crate) to: &'a Subject,
    /// How far it reaches.
    pub(crate) reach: Reach,
    /// When it was asked.
    pub(crate) asked: AskedAt,
}

/// Content that is known to be where the reader asks for it.
#[derive(Clone, Debug)]
pub(crate) struct Released {
    pub(crate) linked: Arc<Linked>,
    /// `Good` or `Lapsed`.
    pub(crate) permission: Permission,
}

/// Who may read what, as far as the registries have said.
pub(crate) struct Rights {
    pub(crate) links: Links,
    pub(crate) publics: Publics,
    grants: Grants,
    witnesses: Witnesses,
    /// Hears of each caller that a registry has refused.
    on_refusal: Box<dyn Fn(&Caller) + Send + Sync>,
}

/// What is known.
impl Rights {
    /// The rights that `store`'s catalog holds; those of principals are not kept across a restart.
    ///
    /// # Errors
    /// [`NoMacKey`].
    pub(crate) fn new(store: &Store, on_refusal: impl Fn(&Caller) + Send + Sync + 'static) -> Result<Self, NoMacKey> {
        Ok(Self {
            links: Links::new(store.clone()),
            publics: Publics::new(store.clone()),
            grants: Grants::new()?,
            witnesses: Witnesses::new(store.clone()),
            on_refusal: Box::new(on_refusal),
        })
    }

    /// What principals have proven, and under which MACs they are known.
    pub(crate) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Forgets what is in memory: the catalog has changed below it.
    pub(crate) fn forget_all(&self) {
        self.links.forget_all();
        self.publics.forget_all();
    }

    /// Whether the place is public.
    pub(crate) async fn public_age(&self, place: &Place) -> PublicAge {
        self.publics.age(place).await
    }

    /// How `principal` stands at `place` by what it has proven itself.
    pub(crate) fn granted(&self, place: &Place, principal: &Principal, trust: &Trust) -> Permission {
        Permission::of(self.grants.age(place, principal), trust, trust.lives.outage)
    }

    /// How the reader stands at its place, by its own right or by everybody's.
    pub(crate) async fn permission(&self, reader: PlaceReader<'_>) -> Permission {
        let by_grant = self.granted(reader.place, reader.principal, reader.trust);
        if by_grant == Permission::Good {
            return by_grant;
        }
        let public = match reader.public {
            Some(public) => public,
            None => self.publics.age(reader.place).await,
        };
        by_grant.max(public.permission(reader.trust))
    }

    /// The same as to one content alone.
    pub(crate) fn granted_content(&self, reader: PlaceReader<'_>, digest: &Digest) -> Permission {
        let age = self.grants.content_age(reader.place, reader.principal, digest);
        Permission::of(age, reader.trust, reader.trust.lives.outage)
    }

    /// Whether `digest` is where the reader asks for it and the reader may read there, or might lately. `None`: the
    /// registry must be asked.
    pub(crate) async fn released(
        &self,
        reader: PlaceReader<'_>,
        digest: &Digest,
        content: Content,
    ) -> Option<Released> {
        let linked = self.links.find(reader.place, digest, content).await?;
        let permission = match self.permission(reader).await {
            Permission::Good => Permission::Good,
            other => other.max(self.granted_content(reader, digest)),
        };
        (permission > Permission::Unknown).then_some(Released { linked, permission })
    }

    /// The same by what is in memory, without waiting, and by rights that hold in any case.
    pub(crate) fn released_now(
        &self,
        reader: PlaceReader<'_>,
        digest: &Digest,
        content: Content,
    ) -> Option<Arc<Linked>> {
        let linked = self.links.find_hot(reader.place, digest, content)?;
        let by_grant = self.granted(reader.place, reader.principal, reader.trust);
        let public = self.publics.hot_age(reader.place).permission(reader.trust);
        let permission = by_grant.max(public).max(self.granted_content(reader, digest));
        (permission == Permission::Good).then_some(linked)
    }

    /// Whether a caller that might read some time ago is given what was known then, after `fault`: only where a probe
    /// has told that the registry itself is away. A caller that has lost a right could make up the failure of one
    /// question. A throttle says nothing of what anybody may read.
    pub(crate) async fn may_still(&self, caller: &Caller, fault: &Fault) -> bool {
        if fault.said != Said::Nothing {
            return false;
        }
        caller.source.is_gone().await
            || (fault.kind == FaultKind::Throttle && self.publics.age(&caller.place).await.is_known())
    }

    /// Whether the registry's own word is proof enough for stored content.
    pub(crate) async fn are_shared(&self, place: &Place, digest: &Digest) -> bool {
        self.links.are_shared(&place.registry, digest).await
    }
}

/// What is learned.
impl Rights {
    /// The content was delivered to the caller, and its digest matched. A mirror's delivery says nothing of the caller's right.
    pub(crate) fn delivered(
        &self,
        caller: &Caller,
        digest: &Digest,
        content: Content,
        media_type: Option<String>,
        yes: Yes<'_>,
    ) {
        if caller.decides() {
            self.may(caller, digest, yes);
        }
        self.links.note(&caller.place, digest, content, media_type, caller.learns(), yes.asked);
    }

    /// The registry accepted the content, whose bytes the caller itself had sent and which match its digest. That says who
    /// may write. It gives nobody a right to read other content, and what the caller has sent it may have back: nobody in
    /// particular gets nothing by it.
    pub(crate) fn pushed(
        &self,
        caller: &Caller,
        digest: &Digest,
        content: Content,
        media_type: Option<String>,
        asked: AskedAt,
    ) {
        let Caller { place, principal, .. } = caller;
        if matches!(principal, Principal::Known(_)) && !caller.is_reduced() {
            self.grants.give_content(place, principal, digest, asked.instant);
        }
        self.linked_by_push(place, digest, content, media_type, asked);
    }

    /// The registry has the content in this place since a write. It was not delivered by it, so that no other registry's word
    /// is enough for it.
    pub(crate) fn linked_by_push(
        &self,
        place: &Place,
        digest: &Digest,
        content: Content,
        media_type: Option<String>,
        asked: AskedAt,
    ) {
        self.links.note(place, digest, content, media_type, Learned::WithCredentials, asked);
    }

    /// The registry said yes to the caller, for a content that is here and shared, or not.
    pub(crate) fn vouched(
        &self,
        caller: &Caller,
        digest: &Digest,
        content: Content,
        media_type: Option<String>,
        shared: bool,
        yes: Yes<'_>,
    ) {
        self.may(caller, digest, yes);
        if shared {
            self.links.note(&caller.place, digest, content, media_type, caller.learns(), yes.asked);
        }
    }

    /// The registry itself said yes to the caller. Where nobody is asked for, on behalf of somebody, the right is found
    /// out by a probe.
    fn may(&self, caller: &Caller, digest: &Digest, Yes { to, reach, asked }: Yes<'_>) {
        let Caller { place, principal, trust, .. } = caller;
        match reach {
            Reach::Place if principal.is_nobody() => self.publics.open(place, asked.time, trust.forgeable),
            _ if caller.is_reduced() => return,
            Reach::Place => self.grants.give(place, principal, asked.instant),
            Reach::Content => self.grants.give_content(place, principal, digest, asked.instant),
        }
        self.witnesses.note(place, principal, to);
    }

    /// The registry said yes to nobody's request.
    pub(crate) fn open(&self, place: &Place, yes: Yes<'_>, forgeable: bool) {
        self.publics.open(place, yes.asked.time, forgeable);
        self.witnesses.note(place, &Principal::Anonymous, yes.to);
    }

    /// The registry said no to nobody's request, made at `asked`.
    pub(crate) fn close(&self, place: &Place, asked: AskedAt) {
        self.publics.close(place, asked.time);
        self.grants.revoke(place, &Principal::Anonymous, asked.instant);
    }

    /// The registry refuses the caller what is known to be there, too: asked for that at `asked`, or refused it since.
    /// A token that anybody is given, and was asked for something else, says nothing of what anybody may read.
    pub(crate) fn end(&self, caller: &Caller, asked: AskedAt) {
        (self.on_refusal)(caller);
        match caller.principal {
            Principal::Anonymous => self.close(&caller.place, asked),
            Principal::Anybody => {}
            Principal::Known(_) | Principal::Proxy => {
                self.grants.revoke(&caller.place, &caller.principal, asked.instant);
            }
        }
    }

    /// What is known to be there, by what the registry last said to the caller: other things than the `subject`.
    pub(crate) async fn witnesses(&self, caller: &Caller, subject: &Subject) -> Vec<Subject> {
        let Caller { place, principal, .. } = caller;
        // What was written down before a restart counts only for what anybody may read.
        let is_public = principal.is_nobody() && self.publics.age(place).await.is_known();
        self.witnesses.others(place, principal, subject, is_public).await
    }

    /// Whether the `subject` is known to be where the caller asks for it.
    pub(crate) async fn is_there(&self, caller: &Caller, subject: &Subject) -> bool {
        let Caller { place, principal, .. } = caller;
        match subject {
            Subject::Tag(..) => self.witnesses.holds(place, principal, subject),
            Subject::Manifest(digest) => self.links.find(place, digest, Content::Manifest).await.is_some(),
            Subject::Blob(digest) => self.links.find(place, digest, Content::Blob).await.is_some(),
        }
    }
}
