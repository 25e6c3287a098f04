//! Passes on what is read and not cached, tags and referrers, in the name that a pull there would have.

use http::Request;
use http::header::{AUTHORIZATION, COOKIE};

use crate::cache::{Place, Trust};
use crate::oci::Repository;
use crate::proxy::asked::AskedUpstream;
use crate::proxy::auth::identity;
use crate::proxy::context::Context;
use crate::proxy::pull::redirected;
use crate::proxy::served::ServedAnswer;
use crate::proxy::{answer, faults, forward};
use crate::telemetry::Kind;
use crate::upstream::AskAs;
use crate::upstream::Sending;
use crate::upstream::{Downloads, Endpoint};
use crate::wire::Received;

/// Passes a GET or HEAD on to `endpoint`, and its answer back. Whose question finds out that the registry is away is
/// told so, as those who ask after it are.
pub(crate) async fn pass(
    context: &Context<'_>,
    repository: &Repository,
    endpoint: &Endpoint,
    kind: Kind,
    request: Request<Received>,
) -> ServedAnswer {
    let seen = context.outage.seen();
    let answered = passed(context, repository, endpoint, kind, request).await;
    if answered.status().is_server_error() {
        context.outage.settled().await;
    }
    if !context.outage.is_news_after(seen) || !answered.status().is_server_error() {
        return answered;
    }
    faults::of_upstream(&context.outage.away(endpoint.authority(), context.outage.retry_after())).into()
}

async fn passed(
    context: &Context<'_>,
    repository: &Repository,
    endpoint: &Endpoint,
    kind: Kind,
    request: Request<Received>,
) -> ServedAnswer {
    let place = Place { registry: context.origin.clone(), repository: repository.clone() };
    let registry = context.registry;
    let away = context.outage.is_home_away();
    let (lives, deadline) = (registry.lives(), registry.tags().deadline());
    let trust = Trust { lives, deadline, away, ..Trust::default() };
    let open = context.proxy.cache.is_public(&place, &trust).await;
    let who = registry.name_for(endpoint, &identity::of(context, &place, request.headers(), &trust, open).who);
    // A mirror's client is not sent on to where the registry redirects, so that is followed here.
    if matches!(who, AskAs::Caller(_)) && context.naming.is_none() {
        return forward::pass(context, &context.upstream, endpoint, kind, request).await;
    }
    let (mut parts, _) = request.into_parts();
    forward::prepare(&mut parts, &context.proxy.pseudonym);
    parts.headers.remove(AUTHORIZATION);
    parts.headers.remove(COOKIE);
    let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let sending = Sending {
        registry: registry.name(),
        realms: registry.realms(),
        endpoint,
        repository,
        method: &parts.method,
        target: &target,
        headers: &parts.headers,
        downloads: Downloads::Paced,
        patience: None,
    };
    let question = AskedUpstream::begin(kind, endpoint.authority());
    let answered = context.authenticated.ask(&context.upstream, &who, &sending).await;
    let detours = answered.as_ref().map_or_else(|_| Vec::new(), redirected::detours);
    if !detours.is_empty() {
        context.proxy.cache.detours().note(&place, detours).await;
    }
    context.asked().note_asked(&question, answered.as_ref());
    match answered {
        Ok(response) => forward::counted(context, forward::returned(response)).into(),
        Err(ask_error) => ServedAnswer::of_fault(&answer::fault_of_ask_error(ask_error), kind),
    }
}
