//! The upstream client: exchanges, fetches and raw connections, all under the address rules.
//!
//! What is sent for a registry ([`Upstream::of_registry`]) makes up its outage, and is not sent while that is open.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use http::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode};
use tokio::time::Instant;
use tracing::{Instrument as _, debug_span};

use super::heads::HeadMemory;
use super::http::evidence::Evidence;
use super::http::health::EndpointHealth;
use super::http::plain;
use super::http::pool::{BodyReader, Pool, Pools};
use super::http::sending::attempt::ExchangeLimits;
use super::http::sending::exchange::{exchange, is_repeatable};
use super::net::bandwidth::Bandwidth;
use super::net::dial::Dialer;
use super::net::downloads::DownloadSlots;
use super::net::egress::Egress;
use super::net::parent::Parents;
use super::net::resolver::Resolver;
use super::net::rules::{AddressRules, Forbidden};
use super::net::sockets::Socket;
use super::net::stream::EgressStream;
use super::net::tls::Roots;
use super::outage::{Outage, OutageCause, OutagePart, Probe, SendProbe, is_telling};
use super::{Config, Endpoint, EndpointConfig, Error};
use crate::host::{Overdue, TaskGroup, asked_anew};
use crate::oci::{Authority, Challenge, HostPattern};
use crate::wire::Body;

/// The way to every upstream. Cheap to clone; a new configuration is a new one, with connections of its own.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
    outage: Option<Outage>,
    is_hasty: bool,
}

struct Inner {
    egress: Arc<Egress>,
    pools: Pools,
    health: EndpointHealth,
    heads: HeadMemory,
    limits: ExchangeLimits,
    slots: DownloadSlots,
    bandwidth: Option<Bandwidth>,
    /// Where the configuration names plain http.
    plain: HashSet<Authority>,
    tasks: TaskGroup,
}

impl Upstream {
    /// Reads CA files, client certificates and the system's roots. `endpoints` are those of all registries;
    /// their hosts are named exactly, as far as `rules` are concerned. A machine without system roots is a
    /// warning.
    ///
    /// # Errors
    /// A file that cannot be read or used, a key of `upstream.hosts` that is no host, an endpoint's URL that
    /// is none.
    pub fn new(config: &Config, endpoints: &[EndpointConfig], rules: AddressRules) -> Result<Self, Error> {
        Self::among(TaskGroup::new(), config, endpoints, rules)
    }

    /// As [`Upstream::new`], with its work in the background among these tasks: probes, requests for tokens, the pump of
    /// the bandwidth.
    ///
    /// # Errors
    /// As [`Upstream::new`].
    pub fn among(
        tasks: TaskGroup,
        config: &Config,
        endpoints: &[EndpointConfig],
        rules: AddressRules,
    ) -> Result<Self, Error> {
        let parse = |config: &EndpointConfig| Endpoint::parse(config).map_err(|source| Error::Url { source });
        let endpoints: Vec<Endpoint> = endpoints.iter().map(parse).collect::<Result<_, _>>()?;
        let mut rules = rules;
        let named = endpoints.iter().filter_map(|e| e.authority().to_string().parse::<HostPattern>().ok());
        rules.named.extend(named);
        let roots = Roots::read();
        let egress = Arc::new(Egress {
            dialer: Dialer {
                rules,
                family: config.ip,
                connect_timeout: config.connect_timeout.0,
                resolver: Resolver::new(&config.resolvers.0),
            },
            parents: Parents::new(&config.proxy, &config.no_proxy.0, &roots)?,
        });
        let inner = Inner {
            pools: Pools::new(&egress, &roots, &config.hosts, &endpoints)?,
            plain: endpoints.iter().filter(|one| !one.is_secure()).map(|one| one.authority().clone()).collect(),
            egress,
            health: EndpointHealth::default(),
            heads: HeadMemory::default(),
            bandwidth: config.bandwidth.map(|rate| Bandwidth::new(rate.0, tasks.clone())),
            tasks,
            slots: DownloadSlots::new(config.downloads_per_host.into()),
            limits: ExchangeLimits {
                first_byte: config.first_byte_timeout.0,
                idle: config.idle_timeout.0,
                brisk: false,
                reader: BodyReader::Us,
                is_download: false,
                is_hedged: true,
            },
        };
        Ok(Self { inner: Arc::new(inner), outage: None, is_hasty: false })
    }

