//! Takes TLS off a connection to a registry, with a leaf of the local CA, and serves the requests inside.
//!
//! The CONNECT authority decides: another SNI is a TLS alert, another Host is 421. A client that does not
//! trust the CA is named in the log with the cure.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::ready;
use rustls::server::Acceptor;
use rustls::{AlertDescription, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tracing::{debug, warn};

use super::http::PendingAnswer;
use super::pages;
use super::untrusting::Distrusted;
use crate::host;
use crate::oci::{Authority, Host};
use crate::proxy::clients::Client;
use crate::proxy::clients::refused;
use crate::proxy::limit::{Bounded, Exceeded, Stream};
use crate::proxy::policy::Policy;
use crate::proxy::site::{Arrival, Door, Site};
use crate::proxy::state::Proxy;
use crate::proxy::v2::dispatch;

const HANDSHAKE: Duration = Duration::from_secs(15);
/// TLS holds at most this much for a client that does not read.
const TLS_BUFFER: usize = 256 << 10;
/// A fatal unrecognized_name alert (RFC 8446, 6.2; RFC 6066, 3), sent before any handshake message of the proxy.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = alert(112);

/// A connection with TLS taken off.
pub(crate) type Secure<S> = Bounded<TlsStream<S>>;

/// A fatal alert as it is before any handshake message.
pub(crate) const fn alert(code: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, code]
}

/// Serves an intercepted connection to `authority` until it ends. Requests of one beyond a limit get that `refusal`.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    proxy: Arc<Proxy>,
    client: Client,
    authority: Authority,
    stream: S,
    refusal: Option<Exceeded>,
) {
    let (from, host) = (client.from, authority.host.clone());
    let address = from.address;
    let to = authority.short(443);
    let handshake = Box::pin(accept(&proxy, address, &to, stream, |_| Ok(host))); // what it needs goes with it
    let Some(stream) = handshake.await else { return };
    let served = match proxy.sniff(stream).await {
        Ok(Some((spoken, stream))) => {
            let handed = proxy.clone();
            let (site, user) = (Arc::new(Site::own(authority.clone())), client.user.clone());
            let handle = move |asked, stream: Arc<Stream>| -> PendingAnswer {
                match refusal.map_or_else(|| stream.admit(&asked), Err) {
                    Ok(()) => Box::pin(dispatch::answer(handed.clone(), client.clone(), site.clone(), asked)),
                    Err(refusal) => Box::pin(ready(pages::refused(&handed, from, &asked, &refusal))),
                }
            };
            let served = proxy.serve_http(spoken, stream, proxy.limiter.of(address), handle).await;
            served.inspect_err(|error| {
                let policy = proxy.policy();
                let registry = policy.registry(&authority).map(|registry| registry.name().clone());
                refused::note_unread(&policy.clients, address, user.as_ref(), registry.as_ref(), error);
            })
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        debug!(client = %address, %authority, %error, "intercepted connection ended");
    }
}

/// TLS to the proxy itself, by one of its own names. A client that asks for none names the mirror by the address that it
/// connected `to`.
pub(crate) async fn accept_own<S: AsyncRead + AsyncWrite + Unpin>(
    proxy: &Proxy,
    from: Arrival,
    to: Option<SocketAddr>,
    stream: S,
) -> Option<Secure<S>> {
    let own = |asked: Option<Host>| asked.or_else(|| host::hostname()?.parse().ok()).ok_or("no name was asked for");
    if from.door != Door::Mirror {
        return accept(proxy, from.address, "the proxy itself", stream, own).await;
    }
    let choose = |asked: Option<Host>| {
        let policy = proxy.policy();
        if let Some(config) = &policy.mirror.tls {
            return Ok(config.clone());
        }
        let reached = || to.map(|to| Host::Address(to.ip().to_canonical()));
        let unasked =
            || [policy.mirror.unasked.clone(), reached()].into_iter().flatten().find(|host| policy.ca.covers(host));
        let host = own(asked.or_else(unasked)).map_err(Failed::unnamed)?;
        // Its client means to talk to that registry, whose names are not this mirror's.
        let is_registry = policy.is_registry(&host, 443) && !policy.mirror.names.has_host(&host);
        if is_registry { Err(Failed::wrong_name()) } else { policy.ca.server_config(&host).map_err(Failed::unsigned) }
    };
    let distrusted = |policy: &Policy| match policy.mirror.tls {
        Some(_) => Distrusted::OfMirror,
        None => ours(policy),
    };
    accept_by(proxy, from.address, "the mirror", stream, choose, distrusted).await
}

/// Performs the handshake. `name` chooses the leaf's host by the name that the client asked for.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    proxy: &Proxy,
    client: IpAddr,
    to: &str,
    stream: S,
    name: impl FnOnce(Option<Host>) -> Result<Host, &'static str>,
) -> Option<Secure<S>> {
    let choose = |asked: Option<Host>| {
        let host = name(asked.clone()).map_err(Failed::unnamed)?;
        if asked.is_some_and(|asked| asked != host) {
            return Err(Failed::wrong_name());
        }
        proxy.policy().ca.server_config(&host).map_err(Failed::unsigned)
    };
    accept_by(proxy, client, to, stream, choose, ours).await
}

