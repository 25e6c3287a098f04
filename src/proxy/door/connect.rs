//! Answers CONNECT: judged by name, then refused, tunnelled or intercepted.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tracing::debug;

use super::lingering::Lingering;
use super::{intercept, tunnel};
use crate::oci::{Authority, BadAuthority, Code};
use crate::proxy::clients::Client;
use crate::proxy::faults;
use crate::proxy::limit::{Exceeded, Stream, Tunnel};
use crate::proxy::policy::Policy;
use crate::proxy::record::Record;
use crate::proxy::registry::verdict::Verdict;
use crate::proxy::respond::{self, Failure, Rendered};
use crate::proxy::state::Proxy;
use crate::upstream::{self, EgressStream};
use crate::wire::{Body, Guarded, Received};

/// Answers a CONNECT. What follows a 200 goes on in a task of its own, which keeps the `stream`: a connection of HTTP/2 that
/// carries nothing but tunnels is not idle.
pub(crate) async fn answer(
    proxy: &Arc<Proxy>,
    client: Client,
    request: Request<Received>,
    stream: Arc<Stream>,
) -> Rendered {
    let parsed = target(&request);
    let host = parsed.as_ref().map_or_else(|_| "-".to_owned(), ToString::to_string); // never what did not parse
    let mut record = Record::new(&proxy.metrics, client.from, &request, host, "connect");
    record.user(client.user.as_ref());
    let Ok(authority) = parsed else {
        let message = "CONNECT needs a host and a port, such as quay.io:443, and no body";
        return refuse(
            record,
            "malformed",
            &Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, "http_request_error", message),
        );
    };
    let policy = proxy.policy();
    let verdict = policy.judge(&authority);
    match verdict {
        Verdict::Refuse(refusal) => refuse(
            record,
            verdict.label(),
            &Failure::new(StatusCode::FORBIDDEN, Code::Denied, "http_request_denied", refusal.to_string()),
        ),
        Verdict::Intercept(_) => {
            // A connection is counted where it is accepted; the many of one connection of HTTP/2 are counted here.
            let is_one_of_many = request.version() == Version::HTTP_2;
            let counted = is_one_of_many.then(|| proxy.limiter.of(client.from.address).tunnel()).transpose();
            let counted = match counted {
                Ok(counted) => counted,
                Err(refusal) => {
                    let (word, failure) = crowded(&refusal);
                    return refuse(record, word, &failure);
                }
            };
            record.judged(verdict.label(), 200);
            upgrade(proxy, client.from.address, request, (counted, stream), move |proxy, upgraded| async move {
                drop(record); // its requests have lines of their own
                intercept::run(proxy, client, authority, upgraded, None).await;
            })
        }
        Verdict::Tunnel | Verdict::Uncovered(_) => {
            // Dialled before the 200, so that a failure is an answer with a reason and not a broken tunnel.
            let via = proxy.pseudonym.via_entries(request.headers(), request.version());
            match dial(proxy, &policy, client.from.address, &authority, &via).await {
                Err((word, failure)) => refuse(record, word, &failure),
                Ok((tunnel, upstream)) => {
                    record.judged(verdict.label(), 200);
                    let (from, kept) = (client.from.address, (tunnel, stream));
                    let mut answer = upgrade(proxy, from, request, kept, move |proxy, upgraded| async move {
                        tunnel::run(proxy, client, authority, upgraded, upstream, record).await;
                    });
                    if matches!(verdict, Verdict::Uncovered(_)) {
                        let words = HeaderValue::from_static("pullthrough; fwd=bypass; detail=uncovered");
                        answer.response.headers_mut().insert(respond::CACHE_STATUS, words); // for `doctor`
                    }
                    answer
                }
            }
        }
    }
}

