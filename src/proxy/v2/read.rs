//! Answers a pull or a ping; once more, from what is cached, when the registry turns out to be away meanwhile.

use std::pin::pin;

use http::header::HeaderMap;
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::oci::{Reference, Repository, Route};
use crate::proxy::auth::challenge::challenge;
use crate::proxy::auth::{guesses, ping};
use crate::proxy::context::Context;
use crate::proxy::pull::pull::{PATIENCE, Pull};
use crate::proxy::respond;
use crate::proxy::served::Served;

/// Answers what may be cached: on the registry's word while it is reachable, without it otherwise. Where the
/// registry turns out to be unreachable meanwhile, it answers what it can now; the first attempt continues in the
/// background.
pub(crate) async fn read(context: &Context<'_>, route: &Route, method: &Method, headers: &HeaderMap) -> Served {
    let until = Instant::now() + PATIENCE;
    let once = || async {
        let answered = tokio::time::timeout_at(until, content(context, route, method, headers)).await;
        answered.unwrap_or_else(|_| Served::failure(respond::no_answer()))
    };
    let seen = context.outage.seen();
    let mut first = pin!(once());
    let served = tokio::select! {
        biased; // what is cached is there at once
        served = first.as_mut() => Some(served),
        () = context.outage.news_after(seen) => None,
    };
    // The client whose request reveals the outage gets the same answer as later ones.
    if served.as_ref().is_some_and(|served| served.status().is_server_error()) {
        context.outage.settled().await;
    }
    let is_news = context.outage.is_news_after(seen);
    let has_failed = |served: &Served| is_news && served.status().is_server_error();
    let served = match served.filter(|served| !has_failed(served)) {
        Some(served) => served,
        None => Box::pin(once()).await,
    };
    or_challenge(context, route.repository(), served).await
}

/// `served`, or in an outage a challenge, where the client may have more with credentials.
pub(crate) async fn or_challenge(context: &Context<'_>, repository: Option<&Repository>, served: Served) -> Served {
    // A client that carries nothing may have a right that a grant remembers, and is told how to show it: except where the
    // ping said that nobody needs credentials, since a client believes that until its end. Who carries a token of
    // the registry's would not authenticate again in mid-pull, and asks again after a 503.
    let carries = context.holder.is_some() || context.authorization.is_some();
    if served.answer.is_away() && context.outage.is_open() && !carries && !ping::is_open_to_all(context).await {
        return Served::bypass(challenge(context, repository));
    }
    served
}

async fn content(context: &Context<'_>, route: &Route, method: &Method, headers: &HeaderMap) -> Served {
    let was_open = context.outage.is_open();
    if was_open && let Some(busy) = busy(context, route).await {
        return busy;
    }
    let served = asked(context, route, method, headers).await;
    // Who has shown a right gets what is cached, whether the registry throttles or not: here it is the proxy that tells a
    // right password from a wrong one.
    if !was_open
        && served.status() == StatusCode::TOO_MANY_REQUESTS
        && let Some(busy) = busy(context, route).await
    {
        return busy;
    }
    served
}

/// Delays a password that is perhaps a guess. The answer where too many are.
async fn busy(context: &Context<'_>, route: &Route) -> Option<Served> {
    let admitted = Box::pin(guesses::admit_reader(context, route.repository()?)).await;
    admitted.err().map(Served::failure)
}

async fn asked(context: &Context<'_>, route: &Route, method: &Method, headers: &HeaderMap) -> Served {
    let pull = |repository| Pull { context, repository, method, headers };
    match route {
        Route::Blob(repository, digest) => pull(repository).blob(*digest).await,
        Route::Manifest(repository, Reference::Digest(digest)) => pull(repository).manifest(*digest).await,
        Route::Manifest(repository, Reference::Tag(tag)) => pull(repository).tag(tag).await,
        _ => Box::pin(ping::answer(context, method, headers)).await,
    }
}
