//! Tells who pulls, where, and in whose name. What asks the registry is made only when the cache has to ask.

use std::sync::{Arc, OnceLock};

use http::header::HeaderMap;

use super::ask::{Ask, Manner};
use crate::cache::{Caller, Carried, Place, PlaceReader, Principal, PublicAge, Requester, Source, Trust};
use crate::oci::Repository;
use crate::proxy::auth::identity::{self, Identity};
use crate::proxy::context::Context;
use crate::upstream::AskAs;

/// The client of one pull, as the cache knows it. It lives no longer than the request.
pub(crate) struct Puller<'a> {
    context: &'a Context<'a>,
    headers: &'a HeaderMap,
    place: Place,
    identity: Identity,
    trust: Trust,
    public: PublicAge,
    /// Made only when the cache has to ask: a hit of a tag or a manifest does without it.
    asks: OnceLock<Asks>,
}

/// What asks upstream.
struct Asks {
    ask: Arc<Ask>,
    caller: Caller,
}

impl<'a> Puller<'a> {
    /// Reads who a pull is from, and looks up whether its repository is public: once for all that follows.
    pub(crate) async fn of(context: &'a Context<'a>, repository: &Repository, headers: &'a HeaderMap) -> Self {
        let place = Place { registry: context.origin.clone(), repository: repository.clone() };
        let deadline = context.deadline(context.registry.tags().deadline());
        let forgeable = context.registry.is_reached_in_the_clear();
        let (lives, missing_for) = (context.registry.lives(), context.registry.tags().missing_for());
        let trust = Trust { lives, deadline, missing_for, away: false, lapsed: false, forgeable };
        let public = context.proxy.cache.public_age(&place).await;
        let identity = identity::of(context, &place, headers, &trust, public.holds(&trust));
        let trust = Trust { away: context.outage.is_home_away(), lapsed: identity.lapsed, ..trust };
        Self { context, headers, place, identity, trust, public, asks: OnceLock::new() }
    }

    /// What asks the registry in its name.
    pub(crate) fn ask(&self) -> &Arc<Ask> {
        &self.asks().ask
    }

    /// Whether anybody may read here, as far as is known.
    pub(crate) fn is_public(&self) -> bool {
        self.identity.public
    }

    /// Whether the registry is asked with nobody's credentials.
    pub(crate) fn asks_as_nobody(&self) -> bool {
        matches!(self.identity.who, AskAs::Nobody)
    }

    /// A source that asks in the same place with nobody's credentials.
    pub(crate) fn nobody(&self) -> Arc<dyn Source> {
        Arc::new(self.ask().for_nobody())
    }

    fn asks(&self) -> &Asks {
        self.asks.get_or_init(|| {
            let ask = Arc::new(self.make());
            let (place, principal) = (self.place.clone(), self.identity.principal.clone());
            let caller = Caller { carried: ask.carried, ..Caller::new(place, principal, ask.clone(), self.trust) };
            Asks { ask, caller }
        })
    }

    fn make(&self) -> Ask {
        let context = self.context;
        let Identity { principal, who: ask_as, public, .. } = &self.identity;
        Ask {
            upstream: context.upstream.clone(),
            authenticated: context.authenticated.clone(),
            outage: context.outage.clone(),
            asked: context.asked().clone(),
            detours: context.proxy.cache.detours().clone(),
            registry: context.registry.clone(),
            host: context.authority.clone(),
            repository: self.place.repository.clone(),
            ask_as: ask_as.clone(),
            carried: match ask_as {
                // It is asked as nobody for a client that holds a token of the proxy: a no says nothing of the holder.
                _ if context.holder.is_some() && matches!(principal, Principal::Known(_)) => Carried::Reduced,
                AskAs::Caller(None) if !public => Carried::Bare,
                _ => Carried::Own,
            },
            public: *public,
            manner: Manner::of(self.headers, context.has_parents().then_some(&context.proxy.pseudonym)),
            client: context.client,
        }
    }
}

impl Requester for Puller<'_> {
    fn reader(&self) -> PlaceReader<'_> {
        let (place, principal, trust) = (&self.place, &self.identity.principal, &self.trust);
        PlaceReader { place, principal, trust, public: Some(self.public) }
    }

    fn caller(&self) -> &Caller {
        &self.asks().caller
    }
}