/// The other end of a tunnel to `authority`, and its place among the tunnels.
///
/// # Errors
/// The word for the metrics, and the answer.
pub(super) async fn dial(
    proxy: &Proxy,
    policy: &Policy,
    client: IpAddr,
    authority: &Authority,
    via: &str,
) -> Result<(Tunnel, EgressStream), (&'static str, Failure)> {
    if let Some(forbidden) = policy.upstream.forbidden(authority) {
        return Err(("refuse", faults::of_upstream(&upstream::Error::Forbidden(forbidden))));
    }
    let tunnel = proxy.limiter.of(client).tunnel().map_err(|refusal| crowded(&refusal))?;
    match Box::pin(policy.upstream.dial(authority, via)).await {
        Ok(upstream) => Ok((tunnel, upstream)),
        Err(error) => {
            let failure = faults::of_upstream(&error);
            let is_refused = failure.status == StatusCode::FORBIDDEN;
            Err((if is_refused { "refuse" } else { "failed" }, failure))
        }
    }
}

/// What becomes of a connection that is beyond a limit.
pub(super) fn crowded(refusal: &Exceeded) -> (&'static str, Failure) {
    ("crowded", respond::too_many(refusal))
}

/// Host and port, both said (RFC 9110, 9.3.6), and nothing beside them: neither a scheme, a path nor a user, nor a body
/// in whose place the tunnel's bytes would be.
fn target<B>(request: &Request<B>) -> Result<Authority, BadAuthority> {
    let uri = request.uri();
    let is_plain = uri.scheme().is_none() && uri.path_and_query().is_none() && uri.port().is_some();
    let is_framed = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| request.headers().contains_key(name));
    match uri.authority() {
        Some(authority) if is_plain && !is_framed => Authority::parse(authority.as_str(), 443),
        _ => Err(BadAuthority),
    }
}

fn refuse(mut record: Record, word: &'static str, failure: &Failure) -> Rendered {
    record.judged(word, failure.status.as_u16());
    record.detail(failure.message.clone());
    failure.render()
}

/// What is behind a CONNECT, with what is kept for as long as it is open.
type Upgraded<G> = Lingering<Guarded<TokioIo<hyper::upgrade::Upgraded>, G>>;

/// 200, and `then` with the raw connection once the client has it.
fn upgrade<F, G>(
    proxy: &Arc<Proxy>,
    client: IpAddr,
    request: Request<Received>,
    kept: G,
    then: impl FnOnce(Arc<Proxy>, Upgraded<G>) -> F + Send + 'static,
) -> Rendered
where
    F: Future<Output = ()> + Send + 'static,
    G: Send + Unpin + 'static,
{
    // One of HTTP/1.1 is the whole connection, which lingers itself.
    let lingerer = (request.version() == Version::HTTP_2).then(|| proxy.lingerer(client));
    let upgraded = hyper::upgrade::on(request);
    let handed = proxy.clone();
    proxy.spawn(async move {
        match upgraded.await {
            Ok(stream) => then(handed, Lingering::new(Guarded::new(TokioIo::new(stream), kept), lingerer)).await,
            Err(error) => debug!(%error, "the client disconnected before its tunnel was open"),
        }
    });
    Response::new(Body::empty()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_names_a_host_and_a_port_and_nothing_else() {
        let table = [
            ("quay.io:443", true),
            ("[::1]:443", true),
            ("quay.io", false),
            ("https://quay.io/", false),
            ("https://quay.io:443/", false),
            ("u:p@quay.io:443", false),
            ("quay.io:", false),
            ("/", false),
        ];
        for (text, expected) in table {
            let parsed = text
                .parse::<http::Uri>()
                .map_err(|_| BadAuthority)
                .and_then(|uri| target(&Request::builder().method("CONNECT").uri(uri).body(()).unwrap()));
            assert_eq!(parsed.is_ok(), expected, "{text}");
        }
        let framed =
            Request::builder().method("CONNECT").uri("quay.io:443").header(CONTENT_LENGTH, 5).body(()).unwrap();
        assert!(target(&framed).is_err());
    }
}
