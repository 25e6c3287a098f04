//! Probes whether a part is there: at once when it is suspected, then ever less often while it is away, but sooner when
//! a request needs it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::Method;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::cause::OutageCause;
use super::named::{NamedNow, named_now};
use super::part::OutagePart;
use super::question::{SendProbe, question};
use super::state::{Inner, Outage};
use super::ward::{FIRST, Probed};
use crate::host::asked_anew;
use crate::upstream::{Endpoint, Error};

/// How long an answer may take while others wait for what it tells.
const HELD: Duration = Duration::from_secs(2);
/// And later. One who falls silent may be back before that: then it answers what is asked anew.
const WAIT: Duration = Duration::from_secs(5);
/// The registry itself says in this time which token service it names, or says nothing.
const NAMED: Duration = Duration::from_secs(1);
const ANEW: Duration = Duration::from_secs(1);
/// A single connection may be refused by chance: it is tried again after this.
const SOON: Duration = Duration::from_millis(250);
/// The one probe of a suspicion. Ends with the state's last holder.
#[derive(Debug)]
pub(crate) struct Probe {
    inner: Weak<Inner>,
    part: OutagePart,
    number: u64,
    /// Connections of before lead nowhere, perhaps.
    since: Instant,
}

impl Probe {
    /// Of a part that became suspect just now.
    pub(crate) fn of(outage: &Outage, part: OutagePart) -> Self {
        let number = outage.number(&part);
        Self { inner: Arc::downgrade(&outage.0), part, number, since: Instant::now() }
    }

    /// Asks until the part is there or forgotten. `upstream` is the plain way, which no outage bars.
    pub(crate) async fn run(self, upstream: impl SendProbe) {
        let registry = self.outage().map(|outage| outage.name()).unwrap_or_default();
        if self.is_there_after_all(&upstream).await {
            self.tell_of_recovery(&registry);
            return;
        }
        self.tell(&registry);
        while let Some((pause, wanted)) = self.pause() {
            tokio::time::sleep(pause.min(FIRST)).await;
            // Whoever wants something meanwhile has it asked at once, so that it is back for them within a second.
            let _ = tokio::time::timeout(pause.saturating_sub(FIRST), wanted.notified()).await;
            if self.pause().is_none() {
                break;
            }
            let Ok(round) = self.ask(&upstream, WAIT).await else { continue };
            let is_given_up = round.probed == Probed::Silence;
            if self.done(round) {
                if is_given_up {
                    self.tell_of_giving_up(&registry);
                    return; // it is asked again all the same
                }
                break;
            }
            self.tell(&registry);
        }
        self.tell_of_recovery(&registry);
    }

    /// Logs why it is away: at first, and when the reason is another one.
    fn tell(&self, registry: &str) {
        let Some(why) = self.outage().and_then(|outage| outage.tell(&self.part)) else { return };
        let (address, reason, error) = (why.address, why.reason.label(), why.error);
        if self.part == OutagePart::Home {
            warn!(
                registry,
                address,
                reason,
                error,
                "the registry is unreachable; cached content is served, and the registry is probed periodically"
            );
        } else {
            warn!(
                registry,
                address, reason, error, "a host that the registry needs is unreachable; it is probed periodically"
            );
        }
    }

    fn tell_of_recovery(&self, registry: &str) {
        let Some(away) = self.outage().and_then(|outage| outage.take_back(&self.part)) else { return };
        let seconds = away.as_secs();
        match self.part.host() {
            None => info!(registry, seconds, "the registry is reachable again"),
            Some(host) => {
                info!(registry, address = %host, seconds, "a host that the registry needs is reachable again")
            }
        }
    }

    fn tell_of_giving_up(&self, registry: &str) {
        if let OutagePart::Realm(endpoint) = &self.part {
            let address = endpoint.authority();
            info!(registry, %address, "nobody waits any longer for a token service that the registry may not name any more");
        }
    }

    /// The first probe, for which others wait.
    async fn is_there_after_all(&self, upstream: &impl SendProbe) -> bool {
        let begun = Instant::now();
        let mut asked = self.ask(upstream, HELD).await;
        if asked.as_ref().is_ok_and(|round| round.probed == Probed::Silence) && begun.elapsed() < SOON {
            tokio::time::sleep_until(begun + SOON).await;
            asked = self.ask(upstream, HELD).await;
        }
        // Nobody was asked: nothing is known, and nobody is to wait for it.
        self.done(asked.unwrap_or_else(|NotAsked| Round::default()))
    }

