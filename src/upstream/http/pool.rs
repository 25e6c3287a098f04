//! The pools of connections to hosts: one for each `address`, set of roots and client certificate.
//!
//! Two endpoints on one host with different addresses are two pools, and never share a connection.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::patience::Patience;
use crate::oci::Authority;
use crate::upstream::net::connector::{Connector, Tls};
use crate::upstream::net::downloads::Downloads;
use crate::upstream::net::egress::Egress;
use crate::upstream::net::parent::Hop;
use crate::upstream::net::tls::Roots;
use crate::upstream::{Endpoint, Error, HostConfig};
use crate::wire::Body;

/// Registries close idle connections after a minute or more.
const POOL_IDLE: Duration = Duration::from_secs(55);
/// An HTTP/2 connection on which nothing comes while answers are under way is asked whether it is there: a NAT may have
/// forgotten it. Both together are half of `upstream.idle_timeout`, so that its downloads go on over another one sooner.
const PING_AFTER: Duration = Duration::from_secs(8);
const PING_TIMEOUT: Duration = Duration::from_secs(7);
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// What a client takes at its own pace, or not at all: 512 that stand still leave the connection to the others.
const PACED_STREAM_WINDOW: u32 = 128 << 10;
const PACED_CONNECTION_WINDOW: u32 = 64 << 20;
const FRAME: u32 = 1 << 20;
/// An answer's head: signed addresses and policies have a few KiB. In HTTP/1.1 it has to fit into the read buffer, which
/// is larger, since bodies are read by it, too.
const HEAD: u32 = 64 << 10;
const FIELDS: usize = 100;
const BUFFER: usize = 256 << 10;

/// Who takes an answer's body off its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyReader {
    /// This process: a download, or what is read whole.
    Us,
    /// A client, at its pace.
    ///
    /// Threat: over HTTP/2 a few bodies that nobody reads fill the window that all streams of a connection share, and
    /// nothing else of the registry arrives. So these have connections of their own, on which each may hold little.
    Client,
}

impl From<Downloads> for BodyReader {
    fn from(downloads: Downloads) -> Self {
        if downloads == Downloads::Paced { Self::Client } else { Self::Us }
    }
}

/// One way.
pub(crate) struct Pool {
    pub(crate) given: Option<SocketAddr>,
    own: PooledAndFresh,
    paced: PooledAndFresh,
    pub(crate) patience: Patience,
    pub(crate) egress: Arc<Egress>,
}

/// Which connection a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// One that is there already, or a new one that stays for the next request.
    Pooled,
    /// A new one, of its own.
    Fresh,
}

struct PooledAndFresh {
    pooled: Client<Connector, Body>,
    fresh: Client<Connector, Body>,
}

/// All pools, by how the configuration has hosts reached.
pub(crate) struct Pools {
    direct: Pool,
    by_reach: HashMap<HostConfig, Pool>,
    hosts: HashMap<Authority, HostConfig>,
    /// How hosts that are endpoints are reached by requests that another registry redirects there; the first word on each.
    endpoints: HashMap<Authority, HostConfig>,
}

impl Pools {
    /// Reads every file that `hosts` and `endpoints` name.
    pub(crate) fn new(
        egress: &Arc<Egress>,
        roots: &Roots,
        hosts: &BTreeMap<String, HostConfig>,
        endpoints: &[Endpoint],
    ) -> Result<Self, Error> {
        let mut pools = Self {
            direct: Pool::new(egress, roots, &HostConfig::default())?,
            by_reach: HashMap::new(),
            hosts: HashMap::with_capacity(hosts.len()),
            endpoints: HashMap::with_capacity(endpoints.len()),
        };
        for (key, reach) in hosts {
            let host = Authority::parse(key, 443).map_err(|_| Error::HostKey { key: key.clone() })?;
            pools.add(egress, roots, reach)?;
            pools.hosts.insert(host, reach.clone());
        }
        for endpoint in endpoints {
            let reach = merged(endpoint.reach(), pools.hosts.get(endpoint.authority()));
            let foreign = without_certificate(endpoint.reach());
            let foreign = merged(&foreign, pools.hosts.get(endpoint.authority()));
            pools.add(egress, roots, &reach)?;
            pools.add(egress, roots, &foreign)?;
            pools.endpoints.entry(endpoint.authority().clone()).or_insert(foreign);
        }
        Ok(pools)
    }

