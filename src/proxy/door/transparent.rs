//! Serves clients that do not know of the proxy: the name that TLS asks for says which host they mean.
//!
//! They come by a DNS override, or by iptables (REDIRECT, TPROXY). The name gets the verdict of a CONNECT to it, at the
//! port that the client connected to; what follows is the same. Nobody asked for the proxy's own pages here, and no
//! client can be asked for a password.
//! Threat: a client that connects to one address and asks for the name of another host, to have either believed.
//! Defence: the name alone decides, and the proxy resolves it itself; of the original destination only the port counts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::first_bytes::FIRST_BYTE;
use super::handshake::{self, HelloReader, Read};
use super::intercept::alert;
use super::{client_hello, connect, intercept, tunnel};
use crate::host::LogThrottle;
use crate::oci::{Authority, Code, Host};
use crate::proxy::clients::Client;
use crate::proxy::clients::refused::RefusedRequest;
use crate::proxy::limit::Exceeded;
use crate::proxy::policy::Policy;
use crate::proxy::record::Record;
use crate::proxy::registry::verdict::Verdict;
use crate::proxy::respond::Failure;
use crate::proxy::site::Arrival;
use crate::proxy::state::Proxy;
use crate::upstream;
use crate::wire::Rewind;

/// A hello is on its way as a whole.
const HELLO: Duration = Duration::from_secs(15);
const HTTPS: u16 = 443;
const LEAVE_OUT: &str = "leave the proxy's own connections out of the redirection (docs/transparent.md)";

static SAID: LogThrottle = LogThrottle::new();

/// Fatal alerts (RFC 8446, 6.2) in place of the answers that HTTP has for it.
const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
const UNRECOGNIZED_NAME: u8 = 112;

/// A client's connection, whichever it is: what serves it is compiled once.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// Why a connection does not say which host it is for.
#[derive(Debug, thiserror::Error)]
enum Unnamed {
    #[error("it does not begin with TLS")]
    NotTls,
    #[error("what begins as TLS holds no ClientHello that can be read")]
    Unreadable,
    #[error("the ClientHello asks for no host name, so nobody can say which host is meant")]
    NoName,
    #[error("no ClientHello came in time")]
    Late,
    #[error("the client left")]
    Left,
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

impl Unnamed {
    /// Its word in the metrics, and the alert that the client gets, if it speaks TLS. A client that left has not failed.
    fn told(&self) -> (Option<&'static str>, Option<u8>) {
        match self {
            Self::NotTls => (Some("not_tls"), None),
            Self::Unreadable => (Some("protocol"), Some(DECODE_ERROR)),
            Self::NoName => (Some("no_name"), Some(UNRECOGNIZED_NAME)),
            Self::Late => (Some("timeout"), None),
            Self::Left | Self::Io(_) => (None, None),
        }
    }
}

/// Where a connection comes from, and where it was to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionEnds {
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// The address that the client connected to, where that is known.
    pub(crate) to: Option<SocketAddr>,
}

/// Serves a connection with these ends until it ends. One beyond a limit is answered with that
/// `refusal`.
pub(crate) async fn serve(
    proxy: Arc<Proxy>,
    from: Arrival,
    ends: ConnectionEnds,
    mut stream: Box<dyn Duplex>,
    refusal: Option<Exceeded>,
) {
    let mut said = BytesMut::with_capacity(2048);
    let not_yet = CancellationToken::new();
    let heard = tokio::select! {
        heard = name(&mut stream, &mut said) => heard,
        () = proxy.leaving(&not_yet) => return,
    };
    let host = match heard {
        Ok(host) => host,
        Err(unnamed) => {
            debug!(client = %from.address, reason = %unnamed, "a connection to the transparent listener names no host");
            let (reason, code) = unnamed.told();
            reason.into_iter().for_each(|reason| proxy.metrics.handshake_failure(reason));
            return close(stream, code).await;
        }
    };
    let policy = proxy.policy();
    let authority = Authority { port: port(&policy, &host, ends.to), host };
    let stream = Rewind::new(said.freeze(), stream);
    let came_back = upstream::is_own_connection(ends.client);
    Box::pin(answer(proxy, policy, from, authority, stream, refusal, came_back)).await;
}