    /// Asks once. Of the registry itself, all endpoints that decide: the best answer counts.
    async fn ask(&self, upstream: &impl SendProbe, wait: Duration) -> Result<Round, NotAsked> {
        let send_probe = |method, endpoint: Endpoint, target: String| async move {
            let (probed, cause) = answers(upstream, &endpoint, method, &target, self.since, wait).await?;
            let answered = if probed == Probed::Well { vec![endpoint] } else { Vec::new() };
            Ok(Round { probed, answered, cause, named: None })
        };
        match &self.part {
            OutagePart::Home => {
                let homes = self.outage().map(|outage| outage.homes().to_vec()).unwrap_or_default();
                let asked = homes.into_iter().map(|home| send_probe(Method::GET, home, "/v2/".to_owned()));
                let asked: Vec<Result<Round, NotAsked>> = futures_util::future::join_all(asked).await;
                Ok(Round::best_of(asked.into_iter().collect::<Result<_, _>>()?))
            }
            // Without credentials, and without what clients ask: that it answers is enough.
            OutagePart::Realm(endpoint) => {
                let path = self.outage().map(|outage| outage.realm_path(endpoint.authority())).unwrap_or_default();
                let round = send_probe(Method::GET, endpoint.clone(), path).await?;
                let named = match round.probed {
                    Probed::Silence => self.named_now(upstream, endpoint, wait).await,
                    _ => None,
                };
                Ok(Round { named, ..round })
            }
            OutagePart::Elsewhere(host) => send_probe(Method::HEAD, Endpoint::of_host(host), "/".to_owned()).await,
        }
    }

    /// Whether the registry still names a token service that does not answer.
    async fn named_now(&self, upstream: &impl SendProbe, realm: &Endpoint, wait: Duration) -> Option<NamedNow> {
        let outage = self.outage()?;
        let heard = |url: &str| outage.heard_realm(url);
        let bounds = (self.since, wait.min(NAMED));
        named_now(upstream, outage.homes(), realm.authority(), bounds, heard).await
    }

    /// How long to wait before the next try; `None` where nobody cares any more.
    pub(crate) fn pause(&self) -> Option<(Duration, Arc<Notify>)> {
        self.outage().and_then(|outage| outage.pause(&self.part, self.number))
    }

    /// What came of one round. Answers whether the part is there, or nobody cares any more.
    fn done(&self, round: Round) -> bool {
        self.outage().is_none_or(|outage| {
            match round.cause {
                Some(cause) => outage.explain(&self.part, cause),
                // What kept the first request away is known better than by the time that the probe had.
                None if round.probed == Probed::Silence => outage.presume_silence(&self.part, HELD),
                None => {}
            }
            let is_given_up = round.named.is_some_and(|named| outage.give_up(&self.part, named));
            is_given_up || outage.probed(&self.part, round.probed, &round.answered)
        })
    }

    fn outage(&self) -> Option<Outage> {
        self.inner.upgrade().map(Outage)
    }
}

/// What came of asking once.
struct Round {
    probed: Probed,
    /// The endpoints that answered well.
    answered: Vec<Endpoint>,
    /// Why it is not well, where that is known.
    cause: Option<OutageCause>,
    /// What the registry says of a token service that does not answer.
    named: Option<NamedNow>,
}

impl Default for Round {
    fn default() -> Self {
        Self { probed: Probed::Well, answered: Vec::new(), cause: None, named: None }
    }
}

impl Round {
    /// The best answer counts; of several equal ones, the cause of the first.
    fn best_of(rounds: Vec<Self>) -> Self {
        let mut rounds = rounds.into_iter();
        let Some(mut best) = rounds.next() else { return Self::default() };
        for round in rounds {
            best.answered.extend(round.answered);
            if round.probed < best.probed {
                (best.probed, best.cause) = (round.probed, round.cause);
            }
        }
        best
    }
}

/// Nobody was asked, for want of file descriptors here: that says nothing of the registry.
struct NotAsked;

/// What it says to the proxy's own question, over a connection that is younger than the suspicion.
async fn answers(
    upstream: &impl SendProbe,
    endpoint: &Endpoint,
    method: Method,
    target: &str,
    since: Instant,
    wait: Duration,
) -> Result<(Probed, Option<OutageCause>), NotAsked> {
    if question(&method, target).is_err() {
        return Ok((Probed::Well, None)); // what cannot be asked bars nobody
    }
    let send_probe = || upstream.send_probe(endpoint, question(&method, target).unwrap_or_default(), since);
    Ok(match tokio::time::timeout(wait, asked_anew(send_probe, || tokio::time::sleep(ANEW))).await {
        Ok(Ok(response)) if response.status().is_server_error() && response.status().as_u16() != 501 => {
            (Probed::Error, Some(OutageCause::of_status(endpoint, response.status())))
        }
        // What is forbidden, here or by a parent, never will be asked.
        Ok(Ok(_) | Err(Error::Forbidden(_))) => (Probed::Well, None),
        Ok(Err(Error::Parent { source, .. })) if source.is_final() => (Probed::Well, None),
        Ok(Err(error)) if error.is_ours() => return Err(NotAsked),
        Ok(Err(error)) => (Probed::Silence, Some(OutageCause::of(endpoint, &error))),
        Err(_) => (Probed::Silence, None),
    })
}
