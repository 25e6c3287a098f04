//! One parent: connects to it, and asks it for a tunnel.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::PROXY_AUTHENTICATE;
use http::{HeaderValue, Response, StatusCode};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::config::{ParentConfig, ParentSite};
use super::error::{ParentError, Unreached};
use super::health::ParentHealth;
use super::tunnel;
use crate::oci::Authority;
use crate::upstream::credentials::Login;
use crate::upstream::net::dial::Dialer;
use crate::upstream::net::stream::Transport;
use crate::upstream::net::tls::{Roots, handshake_failed, server_name};
use crate::upstream::{Error, HostConfig};
use crate::wire::Rewind;

/// A proxy that upstreams are reached through.
pub(crate) struct Parent {
    authority: Authority,
    tls: Option<Arc<ClientConfig>>,
    ca_file: Option<Box<Path>>,
    login: Option<Login>,
    health: ParentHealth,
}

/// Somebody waits for it. Whoever gives up after a while has learnt that it is silent, and leaves that behind: callers
/// have shorter deadlines than the proxy's, and else nobody would ever wait to the end.
struct Wait<'a> {
    parent: &'a Parent,
    to: &'a Authority,
    begun: Instant,
    patience: Duration,
    stage: Stage,
}

/// How far somebody has come who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The parent is not reached yet.
    Reaching,
    /// It is asked for a host.
    Asking,
    /// It has answered or failed, and that is noted.
    Over,
}

/// A connection to the proxy itself.
enum Reached {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Parent {
    /// Reads its CA file, and where its password is.
    pub(crate) fn new(config: &ParentConfig, roots: &Roots) -> Result<Self, Error> {
        let ParentSite { secure, authority } = config.site().map_err(|problem| Error::ProxyUrl { problem })?;
        let tls = secure.then(|| {
            let reach = HostConfig { ca_file: config.ca_file.clone(), ..HostConfig::default() };
            let mut tls = roots.config(&reach, None)?;
            tls.alpn_protocols = vec![b"http/1.1".to_vec()]; // CONNECT is said in HTTP/1.1
            Ok::<_, Error>(Arc::new(tls))
        });
        let entry = config.auth.as_ref().and_then(|held| held.0.first());
        let login = entry.map(Login::new).transpose();
        let unreadable = |source| Error::of_parent(&authority, &authority, ParentError::Password(source));
        Ok(Self {
            tls: tls.transpose()?,
            ca_file: config.ca_file.as_deref().map(Into::into),
            login: login.map_err(unreadable)?,
            authority,
            health: ParentHealth::default(),
        })
    }

    /// Its host and port.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Further certificates that are trusted for what is reached through it.
    pub(crate) fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// Whether others are to be tried before it on the way to `to`.
    pub(crate) fn is_passed_over(&self, to: &Authority) -> bool {
        self.health.is_passed_over(to)
    }

    /// A tunnel to `to`. `via` is the way that the question has come.
    pub(crate) async fn tunnel(&self, dialer: &Dialer, to: &Authority, via: Option<&str>) -> Result<Transport, Error> {
        let login = self.login(to).await?;
        let mut wait = self.wait(dialer, to);
        let begun = wait.begun;
        let reached = wait.reached(self.reach(dialer, to).await)?;
        let stream = match reached {
            Reached::Plain(mut stream) => {
                let ahead = self.connect(dialer, &mut stream, to, login.as_ref(), via, begun).await?;
                Transport::Parent(Rewind::new(ahead, stream))
            }
            Reached::Tls(mut stream) => {
                let ahead = self.connect(dialer, &mut stream, to, login.as_ref(), via, begun).await?;
                Transport::Secure(Box::new(Rewind::new(ahead, *stream)))
            }
        };
        wait.over();
        Ok(stream)
    }

    /// A connection to the proxy itself, for one request in absolute-form to `to`, and the header that it asks for.
    pub(crate) async fn open(
        &self,
        dialer: &Dialer,
        to: &Authority,
    ) -> Result<(Transport, Option<HeaderValue>), Error> {
        let login = self.login(to).await?;
        let mut wait = self.wait(dialer, to);
        let reached = wait.reached(self.reach(dialer, to).await)?;
        wait.over();
        let stream = match reached {
            Reached::Plain(stream) => Transport::Parent(Rewind::new(bytes::Bytes::new(), stream)),
            Reached::Tls(stream) => Transport::Secure(Box::new(Rewind::new(bytes::Bytes::new(), *stream))),
        };
        Ok((stream, login))
    }