fn ours(policy: &Policy) -> Distrusted {
    Distrusted::OfOurs(policy.ca.fingerprint().into())
}

/// Performs the handshake. `choose` has the certificate for the name that the client asked for; it is the one `distrusted` by a
/// client that does not accept it.
async fn accept_by<S: AsyncRead + AsyncWrite + Unpin>(
    proxy: &Proxy,
    client: IpAddr,
    to: &str,
    stream: S,
    choose: impl FnOnce(Option<Host>) -> Result<Arc<ServerConfig>, Failed>,
    distrusted: impl FnOnce(&Policy) -> Distrusted,
) -> Option<Secure<S>> {
    let handshake = async {
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(Failed::before_hello)?;
        let asked = start
            .client_hello()
            .server_name()
            .map(|name| name.parse::<Host>().map_err(|_| Failed::wrong_name()))
            .transpose()?;
        let config = match choose(asked) {
            Ok(config) => config,
            Err(failed) => {
                let name = start.client_hello().server_name().map(str::to_owned);
                without_certificate(proxy, client, to, name.as_deref(), &failed);
                // There is no such host here, as far as the client can know.
                let _ = start.io.write_all(&UNRECOGNIZED_NAME).await; // it is closed in any case
                return Err(failed);
            }
        };
        finish(start, config).await
    };
    let failed = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(failed)) => failed,
        Err(_) => Failed { reason: "timeout", error: "no handshake in time".into() },
    };
    if failed.reason != LEFT {
        proxy.metrics.handshake_failure(failed.reason);
    }
    if failed.reason == "untrusted" {
        proxy.untrusting.note(client, to, &failed.error, &distrusted(&proxy.policy()));
    } else {
        debug!(%client, to, reason = failed.reason, error = failed.error, "TLS handshake failed");
    }
    None
}

/// Says that a client asked for a name for which there is no certificate here: it sees an alert alone, and a client of a mirror
/// goes on to the registry.
fn without_certificate(proxy: &Proxy, client: IpAddr, to: &str, name: Option<&str>, failed: &Failed) {
    let Some(unsaid) = (failed.reason == "unsigned").then(|| proxy.unsigned.due()).flatten() else { return };
    warn!(
        %client,
        to,
        name,
        error = failed.error,
        unsaid,
        "a client's TLS asks for a name for which there is no certificate: if it is a name of the mirror, add it to mirror.names or use a certificate for it in mirror.tls; else let the client use a name that there is one for (a sealed CA signs for no new names)"
    );
}

async fn finish<S: AsyncRead + AsyncWrite + Unpin>(
    start: StartHandshake<S>,
    config: Arc<ServerConfig>,
) -> Result<Secure<S>, Failed> {
    let mut stream = start.into_stream(config).await.map_err(Failed::of)?;
    stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
    Ok(Bounded::new(stream, TLS_BUFFER))
}

/// The reason of a handshake that did not begin.
const LEFT: &str = "left";

/// A failed handshake: a reason for the metrics and the facts for the log.
struct Failed {
    reason: &'static str,
    error: String,
}

impl Failed {
    fn of(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let reason = match tls {
            Some(rustls::Error::AlertReceived(alert)) if distrusts(*alert) => "untrusted",
            Some(rustls::Error::AlertReceived(_)) => "alert",
            Some(rustls::Error::PeerIncompatible(_)) => "incompatible",
            Some(_) => "protocol",
            None => "closed",
        };
        Self { reason, error: error.to_string() }
    }

    /// A client that leaves before it has said what it wants has not failed: its connection may have been a spare one.
    fn before_hello(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self { reason: LEFT, error: error.to_string() };
        }
        Self::of(error)
    }

    fn wrong_name() -> Self {
        Self { reason: "wrong_name", error: "TLS asks for another name than CONNECT did".into() }
    }

    fn unnamed(error: &'static str) -> Self {
        Self { reason: "wrong_name", error: error.into() }
    }

    fn unsigned(error: crate::ca::Error) -> Self {
        Self { reason: "unsigned", error: crate::telemetry::chain(&error) }
    }
}

/// The alerts of a client that does not accept our chain: Go sends bad_certificate, OpenSSL unknown_ca, Java
/// certificate_unknown.
fn distrusts(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
    )
}