    /// The same way for what is asked on behalf of one registry: of itself, its token service and wherever it
    /// redirects to. All of that makes up its outage. While that is open, all but its mirrors is refused at once.
    #[must_use]
    pub fn of_registry(&self, outage: &Outage) -> Self {
        Self { inner: Arc::clone(&self.inner), outage: Some(outage.clone()), is_hasty: false }
    }

    /// The same way for what continues an answer that broke off: its head is waited for no longer than another piece of
    /// that answer was.
    #[must_use]
    pub fn hasty(&self) -> Self {
        Self { is_hasty: true, ..self.clone() }
    }

    /// The same way for what is part of no registry's outage.
    pub(crate) fn of_nobody(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), outage: None, is_hasty: false }
    }

    /// One exchange: bodies stream both ways, nothing is followed. The request's URI is path and query; the
    /// endpoint's prefix is put into it, and Host is set here. To plain http no credentials go, and no challenge is
    /// heard from there. Cancel-safe: a dropped exchange is closed.
    ///
    /// # Errors
    /// Whatever kept the head of the answer away; [`Error::Away`] where nothing was sent. A failure of the body
    /// comes from the body ([`Error::of_body`]).
    pub async fn send(&self, to: &Endpoint, request: Request<Body>) -> Result<Response<Body>, Error> {
        self.sent(to, plain::withheld(to, request), BodyReader::Us).await.map(|answer| plain::heard(to, answer))
    }

    /// The same for an answer whose body a client takes, at its pace.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    pub async fn pass(&self, to: &Endpoint, request: Request<Body>) -> Result<Response<Body>, Error> {
        self.sent(to, plain::withheld(to, request), BodyReader::Client).await.map(|answer| plain::heard(to, answer))
    }

    /// The same of what a client says to a host of its choice over plain http: as it is, and so is the answer.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    pub async fn relay(&self, to: &Endpoint, request: Request<Body>) -> Result<Response<Body>, Error> {
        self.sent(to, request, BodyReader::Client).await
    }

    async fn sent(&self, to: &Endpoint, request: Request<Body>, reader: BodyReader) -> Result<Response<Body>, Error> {
        let (target, method) = (request.uri().path_and_query().cloned(), request.method().clone());
        self.admit(to, to.authority(), request.headers()).await?;
        let begun = Instant::now();
        let outcome = match aimed(to, request) {
            Ok(request) => {
                self.exchange(self.inner.pools.to_endpoint(to), to.authority(), request, reader, false).await
            }
            Err(error) => Err(error),
        };
        if Evidence::is_telling(&method, outcome.as_ref().map(Response::status)) {
            self.note(to, target.as_ref(), begun, outcome.as_ref());
        }
        outcome
    }

    /// A raw connection for a tunnel, by the same rules, the same `address` and the same parents. `via` is the way
    /// that the question for it has come, this proxy included (RFC 9110, 7.6.3); a parent is told.
    ///
    /// # Errors
    /// [`Error::Forbidden`], or what kept the connection from being made in time.
    pub async fn dial(&self, to: &Authority, via: &str) -> Result<EgressStream, Error> {
        let socket = Socket::take(to).await?;
        self.inner.egress.stream(to, self.inner.pools.to_host(to).given, Some(via), socket).await
    }

    /// Whether anything is reached through a parent: then requests say by `Via` which way they came.
    #[must_use]
    pub fn has_parents(&self) -> bool {
        self.inner.egress.parents.is_any()
    }

    /// Judges an address literal, a host with an `address`, or a name that `tunnel.deny` names, without
    /// resolving or dialling: for an early refusal. `None` says nothing about other names.
    #[must_use]
    pub fn forbidden(&self, to: &Authority) -> Option<Forbidden> {
        self.inner.egress.forbidden(to, self.inner.pools.to_host(to).given)
    }

    /// `body` under the cap of what may come from upstreams, as part of `client`'s share.
    #[must_use]
    pub fn share(&self, client: IpAddr, body: Body) -> Body {
        match &self.inner.bandwidth {
            Some(bandwidth) => Body::wrap(bandwidth.cap(client, body)),
            None => body,
        }
    }

    /// Whether an endpoint is well, as far as is known.
    #[must_use]
    pub fn is_well(&self, endpoint: &Endpoint) -> bool {
        self.inner.health.is_well(endpoint)
    }

    /// Whom a deadline of the caller's is about: `endpoints`, asked (a token service) for `target`. For
    /// [`within`](crate::host::within). What `send` and `fetch` see themselves they note themselves.
    #[must_use]
    pub fn asked_of<'a>(&'a self, endpoints: &'a [Endpoint], target: Option<&'a PathAndQuery>) -> AskedOf<'a> {
        AskedOf { upstream: self, endpoints, target }
    }

    /// The endpoints in the order to ask them: healthy ones first, each group as configured.
    #[must_use]
    pub fn order<'a>(&self, endpoints: &'a [Endpoint]) -> Vec<&'a Endpoint> {
        let (well, ill): (Vec<_>, Vec<_>) = endpoints.iter().partition(|endpoint| self.is_well(endpoint));
        well.into_iter().chain(ill).collect()
    }

    /// Whether `host`, where what is asked of `to` has led, may be asked now.
    pub(crate) async fn admit(&self, to: &Endpoint, host: &Authority, headers: &HeaderMap) -> Result<(), Error> {
        let Some(outage) = self.outage.as_ref().filter(|outage| outage.covers(to)) else { return Ok(()) };
        let admitted = outage.admit(host, headers.contains_key(AUTHORIZATION)).await;
        admitted.map_err(|retry_after| outage.away(host, retry_after))
    }

    pub(crate) fn note<B>(
        &self,
        endpoint: &Endpoint,
        target: Option<&PathAndQuery>,
        begun: Instant,
        outcome: Result<&Response<B>, &Error>,
    ) {
        let status = outcome.map(Response::status);
        let evidence = Evidence::of(status);
        if evidence != Evidence::Error || target.is_none_or(is_telling) {
            self.inner.health.note(endpoint, evidence);
        }
        if let (Some(outage), Err(error), Evidence::Down) = (&self.outage, &outcome, evidence) {
            self.watch(outage, endpoint, || OutageCause::of(endpoint, error));
        }
        let Some(outage) = self.outage.as_ref().filter(|outage| outage.covers(endpoint)) else { return };
        if let Ok(response) = outcome.as_ref()
            && response.status() == StatusCode::UNAUTHORIZED
            && endpoint.is_secure()
        {
            let fields = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
            Challenge::bearer(&Challenge::parse(fields)).into_iter().for_each(|one| outage.heard_realm(&one.realm));
        }
        self.probe(outage, outage.note(endpoint, target, begun, status));
    }

    /// The same of a host that `endpoint` redirected to.
    pub(crate) fn note_elsewhere<B>(
        &self,
        endpoint: &Endpoint,
        host: &Authority,
        begun: Instant,
        outcome: Result<&Response<B>, &Error>,
    ) {
        if let Some(outage) = self.outage.as_ref().filter(|outage| outage.covers(endpoint)) {
            self.probe(outage, outage.note_elsewhere(host, begun, outcome.map(Response::status)));
        }
    }

    /// Probes the registry with this outage at once: it was away under another configuration.
    pub(crate) fn doubt(&self, outage: &Outage) {
        self.probe(outage, outage.doubt());
    }

    /// Its work in the background.
    #[must_use]
    pub fn tasks(&self) -> &TaskGroup {
        &self.inner.tasks
    }

    /// The one that a suspicion has.
    fn probe(&self, outage: &Outage, suspect: Option<OutagePart>) {
        let Some(part) = suspect else { return };
        self.tasks().spawn_until_stop(Probe::of(outage, part).run(self.of_nobody()));
    }

    /// Whether the configuration names plain http at this host and port.
    pub(crate) fn names_plain(&self, host: &Authority) -> bool {
        self.inner.plain.contains(host)
    }

    /// Whether what is sent makes up the outage of a registry.
    pub(crate) fn has_outage(&self) -> bool {
        self.outage.is_some()
    }

    pub(crate) fn downgrade(&self) -> WeakUpstream {
        WeakUpstream(Arc::downgrade(&self.inner))
    }

    pub(crate) fn health(&self) -> &EndpointHealth {
        &self.inner.health
    }

    /// What hosts do with HEAD.
    pub(crate) fn heads(&self) -> &HeadMemory {
        &self.inner.heads
    }

    pub(crate) fn slots(&self) -> &DownloadSlots {
        &self.inner.slots
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.inner.pools
    }

    /// One exchange over `way`; the URI is absolute. A GET or HEAD that waits for its answer while the registry was away
    /// and came back is sent anew beside itself: the first one may hang for as long as `first_byte_timeout`.
    pub(crate) async fn exchange(
        &self,
        pool: &Pool,
        to: &Authority,
        request: Request<Body>,
        reader: BodyReader,
        is_download: bool,
    ) -> Result<Response<Body>, Error> {
        // What a client asks of a host of its choice may be a stream of events.
        let ExchangeLimits { first_byte, idle, .. } = self.inner.limits;
        let first_byte = if self.is_hasty { first_byte.min(idle) } else { first_byte };
        let (brisk, is_secure) = (self.outage.is_some(), request.uri().scheme() == Some(&Scheme::HTTPS));
        let is_hedged = brisk || is_secure;
        let limits = ExchangeLimits { first_byte, brisk, reader, is_download, is_hedged, ..self.inner.limits };
        let span = debug_span!("upstream", host = %to, method = %request.method());
        let Some(outage) = &self.outage else {
            return exchange(pool, to, request, limits, None).instrument(span).await;
        };
        if !is_repeatable(&request) {
            return exchange(pool, to, request, limits, outage.opened_at(to)).instrument(span).await;
        }
        let (head, _) = request.into_parts();
        let ask = || exchange(pool, to, Request::from_parts(head.clone(), Body::empty()), limits, outage.opened_at(to));
        asked_anew(ask, || outage.recovered(to)).instrument(span).await
    }

    /// What was asked before this may never be answered; nobody who comes later joins it.
    pub(crate) fn changed(&self) -> Option<Instant> {
        self.outage.as_ref().map(Outage::changed)
    }
}

