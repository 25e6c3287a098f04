//! Turns names into addresses: keeps answers, and picks the DNS server to ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::message::{Records, Reply};
use super::{Nameserver, ResolveError, exchange};
use crate::upstream::Family;
use crate::upstream::net::names::NameKind;

/// Names are chosen by clients, too.
const KEPT: u64 = 10_000;
/// No record is believed for longer.
const LONGEST: Duration = Duration::from_secs(86_400);
/// So long half an answer is believed.
const MOMENT: Duration = Duration::from_secs(10);

/// The servers of `upstream.resolvers`, and what they have said.
#[derive(Debug)]
pub(crate) struct Resolver {
    servers: Vec<Nameserver>,
    /// The one that answered last.
    first: AtomicUsize,
    kept: moka::sync::Cache<(Arc<str>, Family), Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    addresses: Arc<[IpAddr]>,
    until: Instant,
}

impl Resolver {
    /// `None` where no server is configured: then the system's are meant.
    pub(crate) fn new(servers: &[Nameserver]) -> Option<Self> {
        let kept = moka::sync::Cache::builder().max_capacity(KEPT).time_to_live(LONGEST).build();
        (!servers.is_empty()).then(|| Self { servers: servers.to_vec(), first: AtomicUsize::new(0), kept })
    }

    /// The addresses of a full name, IPv6 first, as resolvers have it (RFC 6724); never none. Cancel-safe.
    pub(crate) async fn addresses(&self, name: &Arc<str>, family: Family) -> Result<Arc<[IpAddr]>, ResolveError> {
        if NameKind::of(name) == NameKind::Machine {
            return Ok([IpAddr::from(Ipv6Addr::LOCALHOST), Ipv4Addr::LOCALHOST.into()].into());
        }
        let key = (name.clone(), family);
        if let Some(kept) = self.kept.get(&key).filter(|kept| kept.until > Instant::now()) {
            return Ok(kept.addresses);
        }
        let (addresses, life) = self.ask(name, family).await?;
        let addresses: Arc<[IpAddr]> = addresses.into();
        if !life.is_zero() {
            let until = Instant::now() + life.min(LONGEST);
            self.kept.insert(key, Kept { addresses: addresses.clone(), until });
        }
        Ok(addresses)
    }

    /// Asks the servers in turn, until one of them knows.
    async fn ask(&self, name: &str, family: Family) -> Result<(Vec<IpAddr>, Duration), ResolveError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut last = ResolveError::BadName;
        for place in (0..self.servers.len()).map(|step| (first + step) % self.servers.len()) {
            let server = self.servers[place];
            let asked = match family {
                Family::V4 => one(server, name, Records::V4).await,
                Family::V6 => one(server, name, Records::V6).await,
                Family::Any => both(server, name).await,
            };
            match asked {
                Ok(found) => {
                    self.first.store(place, Ordering::Relaxed);
                    return Ok(found);
                }
                Err(known @ (ResolveError::NoName { .. } | ResolveError::NoAddress { .. })) => {
                    self.first.store(place, Ordering::Relaxed);
                    return Err(known);
                }
                Err(error) => {
                    tracing::debug!(name, %error, "a DNS server failed");
                    last = error;
                }
            }
        }
        Err(last)
    }
}

/// Both families at once. One that fails does not take the other's addresses away.
async fn both(server: Nameserver, name: &str) -> Result<(Vec<IpAddr>, Duration), ResolveError> {
    let (v6, v4) = futures_util::future::join(one(server, name, Records::V6), one(server, name, Records::V4)).await;
    match (v6, v4) {
        (Ok((mut addresses, long)), Ok((more, short))) => {
            addresses.extend(more);
            Ok((addresses, long.min(short)))
        }
        (Ok(found), Err(ResolveError::NoAddress { .. } | ResolveError::NoName { .. }))
        | (Err(ResolveError::NoAddress { .. } | ResolveError::NoName { .. }), Ok(found)) => Ok(found),
        // Half of the truth: for a moment, so that a server which never answers for IPv6 is not waited for each time;
        // without IPv4 for this once, as not every machine has IPv6.
        (Err(_), Ok((addresses, life))) => Ok((addresses, life.min(MOMENT))),
        (Ok((addresses, _)), Err(_)) => Ok((addresses, Duration::ZERO)),
        (Err(ResolveError::NoAddress { .. }), Err(error)) | (Err(error), Err(_)) => Err(error),
    }
}

async fn one(server: Nameserver, name: &str, records: Records) -> Result<(Vec<IpAddr>, Duration), ResolveError> {
    match exchange::ask(server, name, records).await? {
        Reply::Found(addresses, life) if !addresses.is_empty() => Ok((addresses, life)),
        Reply::Found(..) => Err(ResolveError::NoAddress { server }),
        Reply::NoName => Err(ResolveError::NoName { server }),
        Reply::Failed(words) => Err(ResolveError::Failed { server, words }),
        Reply::Foreign | Reply::Cut => Err(ResolveError::Silent { server }),
    }
}