    /// What it answered to a request in absolute-form. A 407 is its own word if it says how to log in, as it has to
    /// (RFC 9110, 15.5.8): else any host could make it ill. Others are the host's, as far as can be told.
    pub(crate) fn heard<B>(&self, to: &Authority, answer: &Response<B>) -> Result<(), Error> {
        if answer.status() != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            self.note_well(to);
            return Ok(());
        }
        if answer.headers().contains_key(PROXY_AUTHENTICATE) {
            return Err(self.rejected(to, answer.status()));
        }
        Err(self.failed(to, ParentError::HostsOwn))
    }

    fn wait<'a>(&'a self, dialer: &Dialer, to: &'a Authority) -> Wait<'a> {
        Wait { parent: self, to, begun: Instant::now(), patience: dialer.connect_timeout / 2, stage: Stage::Reaching }
    }

    async fn reach(&self, dialer: &Dialer, to: &Authority) -> Result<Reached, Error> {
        let after = dialer.connect_timeout;
        let reached = timeout(after, self.dial(dialer)).await;
        let late = |_| Err(Error::ConnectTimeout { to: self.authority.clone(), is_reached: false, after });
        reached.unwrap_or_else(late).map_err(|error| {
            let (is_timeout, is_ours) = (error.is_timeout(), error.is_ours());
            if !is_ours {
                self.note_ill(&error);
            }
            self.failed(to, ParentError::Reach(Unreached { cause: Arc::new(error), is_timeout, is_ours }))
        })
    }

    async fn dial(&self, dialer: &Dialer) -> Result<Reached, Error> {
        let (stream, address) = dialer.dial_parent(&self.authority).await?;
        tracing::debug!(parent = %self.authority, %address, secure = self.tls.is_some(), "connected to the proxy");
        let Some(tls) = &self.tls else { return Ok(Reached::Plain(stream)) };
        let connector = TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(server_name(&self.authority)?, stream).await;
        stream.map(|stream| Reached::Tls(Box::new(stream))).map_err(|error| handshake_failed(&self.authority, error))
    }

    async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        dialer: &Dialer,
        stream: &mut S,
        to: &Authority,
        login: Option<&HeaderValue>,
        via: Option<&str>,
        begun: Instant,
    ) -> Result<bytes::Bytes, Error> {
        // It has to connect as well before it can answer, and its own timeout should come first.
        let after = dialer.connect_timeout * 2;
        let answered = match timeout(after, tunnel::ask(stream, to, login, via)).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                return Err(self.silent(to, begun, ParentError::Broken(Arc::new(error))));
            }
            Err(_) => return Err(self.silent(to, begun, ParentError::Silent { after })),
        };
        if !answered.status.is_success() {
            return Err(self.rejected(to, answered.status));
        }
        self.note_well(to);
        Ok(answered.ahead)
    }

    async fn login(&self, to: &Authority) -> Result<Option<HeaderValue>, Error> {
        let Some(login) = &self.login else { return Ok(None) };
        login.basic().await.map_err(|source| self.failed(to, ParentError::Password(source)))
    }

    /// It has answered, and not with a tunnel.
    fn rejected(&self, to: &Authority, status: StatusCode) -> Error {
        let error = ParentError::of(status, self.login.is_some());
        if error.is_login() {
            if let Some(login) = &self.login {
                login.refused();
            }
            self.note_ill(&error);
        } else {
            self.note_well(to);
        }
        self.failed(to, error)
    }

    fn silent(&self, to: &Authority, begun: Instant, error: ParentError) -> Error {
        if self.health.note_silence(to, begun) {
            self.tell(&error);
        }
        self.failed(to, error)
    }

    fn note_ill(&self, error: &(dyn std::error::Error + 'static)) {
        if self.health.note_ill() {
            self.tell(error);
        }
    }

    fn tell(&self, error: &(dyn std::error::Error + 'static)) {
        tracing::warn!(parent = %self.authority, error, "a proxy of upstream.proxy is unusable; it is skipped for a while");
    }

    fn note_well(&self, to: &Authority) {
        if self.health.note_well(to) {
            tracing::info!(parent = %self.authority, "a proxy of upstream.proxy is usable again");
        }
    }

    fn failed(&self, to: &Authority, source: ParentError) -> Error {
        Error::of_parent(to, &self.authority, source)
    }
}

impl Wait<'_> {
    /// What came of reaching it: a failure has been noted.
    fn reached(&mut self, reached: Result<Reached, Error>) -> Result<Reached, Error> {
        self.stage = if reached.is_ok() { Stage::Asking } else { Stage::Over };
        reached
    }

    fn over(mut self) {
        self.stage = Stage::Over;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let (waited, health) = (self.begun.elapsed(), &self.parent.health);
        let is_news = waited >= self.patience
            && match self.stage {
                Stage::Reaching => health.note_unreached(self.begun),
                Stage::Asking => health.note_silence(self.to, self.begun),
                Stage::Over => false,
            };
        if is_news {
            self.parent.tell(&ParentError::Silent { after: waited });
        }
    }
}