/// An upstream client that may have been replaced by another configuration's.
pub(crate) struct WeakUpstream(Weak<Inner>);

impl WeakUpstream {
    /// The client, as long as it is in use.
    pub(crate) fn upgrade(&self) -> Option<Upstream> {
        self.0.upgrade().map(|inner| Upstream { inner, outage: None, is_hasty: false })
    }
}

/// The endpoints that a question was put to.
pub struct AskedOf<'a> {
    upstream: &'a Upstream,
    endpoints: &'a [Endpoint],
    target: Option<&'a PathAndQuery>,
}

impl Overdue for AskedOf<'_> {
    fn note_missed(&self, begun: Instant) {
        let Self { upstream, endpoints, target } = *self;
        for endpoint in endpoints {
            upstream.inner.health.note(endpoint, Evidence::Down);
            if let Some(outage) = &upstream.outage {
                upstream.watch(outage, endpoint, || OutageCause::silence(endpoint, begun.elapsed()));
                upstream.probe(outage, outage.missed(endpoint, target, begun));
            }
        }
    }
}

/// With the endpoint's scheme, host and prefix.
fn aimed(to: &Endpoint, request: Request<Body>) -> Result<Request<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    parts.uri = parts
        .uri
        .path_and_query()
        .and_then(|target| to.uri(target))
        .ok_or_else(|| Error::BadRequest { to: to.authority().clone() })?;
    Ok(Request::from_parts(parts, body))
}

impl SendProbe for Upstream {
    /// The same without a word about the endpoint's health, over a connection that is no older than `since`: that it
    /// answers a probe does not say that it answers what matters.
    async fn send_probe(&self, to: &Endpoint, request: Request<Body>, since: Instant) -> Result<Response<Body>, Error> {
        let pool = self.inner.pools.to_endpoint(to);
        exchange(pool, to.authority(), aimed(to, request)?, self.inner.limits, Some(since)).await
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("dialer", &self.inner.egress.dialer).finish_non_exhaustive()
    }
}
