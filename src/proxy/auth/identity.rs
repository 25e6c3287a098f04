//! Tells who asks for something in a repository, and in whose name the registry is asked for it.
//!
//! A caller's own credentials decide, as if the proxy were not there. Where the operator has said so, nobody's
//! are used, or the proxy's own for callers who bring none: those serve what is public and what `repositories`
//! lists, and nothing else.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap};

use crate::cache::{Place, Principal, Trust};
use crate::proxy::context::Context;
use crate::proxy::registry::registry::Whose;
use crate::proxy::tokens::bearers::Presented;
use crate::proxy::tokens::local::Holder;
use crate::upstream::AskAs;

/// The client of a request, and the name in which the registry is asked.
pub(crate) struct Identity {
    pub(crate) principal: Principal,
    pub(crate) who: AskAs,
    /// Anybody may read here, as far as is known, even where the caller's token is refused.
    pub(crate) public: bool,
    /// The caller's token has expired.
    pub(crate) lapsed: bool,
}

/// Tells who a request to `context` with these `headers` is from, at its place. `open` says whether that is public.
pub(crate) fn of(
    context: &Context<'_>,
    place: &Place,
    headers: &HeaderMap,
    trust: &Trust,
    open: Option<bool>,
) -> Identity {
    let (cache, header) = (&context.proxy.cache, headers.get(AUTHORIZATION));
    let nobody = |public| Identity { principal: Principal::Anonymous, who: AskAs::Nobody, public, lapsed: false };
    if !context.takes_credentials() && !matches!(context.registry.whose(), Whose::Held(_)) {
        return nobody(false); // what the client may have is the mirror's
    }
    if matches!(context.registry.whose(), Whose::Nobody) {
        return nobody(false);
    }
    let bears = match context.holder {
        Some(Holder::Known(known)) => {
            // A local token means nothing to the registry, which is asked as nobody. A no says nothing of a right
            // that the holder has proven; where it has none, it is a no as to anybody.
            let principal = Principal::Known(known);
            let public = open.is_some();
            if public && !cache.is_granted(place, &principal, trust) {
                return nobody(false);
            }
            return Identity { principal, who: AskAs::Nobody, public, lapsed: false };
        }
        Some(Holder::Nobody) => Presented::Nobody,
        None => {
            let Context { registry, authority, authorization, .. } = context;
            context.proxy.bearers.bears(cache, registry, authority, &place.repository, authorization.as_ref())
        }
    };
    let public = open.is_some();
    if let (Whose::Held(keyring), Presented::Nobody | Presented::Anybody { .. }) = (context.registry.whose(), bears) {
        let listed = keyring.lists(&place.repository);
        if !listed && open != Some(true) {
            return nobody(false); // its answer is the proof, if it is one
        }
        let who = AskAs::Held { keyring: Arc::clone(keyring), listed };
        return Identity { principal: Principal::Proxy, who, public, lapsed: false };
    }
    let header = || header.cloned();
    match bears {
        // The holder of a local token cannot authenticate again, and gets what anybody is given.
        Presented::Nobody if public || context.holder.is_some() => nobody(false),
        Presented::Nobody => Identity { who: AskAs::Caller(None), ..nobody(false) },
        Presented::Anybody { lapsed } => {
            Identity { principal: Principal::Anybody, who: AskAs::Caller(header()), public, lapsed }
        }
        Presented::Credential { mac, lapsed } => {
            let principal = cache.principal(&place.registry, Some(&mac));
            Identity { principal, who: AskAs::Caller(header()), public, lapsed }
        }
        Presented::Itself => {
            let principal = cache.principal(&place.registry, header().as_ref().map(|header| header.as_bytes()));
            Identity { principal, who: AskAs::Caller(header()), public, lapsed: false }
        }
    }
}
