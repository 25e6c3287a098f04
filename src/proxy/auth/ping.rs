//! Answers `GET /v2/`: the registry's own answer, challenge and all; the proxy's while it is away.
//!
//! Podman and Skopeo take their challenge from this answer alone, and after a 200 Docker sends no credentials
//! either: so the proxy gives a 200 only where the registry gave it to a request without credentials, and
//! everybody else is sent to our own token service. A page that answers everything with 200 is not that answerer.
//! Where a mirror's name takes no credentials of a registry's, no client needs a token, whatever the registry wants: the
//! proxy answers 200, and brings what is needed itself.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, WARNING};
use http::{Method, Request, Response, StatusCode};

use super::challenge::{challenge, has_failed};
use super::own_word::judged;
use crate::host::within;
use crate::oci::Look;
use crate::proxy::context::Context;
use crate::proxy::registry::registry::Whose;
use crate::proxy::served::{Served, ServedAnswer};
use crate::proxy::tokens::bearers;
use crate::proxy::{forward, respond};
use crate::store::Ping;
use crate::telemetry::{Kind, Outcome};
use crate::wire::{self, Body};

/// The facts that decide who answers a ping.
#[derive(Clone, Copy, Debug)]
struct PingCase {
    /// The registry is away, or has just failed to answer.
    away: bool,
    /// The proxy has credentials of its own for it: clients need none, but have to ask us for a token that says so.
    held: bool,
    /// The client's credentials.
    carried: Carried,
}

/// Which credentials a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    Nothing,
    /// A good local token.
    Local,
    /// Its own, which only the registry can judge.
    Own,
}

/// The one that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answerer {
    /// The registry.
    Theirs,
    /// We, with 200.
    Welcome,
    /// We: the registry's last 200, else a challenge that leads to our token service.
    LastKnown,
    /// We, with that challenge in any case.
    Challenge,
}

impl PingCase {
    fn answerer(self) -> Answerer {
        match self {
            Self { away: true, carried: Carried::Local, .. } | Self { held: true, carried: Carried::Local, .. } => {
                Answerer::Welcome
            }
            Self { held: true, carried: Carried::Nothing, .. } => Answerer::Challenge,
            Self { away: true, .. } => Answerer::LastKnown,
            Self { away: false, .. } => Answerer::Theirs,
        }
    }
}

/// Answers a ping.
pub(crate) async fn answer(context: &Context<'_>, method: &Method, headers: &HeaderMap) -> Served {
    let carried = match (&context.holder, context.authorization.is_some()) {
        (Some(_), _) => Carried::Local,
        (None, true) => Carried::Own,
        (None, false) => Carried::Nothing,
    };
    let held = match context.registry.whose() {
        _ if !context.takes_credentials() => return Served::bypass(welcome(method)),
        Whose::Client => false,
        // Nobody needs credentials, and none would be used.
        Whose::Nobody => return Served::bypass(welcome(method)),
        Whose::Held(_) => true,
    };
    let case = PingCase { away: context.outage.is_open(), held, carried };
    let answerer = match case.answerer() {
        Answerer::Theirs => match asked(context, method, headers).await {
            Some(served) => return served,
            None => PingCase { away: true, ..case }.answerer(),
        },
        answerer => answerer,
    };
    match answerer {
        Answerer::Welcome => {
            let mut response = welcome(method);
            if context.outage.is_open() {
                response.headers_mut().insert(WARNING, HeaderValue::from_static(respond::AWAY_WARNING));
            }
            Served::bypass(response)
        }
        Answerer::LastKnown => {
            let known = recall(context, method).await;
            known.unwrap_or_else(|| Served::bypass(challenge(context, None)))
        }
        Answerer::Challenge | Answerer::Theirs => Served::bypass(challenge(context, None)),
    }
}

/// The registry's answer, if it gives one; asked again where our probe was answered and the ping was not.
async fn asked(context: &Context<'_>, method: &Method, headers: &HeaderMap) -> Option<Served> {
    let before = context.outage.changed();
    if let Some(served) = ask(context, method, headers).await {
        return Some(served);
    }
    context.outage.settled().await;
    let was_silent = context.outage.changed() != before;
    if was_silent && !context.outage.is_open() { ask(context, method, headers).await } else { None }
}

