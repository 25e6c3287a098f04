//! Decides how a host is reached, directly or through a parent, for everything that dials out.

use std::net::SocketAddr;

use futures_util::future::{BoxFuture, FutureExt};
use http::HeaderValue;
use tokio::time::timeout;

use super::dial::Dialer;
use super::parent::{Hop, Parent, Parents};
use super::rules::Forbidden;
use super::sockets::Socket;
use super::stream::EgressStream;
use crate::oci::Authority;
use crate::upstream::Error;

/// The dialer and the parents.
pub(crate) struct Egress {
    pub(crate) dialer: Dialer,
    pub(crate) parents: Parents,
}

/// A connection to a parent for one request in absolute-form.
pub(crate) struct Forwarding<'a> {
    pub(crate) parent: &'a Parent,
    pub(crate) stream: EgressStream,
    /// `Proxy-Authorization`, for this parent and nobody else.
    pub(crate) login: Option<HeaderValue>,
}

impl Egress {
    /// Whether `to` is reached through a parent. What the configuration gives an `address` goes there.
    pub(crate) fn goes_through_parent(&self, to: &Authority, given: Option<SocketAddr>) -> bool {
        given.is_none() && self.parents.take(to)
    }

    /// Judges without dialling or resolving.
    pub(crate) fn forbidden(&self, to: &Authority, given: Option<SocketAddr>) -> Option<Forbidden> {
        let forbidden = self.dialer.forbidden(to, given);
        // A name that nobody here resolves is all that there is to judge.
        forbidden
            .or_else(|| self.goes_through_parent(to, given).then(|| self.dialer.rules.judge_name(to).err()).flatten())
    }

    /// A connection to `to` for bytes: each hop in turn, well ones first. Each has the connect timeout for itself.
    /// `via` is the way that a question has come, if it comes from a client; `socket` the leave to have one. Cancel-safe.
    pub(crate) async fn stream<'a>(
        &'a self,
        to: &'a Authority,
        given: Option<SocketAddr>,
        via: Option<&'a str>,
        socket: Socket,
    ) -> Result<EgressStream, Error> {
        let stream = if self.goes_through_parent(to, given) {
            let attempt = |hop: &'a Hop, index| self.tunnel(hop, index, to, via).boxed();
            self.by_hops(to, attempt).await?
        } else {
            self.direct(to, given).await?
        };
        Ok(stream.with(socket))
    }

    async fn tunnel(&self, hop: &Hop, index: usize, to: &Authority, via: Option<&str>) -> Result<EgressStream, Error> {
        let Hop::Parent(parent) = hop else { return self.direct(to, None).await };
        let stream = parent.tunnel(&self.dialer, to, via).await?;
        tracing::debug!(%to, parent = %parent.authority(), "connected to upstream through a proxy");
        Ok(EgressStream::by_hop(stream, index))
    }

    /// The parent that a plain http request goes to, and a connection to it; none: it goes to the host itself.
    pub(crate) async fn forwarding<'a>(
        &'a self,
        to: &'a Authority,
        given: Option<SocketAddr>,
    ) -> Result<Option<Forwarding<'a>>, Error> {
        if !self.goes_through_parent(to, given) {
            return Ok(None);
        }
        let socket = Socket::take(to).await?;
        let attempt = |hop: &'a Hop, index| self.open(hop, index, to).boxed();
        let forwarding: Option<Forwarding<'a>> = self.by_hops(to, attempt).await?;
        Ok(forwarding.map(|forwarding| Forwarding { stream: forwarding.stream.with(socket), ..forwarding }))
    }

    async fn open<'a>(&'a self, hop: &'a Hop, index: usize, to: &Authority) -> Result<Option<Forwarding<'a>>, Error> {
        let Hop::Parent(parent) = hop else { return Ok(None) };
        let (stream, login) = parent.open(&self.dialer, to).await?;
        tracing::debug!(%to, parent = %parent.authority(), "a plain request goes to a proxy");
        Ok(Some(Forwarding { parent, stream: EgressStream::by_hop(stream, index), login }))
    }

    /// The same to the host itself, whether a parent leads there or not.
    pub(crate) async fn straight(
        &self,
        to: &Authority,
        given: Option<SocketAddr>,
        socket: Socket,
    ) -> Result<EgressStream, Error> {
        self.direct(to, given).await.map(|stream| stream.with(socket))
    }

    async fn direct(&self, to: &Authority, given: Option<SocketAddr>) -> Result<EgressStream, Error> {
        let after = self.dialer.connect_timeout;
        let dialled = timeout(after, self.dialer.dial(to, given)).await;
        let (stream, address) =
            dialled.unwrap_or_else(|_| Err(Error::ConnectTimeout { to: to.clone(), is_reached: false, after }))?;
        tracing::debug!(%to, %address, "connected to upstream");
        Ok(EgressStream::direct(stream, address))
    }

    /// Tries the hops in their order, then those that were passed over. A refusal ends it: no other road may lead to
    /// what a parent, or the rules here, forbid.
    async fn by_hops<'a, T>(
        &'a self,
        to: &Authority,
        attempt: impl Fn(&'a Hop, usize) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, Error> {
        if let Some(forbidden) = self.forbidden(to, None) {
            return Err(Error::Forbidden(forbidden));
        }
        let mut passed_over = Vec::new();
        let mut told = None;
        for (index, hop) in self.parents.hops().iter().enumerate() {
            if matches!(hop, Hop::Parent(parent) if parent.is_passed_over(to)) {
                passed_over.push((index, hop));
                continue;
            }
            match attempt(hop, index).await {
                Ok(reached) => return Ok(reached),
                Err(error) => told = Some(worth(told, error)?),
            }
        }
        for (index, hop) in passed_over {
            match attempt(hop, index).await {
                Ok(reached) => return Ok(reached),
                Err(error) => told = Some(worth(told, error)?),
            }
        }
        Err(told.unwrap_or_else(|| Error::NoAddress { to: to.clone() }))
    }
}

/// Which of two failures is to be told, where another hop may still do; the error itself where none may. A login that
/// fails is not hidden behind the hop that is tried after it.
fn worth(earlier: Option<Error>, error: Error) -> Result<Error, Error> {
    let is_judged = match &error {
        Error::Parent { source, .. } => source.is_final(),
        Error::Forbidden(_) => true,
        _ => false,
    };
    if is_judged {
        return Err(error);
    }
    match earlier {
        Some(earlier @ Error::Parent { .. }) if earlier.is_parents_login() => Ok(earlier),
        _ => Ok(error),
    }
}