async fn answer(
    proxy: Arc<Proxy>,
    policy: Arc<Policy>,
    from: Arrival,
    authority: Authority,
    stream: Rewind<Box<dyn Duplex>>,
    refusal: Option<Exceeded>,
    came_back: bool,
) {
    let question = question(&authority);
    let mut record = Record::new(&proxy.metrics, from, &question, authority.to_string(), "connect");
    let turned_away = |word: &'static str, failure: Failure| TurnedAway { word, failure };
    let denied = |message: &str| Failure::new(StatusCode::FORBIDDEN, Code::Denied, "http_request_denied", message);
    let client = Client { from, user: None };
    let turned_away = if came_back {
        if SAID.is_due() {
            warn!(to = %authority, "a connection of the proxy's own was redirected to listen.transparent: {LEAVE_OUT}");
        }
        turned_away("loop", denied(LEAVE_OUT))
    } else if !policy.admits(from.address) {
        turned_away("stranger", denied("not in clients.allow"))
    } else if policy.clients.logins.is_some() {
        turned_away("login", denied("clients.htpasswd is set, and a client of listen.transparent has no password"))
    } else {
        match policy.judge(&authority) {
            Verdict::Refuse(refusal) => turned_away("refuse", denied(&refusal.to_string())),
            verdict @ Verdict::Intercept(_) => {
                record.judged(verdict.label(), 200);
                drop(record); // its requests have lines of their own
                return intercept::run(proxy, client, authority, stream, refusal).await;
            }
            verdict @ (Verdict::Tunnel | Verdict::Uncovered(_)) => {
                let via = proxy.pseudonym.via_entries(&HeaderMap::new(), Version::HTTP_11);
                let dialled = match refusal {
                    Some(refusal) => Err(connect::crowded(&refusal)),
                    None => connect::dial(&proxy, &policy, from.address, &authority, &via).await,
                };
                match dialled {
                    Ok((_counted, upstream)) => {
                        record.judged(verdict.label(), 200);
                        return tunnel::run(proxy.clone(), client, authority, stream, upstream, record).await;
                    }
                    Err((word, failure)) => TurnedAway { word, failure },
                }
            }
        }
    };
    let TurnedAway { word, failure } = turned_away;
    record.judged(word, failure.status.as_u16());
    record.detail(failure.message.clone());
    if let Some(asked) = RefusedRequest::of(&policy.clients, from.address, &question) {
        asked.note(&policy.clients, None, None, failure.status, &failure.message);
    }
    let code = if failure.status == StatusCode::FORBIDDEN { ACCESS_DENIED } else { INTERNAL_ERROR };
    close(stream, Some(code)).await;
}

/// A word for the metrics, and the answer that a CONNECT would get.
struct TurnedAway {
    word: &'static str,
    failure: Failure,
}

/// The CONNECT that stands for what the client has not said, in the record and the audit log.
fn question(authority: &Authority) -> Request<()> {
    let mut question = Request::new(());
    *question.method_mut() = Method::CONNECT;
    if let Ok(uri) = authority.to_string().parse() {
        *question.uri_mut() = uri;
    }
    question
}

/// The port that the client means: the one that it connected to, where a NAT or a balancer tells that. The listener's own
/// port says nothing in a DNS override, as it may stand behind a port that was published as another; it counts where
/// a registry is known at it.
fn port(policy: &Policy, host: &Host, to: Option<SocketAddr>) -> u16 {
    let Some(port) = to.map(|to| to.port()) else { return HTTPS };
    let is_listeners = policy.transparent == Some(port);
    if is_listeners && !policy.is_registry(host, port) { HTTPS } else { port }
}

/// The one name that the ClientHello at the beginning of `stream` asks for. All that was read is in `said`.
async fn name<S: AsyncRead + Unpin>(stream: &mut S, said: &mut BytesMut) -> Result<Host, Unnamed> {
    let first = tokio::time::timeout(FIRST_BYTE, stream.read_buf(said)).await;
    match first.map_err(|_| Unnamed::Late)?? {
        0 => Err(Unnamed::Left),
        _ => tokio::time::timeout(HELLO, hello(stream, said)).await.map_err(|_| Unnamed::Late)?,
    }
}

async fn hello<S: AsyncRead + Unpin>(stream: &mut S, said: &mut BytesMut) -> Result<Host, Unnamed> {
    let mut reader = HelloReader::first();
    loop {
        if handshake::may_be_tls(said) == Some(false) {
            return Err(Unnamed::NotTls);
        }
        match reader.read(said) {
            Read::More => {}
            Read::Other => return Err(Unnamed::Unreadable),
            Read::Hello(message, _) => {
                let mut names = client_hello::names(&message).ok_or(Unnamed::Unreadable)?;
                names.dedup();
                let [name @ Host::Name(_)] = &names[..] else { return Err(Unnamed::NoName) };
                return Ok(name.clone());
            }
        }
        if stream.read_buf(said).await? == 0 {
            return Err(Unnamed::Left);
        }
    }
}

/// Ends a connection, with an alert where its client speaks TLS.
async fn close<S: AsyncWrite + Unpin>(mut stream: S, code: Option<u8>) {
    let closing = async {
        if let Some(code) = code {
            stream.write_all(&alert(code)).await?;
        }
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(HELLO, closing).await; // it is closed in any case
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hello_has_a_deadline_from_its_first_byte_on() {
        let begun = tokio::time::Instant::now();
        let (mut client, mut server) = tokio::io::duplex(64);
        let mut said = BytesMut::new();
        let (named, ()) = tokio::join!(name(&mut server, &mut said), async {
            tokio::time::sleep(FIRST_BYTE / 2).await;
            client.write_all(b"\x16\x03\x01\x02").await.unwrap();
        });
        assert!(matches!(named, Err(Unnamed::Late)));
        assert_eq!(begun.elapsed(), FIRST_BYTE / 2 + HELLO);
        let silent = name(&mut server, &mut BytesMut::new()).await;
        assert!(matches!(silent, Err(Unnamed::Late)));
        assert_eq!(begun.elapsed(), FIRST_BYTE / 2 + HELLO + FIRST_BYTE);
    }
}