/// The registry's answer, unless it says that it cannot answer, or not now.
async fn ask(context: &Context<'_>, method: &Method, headers: &HeaderMap) -> Option<Served> {
    let deciding = context.registry.deciding_endpoints(context.authority);
    let deadline = context.deadline(context.registry.tags().deadline());
    for endpoint in context.upstream.order(&deciding) {
        let request = bodiless(method, headers)?;
        let asked = async {
            let passed = forward::pass(context, &context.upstream, endpoint, Kind::Ping, request);
            match passed.await {
                ServedAnswer::Message(response) => Ok(judged(response).await),
                words => Err(words),
            }
        };
        let about = context.upstream.asked_of(std::slice::from_ref(endpoint), None);
        match within(deadline, &about, asked).await {
            None => {}
            Some(Err(words)) if words.is_ours() || !has_failed(words.status()) => return Some(Served::bypass(words)),
            Some(Err(_)) => {}
            Some(Ok((response, _))) if has_failed(response.status()) => {}
            Some(Ok((response, is_own_word))) => {
                let is_to_nobody = context.authorization.is_none() && bearers::is_plain(headers);
                if is_to_nobody && (is_own_word || response.status() == StatusCode::UNAUTHORIZED) {
                    remember(context, &response);
                }
                return Some(Served::bypass(response));
            }
        }
    }
    None
}

fn bodiless(method: &Method, headers: &HeaderMap) -> Option<Request<Body>> {
    let mut request = Request::builder().method(method).uri("/v2/").body(Body::empty()).ok()?;
    *request.headers_mut() = headers.clone();
    wire::without_overrides(request.headers_mut());
    Some(request)
}

fn remember(context: &Context<'_>, response: &Response<Body>) {
    let kept = |name: &HeaderName| {
        *name == respond::API_VERSION
            || name.as_str().starts_with("www-authenticate")
            || name.as_str() == "content-type"
    };
    let headers = response.headers().iter().filter(|(name, _)| kept(name));
    let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    context.proxy.store.catalog().record_ping(Ping {
        registry: Arc::clone(&context.origin),
        status: response.status().as_u16(),
        headers: headers.collect(),
        seen: SystemTime::now(),
    });
}

/// Whether the registry requires no credentials, as far as is known: it answered 200 to a request without any.
pub(crate) async fn is_open_to_all(context: &Context<'_>) -> bool {
    let needs_none = matches!(context.registry.whose(), Whose::Nobody) || !context.takes_credentials();
    needs_none || last_known(context).await.is_some()
}

async fn last_known(context: &Context<'_>) -> Option<Ping> {
    // An earlier version took a page for the registry's answerer.
    let is_page = |ping: &Ping| {
        let said = ping.headers.iter().find(|(name, _)| name == CONTENT_TYPE.as_str());
        Look::of(said.map(|(_, value)| value.as_str())) == Look::Page
    };
    let known = context.proxy.store.catalog().ping(&context.origin).await.ok().flatten();
    known.filter(|ping| ping.status == 200 && !is_page(ping))
}

/// The last 200 of a registry that requires no credentials.
async fn recall(context: &Context<'_>, method: &Method) -> Option<Served> {
    let ping = last_known(context).await?;
    let mut response = Response::new(body(method));
    for (name, value) in &ping.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    }
    let age = ping.seen.elapsed().unwrap_or_default();
    Some(Served { outcome: Outcome::Stale, age: Some(age), ..Served::bypass(response) })
}

/// The proxy's 200, for the holder of a local token.
fn welcome(method: &Method) -> Response<Body> {
    let mut response = Response::new(body(method));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(respond::API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

fn body(method: &Method) -> Body {
    if *method == Method::HEAD { Body::empty() } else { Body::full("{}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_learns_from_its_ping_what_its_protocol_needs() {
        let table = [
            (false, false, Carried::Nothing, Answerer::Theirs),
            (false, false, Carried::Own, Answerer::Theirs),
            (false, false, Carried::Local, Answerer::Theirs),
            (true, false, Carried::Nothing, Answerer::LastKnown),
            (true, false, Carried::Own, Answerer::LastKnown),
            (true, false, Carried::Local, Answerer::Welcome),
            (false, true, Carried::Nothing, Answerer::Challenge),
            (false, true, Carried::Own, Answerer::Theirs),
            (false, true, Carried::Local, Answerer::Welcome),
            (true, true, Carried::Nothing, Answerer::Challenge),
            (true, true, Carried::Own, Answerer::LastKnown),
            (true, true, Carried::Local, Answerer::Welcome),
        ];
        for (away, held, carried, expected) in table {
            assert_eq!(PingCase { away, held, carried }.answerer(), expected, "away {away}, held {held}, {carried:?}");
        }
    }
}