    fn add(&mut self, egress: &Arc<Egress>, roots: &Roots, reach: &HostConfig) -> Result<(), Error> {
        if !self.by_reach.contains_key(reach) {
            self.by_reach.insert(reach.clone(), Pool::new(egress, roots, reach)?);
        }
        Ok(())
    }

    /// The way to an endpoint: its own words, completed by those of `upstream.hosts`.
    pub(crate) fn to_endpoint(&self, endpoint: &Endpoint) -> &Pool {
        if *endpoint.reach() == HostConfig::default() {
            return self.to_host(endpoint.authority());
        }
        let reach = merged(endpoint.reach(), self.hosts.get(endpoint.authority()));
        self.by_reach.get(&reach).unwrap_or(&self.direct)
    }

    /// The way to any other host: as `upstream.hosts` says, else as its first endpoint does.
    ///
    /// Threat: a registry that redirects to another one, or names it as its token service, so that it is asked with a
    /// client certificate that is not for this. Defence: an endpoint's certificate is shown by who asks its registry.
    pub(crate) fn to_host(&self, to: &Authority) -> &Pool {
        let reach = self.hosts.get(to).or_else(|| self.endpoints.get(to));
        reach.and_then(|reach| self.by_reach.get(reach)).unwrap_or(&self.direct)
    }
}

fn without_certificate(reach: &HostConfig) -> HostConfig {
    HostConfig { client_cert_file: None, client_key_file: None, ..reach.clone() }
}

fn merged(own: &HostConfig, host: Option<&HostConfig>) -> HostConfig {
    let mut reach = own.clone();
    let Some(host) = host else { return reach };
    reach.address = reach.address.or(host.address);
    reach.ca_file = reach.ca_file.or_else(|| host.ca_file.clone());
    if reach.client_cert_file.is_none() && reach.client_key_file.is_none() {
        reach.client_cert_file.clone_from(&host.client_cert_file);
        reach.client_key_file.clone_from(&host.client_key_file);
    }
    reach
}

impl Pool {
    fn new(egress: &Arc<Egress>, roots: &Roots, reach: &HostConfig) -> Result<Self, Error> {
        let direct = Arc::new(roots.config(reach, None)?);
        let by_hop = |hop: &Hop| match hop {
            Hop::Parent(parent) if parent.ca_file().is_some() => roots.config(reach, parent.ca_file()).map(Arc::new),
            Hop::Parent(_) | Hop::Direct => Ok(Arc::clone(&direct)),
        };
        let by_hop = egress.parents.hops().iter().map(by_hop).collect::<Result<_, _>>()?;
        let connector = Connector { egress: Arc::clone(egress), given: reach.address, tls: Tls { direct, by_hop } };
        let own = clients(&connector, STREAM_WINDOW, CONNECTION_WINDOW);
        let paced = clients(&connector, PACED_STREAM_WINDOW, PACED_CONNECTION_WINDOW);
        let patience = Patience::default();
        Ok(Self { given: reach.address, own, paced, patience, egress: Arc::clone(egress) })
    }

    /// The connections for answers that are read so.
    pub(crate) fn client(&self, reader: BodyReader, through: Through) -> &Client<Connector, Body> {
        let clients = match reader {
            BodyReader::Us => &self.own,
            BodyReader::Client => &self.paced,
        };
        match through {
            Through::Pooled => &clients.pooled,
            Through::Fresh => &clients.fresh,
        }
    }
}

fn clients(connector: &Connector, stream_window: u32, connection_window: u32) -> PooledAndFresh {
    let client = |idle| client(connector.clone(), stream_window, connection_window, idle);
    PooledAndFresh { pooled: client(64), fresh: client(0) }
}

fn client(connector: Connector, stream_window: u32, connection_window: u32, idle: usize) -> Client<Connector, Body> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(idle)
        .http2_initial_stream_window_size(stream_window)
        .http2_initial_connection_window_size(connection_window)
        .http2_max_frame_size(FRAME)
        .http2_max_header_list_size(HEAD)
        .http1_max_headers(FIELDS)
        .http1_max_buf_size(BUFFER)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector)
}
