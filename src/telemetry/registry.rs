//! Counts for one registry, by counters that are looked up once: a hit costs a few additions.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::{
    ClientBytesLabels, DurationLabels, NameLabel, RegistryLabels, RequestLabels, StatusLabel, UpstreamDurationLabels,
    UpstreamErrorLabels, UpstreamLabels,
};
use super::{Kind, Outcome};

/// In seconds: from the first millisecond of a hit to the longest wait for a fill.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 25.0, 60.0, 300.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics that are labelled by registry. Clones share the counters.
#[derive(Clone)]
pub(super) struct Families {
    requests: Family<RequestLabels, Counter>,
    durations: Histograms<DurationLabels>,
    client_bytes: Family<ClientBytesLabels, Counter>,
    upstream_requests: Family<UpstreamLabels, Counter>,
    upstream_durations: Histograms<UpstreamDurationLabels>,
    upstream_errors: Family<UpstreamErrorLabels, Counter>,
    upstream_bytes: Family<RegistryLabels, Counter>,
}

/// The metrics of one registry.
pub struct RegistryMetrics {
    name: NameLabel,
    families: Families,
    /// By kind and outcome.
    answered: [[OnceLock<Answered>; Outcome::ALL.len()]; Kind::COUNT],
    /// By outcome.
    client_bytes: [Counter; Outcome::ALL.len()],
    upstream_bytes: Counter,
}

/// The counters of one kind of answer.
struct Answered {
    with_200: Counter,
    duration: Histogram,
}

impl Families {
    pub(super) fn new() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            client_bytes: Family::default(),
            upstream_requests: Family::default(),
            upstream_durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            upstream_errors: Family::default(),
            upstream_bytes: Family::default(),
        }
    }

    /// Names without `_total`: the encoder adds it.
    pub(super) fn register(&self, ours: &mut Registry) {
        ours.register("requests", "Answered requests", self.requests.clone());
        let help = "Time from the request to the last byte of the answer";
        ours.register("request_duration_seconds", help, self.durations.clone());
        ours.register("client_bytes", "Bytes of bodies sent to clients", self.client_bytes.clone());
        ours.register("upstream_requests", "Requests sent upstream", self.upstream_requests.clone());
        let help = "Time from a request to the head of the upstream's answer";
        ours.register("upstream_duration_seconds", help, self.upstream_durations.clone());
        let help = "Requests that got no answer from an upstream, by reason";
        ours.register("upstream_errors", help, self.upstream_errors.clone());
        ours.register("upstream_bytes", "Bytes of bodies from upstreams", self.upstream_bytes.clone());
    }
}

impl RegistryMetrics {
    /// Looks up what is counted most, which starts it at 0.
    pub(super) fn new(name: NameLabel, families: &Families) -> Self {
        let bytes =
            |cache| families.client_bytes.get_or_create_owned(&ClientBytesLabels { registry: name.clone(), cache });
        Self {
            client_bytes: Outcome::ALL.map(bytes),
            upstream_bytes: families.upstream_bytes.get_or_create_owned(&RegistryLabels { registry: name.clone() }),
            answered: Default::default(),
            families: families.clone(),
            name,
        }
    }

    /// The configured name of the registry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name.0
    }

    /// Starts the counters of failures at 0, which have these reasons.
    pub(super) fn start_errors(&self, reasons: &[&'static str]) {
        for reason in reasons {
            drop(self.families.upstream_errors.get_or_create_owned(&self.error(reason)));
        }
    }

    /// Counts an answered request and the bytes of its body.
    pub fn answered(&self, kind: Kind, cache: Outcome, status: u16, bytes: u64, elapsed: Duration) {
        let known = self.answered[kind as usize][cache as usize].get_or_init(|| Answered {
            with_200: self.families.requests.get_or_create_owned(&self.request(kind, cache, 200)),
            duration: self.families.durations.get_or_create_owned(&DurationLabels {
                registry: self.name.clone(),
                kind,
                cache,
            }),
        });
        if status == 200 {
            known.with_200.inc();
        } else {
            self.families.requests.get_or_create(&self.request(kind, cache, status)).inc();
        }
        known.duration.observe(elapsed.as_secs_f64());
        self.client_bytes[cache as usize].inc_by(bytes);
    }

    /// Counts a request that an upstream answered.
    pub fn upstream_answered(&self, kind: Kind, status: u16, elapsed: Duration) {
        let labels = UpstreamDurationLabels { registry: self.name.clone(), kind };
        self.families.upstream_durations.get_or_create(&labels).observe(elapsed.as_secs_f64());
        self.upstream_request(kind, Some(status));
    }

    /// Counts a request that no upstream answered.
    pub fn upstream_failed(&self, kind: Kind, reason: &'static str) {
        self.upstream_error(reason);
        self.upstream_request(kind, None);
    }

    /// Counts an answer with which nothing could be done, by its reason.
    pub fn upstream_error(&self, reason: &'static str) {
        self.families.upstream_errors.get_or_create(&self.error(reason)).inc();
    }

    /// Counts bytes of bodies received from upstreams.
    pub fn upstream_bytes(&self, bytes: u64) {
        self.upstream_bytes.inc_by(bytes);
    }

    fn upstream_request(&self, kind: Kind, status: Option<u16>) {
        let labels = UpstreamLabels { registry: self.name.clone(), kind, status: StatusLabel(status) };
        self.families.upstream_requests.get_or_create(&labels).inc();
    }

    fn request(&self, kind: Kind, cache: Outcome, status: u16) -> RequestLabels {
        RequestLabels { registry: self.name.clone(), kind, cache, status }
    }

    fn error(&self, reason: &'static str) -> UpstreamErrorLabels {
        UpstreamErrorLabels { registry: self.name.clone(), reason }
    }
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Families")
    }
}

impl fmt::Debug for RegistryMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegistryMetrics").field(&self.name.0).finish()
    }
}
