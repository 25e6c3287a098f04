//! Holds what all connections share, and ends them in a drain.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clients::Guesses;
use super::clients::shared_address::SharedAddress;
use super::door::lingering::Lingerer;
use super::door::untrusting::Untrusting;
use super::labels;
use super::limit::{self, Limiter};
use super::naming::memory::GroupMemory;
use super::policy::Policy;
use super::registry::lists::KeptLists;
use super::registry::registry::Registry;
use super::tokens::bearers::Bearers;
use super::tokens::local::LocalTokens;
use crate::cache::Cache;
use crate::host::{Limit, LogThrottle, TaskGroup, carried};
use crate::store::Store;
use crate::telemetry::{EndpointUp, KnownLabels, Metrics, RegistryReading};
use crate::upstream::FailureReason;
use crate::wire::Pseudonym;

/// How long a drain waits for the first request of a connection that was accepted: its client was not refused, so it
/// gets its answer.
const GRACE: Duration = Duration::from_secs(1);

/// Threat: a balancer's clients open connections whose headers never come, which no client's limit counts yet. A header takes
/// no time where all is well.
const INTRODUCTIONS: usize = 1024;

/// The proxy: what all connections share.
pub struct Proxy {
    /// The cache.
    pub cache: Cache,
    /// The store below it, for readiness and the catalog.
    pub store: Store,
    /// The metrics.
    pub metrics: Metrics,
    pub(crate) bearers: Bearers,
    pub(crate) guesses: Guesses,
    /// The name by which other proxies know this one.
    pub(crate) pseudonym: Pseudonym,
    pub(crate) shared_address: SharedAddress,
    pub(crate) lists: KeptLists,
    pub(crate) untrusting: Untrusting,
    /// Paces the line about token services that answer without a token.
    pub(crate) no_token: LogThrottle,
    /// Paces the line about names without a certificate, which clients choose.
    pub(crate) unsigned: LogThrottle,
    /// Which member of a group at the mirror had a content.
    pub(crate) group_memory: GroupMemory,
    /// Tokens of our own, for while a registry is unreachable.
    pub local: LocalTokens,
    policy: ArcSwap<Policy>,
    changed: watch::Sender<()>,
    pub(crate) limiter: Arc<Limiter>,
    /// What a drain does not wait for, and a stop ends: also that of the ways to upstreams.
    pub background: TaskGroup,
    /// Connections of balancers whose header has not come yet.
    pub(crate) introductions: Limit,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Proxy {
    /// Creates a proxy under its first policy. Call within a runtime.
    #[must_use]
    pub fn new(cache: Cache, store: Store, metrics: Metrics, local: LocalTokens, policy: Policy) -> Arc<Self> {
        let limiter = Limiter::new(policy.limits);
        let background = policy.upstream.tasks().clone();
        background.spawn_until_stop(limit::keep_sweeping(Arc::downgrade(&limiter)));
        start(&metrics, &policy);
        Arc::new(Self {
            cache,
            lists: KeptLists::new(store.clone()),
            store,
            metrics,
            bearers: Bearers::new(),
            guesses: Guesses::new(),
            pseudonym: Pseudonym::random(),
            shared_address: SharedAddress::default(),
            untrusting: Untrusting::among(background.clone()),
            no_token: LogThrottle::new(),
            unsigned: LogThrottle::new(),
            group_memory: GroupMemory::new(),
            local,
            policy: ArcSwap::from_pointee(policy),
            changed: watch::Sender::new(()),
            limiter,
            background,
            introductions: Limit::new(INTRODUCTIONS),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Puts a new policy in force: for the next request of every connection, and for tunnels at once. With `asks_anew`,
    /// where registries or the way to them have changed, it forgets what callers have proven.
    pub fn adopt(&self, policy: Policy, asks_anew: bool) {
        let policy = policy.after(&self.policy());
        self.limiter.adopt(policy.limits);
        start(&self.metrics, &policy);
        self.policy.store(Arc::new(policy));
        if asks_anew {
            self.cache.forget_grants();
        }
        self.changed.send_replace(());
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Runs a task that a drain waits for, in the span and for the request of its caller.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(carried(task));
    }

    /// Returns when a drain has begun and a connection may be closed between two requests: at once if it has `asked`
    /// before.
    pub(crate) async fn leaving(&self, asked: &CancellationToken) {
        self.stop.cancelled().await;
        let _ = tokio::time::timeout(GRACE, asked.cancelled()).await;
    }

    /// Whether the registries' endpoints are up, as requests and probes have shown.
    #[must_use]
    pub fn endpoints_up(&self) -> Vec<EndpointUp> {
        let policy = self.policy();
        let of = |registry: &Arc<Registry>| {
            let ups = registry.endpoints_up(|endpoint, outage| policy.upstream.is_up(endpoint, outage));
            let name = registry.name().clone();
            ups.into_iter().map(move |(endpoint, is_up)| EndpointUp { registry: name.clone(), endpoint, is_up })
        };
        policy.registries.iter().flat_map(of).collect()
    }

    /// Which registries are unreachable, and what is left of their rate limits.
    #[must_use]
    pub fn registries(&self) -> Vec<RegistryReading> {
        let policy = self.policy();
        let of = |registry: &Arc<Registry>| RegistryReading {
            registry: registry.name().clone(),
            is_out: registry.is_out(),
            pulls_left: policy.authenticated.quotas().quota(registry.name()).map(|quota| quota.remaining),
        };
        policy.registries.iter().map(of).collect()
    }

    /// Closes the connections of a client without losing its last answers.
    pub(crate) fn lingerer(&self, client: IpAddr) -> Lingerer {
        Lingerer::new(self.limiter.clone(), self.background.clone(), self.stop.clone(), client)
    }

    /// Returns when a drain has begun. Cancel-safe.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// How many connections of clients and how many requests are in progress, each with its limit.
    #[must_use]
    pub fn usage(&self) -> [(usize, usize); 2] {
        self.limiter.usage()
    }

    /// The hosts of a registry that are unreachable, in words. `registry` is the name that its content has in the cache.
    #[must_use]
    pub fn outages(&self, registry: &str) -> Vec<String> {
        self.policy().registries.iter().flat_map(|known| known.outages(registry)).collect()
    }

    /// The limits because of which something was refused or given up, and how often.
    #[must_use]
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        self.limiter.refused()
    }

    /// Lets requests in progress finish and takes no new ones; tunnels end when `deadline` passes. Returns whether all
    /// had ended by then.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}

/// Starts the counters of what `policy` names.
fn start(metrics: &Metrics, policy: &Policy) {
    let registries: Vec<Arc<str>> = policy.registries.iter().map(|registry| registry.name().clone()).collect();
    metrics.start(&KnownLabels {
        registries: &registries,
        upstream_errors: &FailureReason::ALL.map(FailureReason::label),
        connects: &labels::CONNECTS,
        handshake_failures: &labels::HANDSHAKE_FAILURES,
        doors: &labels::DOORS,
    });
}
