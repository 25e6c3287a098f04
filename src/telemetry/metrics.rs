//! Counts events where they happen, and encodes the counters when Prometheus scrapes them.
//!
//! Registry names are shared strings in a small table, so that counting a request allocates nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::labels::{
    DoorLabels, DurationLabels, EndpointLabels, NameLabel, ReasonLabels, RegistryLabels, RequestLabels, StatusLabel,
    UpstreamLabels, VerdictLabels,
};
use super::process::Process;
use super::readings::Observed;
use super::{Kind, Outcome, Readings};

/// In seconds: from the first millisecond of a hit to the longest wait for a fill.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 25.0, 60.0, 300.0];

/// The metrics of the process. Clones share the counters.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    names: RwLock<HashMap<Arc<str>, NameLabel>>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    client_bytes: Family<RegistryLabels, Counter>,
    upstream_requests: Family<UpstreamLabels, Counter>,
    upstream_bytes: Family<RegistryLabels, Counter>,
    upstream_up: Family<EndpointLabels, Gauge>,
    ratelimit_remaining: Family<RegistryLabels, Gauge>,
    connects: Family<VerdictLabels, Counter>,
    handshake_failures: Family<ReasonLabels, Counter>,
    connections: Family<DoorLabels, Gauge>,
    fills: Gauge,
    fill_resumes: Counter,
    digest_mismatches: Counter,
    reload: Gauge,
    observed: Arc<Observed>,
}

/// Counts an open connection until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

/// Counts a fill in progress until it is dropped.
#[derive(Debug)]
pub struct RunningFill(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Drop for RunningFill {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// The `Content-Type` of [`Metrics::encode`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Starts all counters at zero, and takes now for the start of the process.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner::new()))
    }

    /// Counts an answered request. `registry` is a configured name.
    pub fn request(&self, registry: &str, kind: Kind, cache: Outcome, status: u16, elapsed: Duration) {
        let labels = RequestLabels { registry: self.0.name(registry), kind, cache, status };
        self.0.requests.get_or_create(&labels).inc();
        self.0.durations.get_or_create(&DurationLabels { kind, cache }).observe(elapsed.as_secs_f64());
    }

    /// Counts bytes of bodies sent to clients.
    pub fn client_bytes(&self, registry: &str, bytes: u64) {
        self.0.client_bytes.get_or_create(&self.0.registry_labels(registry)).inc_by(bytes);
    }

    /// Counts a request to an upstream; `None` for one that got no status.
    pub fn upstream_request(&self, registry: &str, kind: Kind, status: Option<u16>) {
        let labels = UpstreamLabels { registry: self.0.name(registry), kind, status: StatusLabel(status) };
        self.0.upstream_requests.get_or_create(&labels).inc();
    }

    /// Counts bytes of bodies received from upstreams.
    pub fn upstream_bytes(&self, registry: &str, bytes: u64) {
        self.0.upstream_bytes.get_or_create(&self.0.registry_labels(registry)).inc_by(bytes);
    }

    /// Records whether an endpoint is healthy.
    pub fn upstream_up(&self, registry: &str, endpoint: &str, up: bool) {
        let labels = EndpointLabels { registry: self.0.name(registry), endpoint: self.0.name(endpoint) };
        self.0.upstream_up.get_or_create(&labels).set(i64::from(up));
    }

    /// Records the pulls left in the rate limit of a registry.
    pub fn ratelimit_remaining(&self, registry: &str, pulls: i64) {
        self.0.ratelimit_remaining.get_or_create(&self.0.registry_labels(registry)).set(pulls);
    }

    /// Counts the verdict on a CONNECT.
    pub fn connect(&self, verdict: &'static str) {
        self.0.connects.get_or_create(&VerdictLabels { verdict }).inc();
    }

    /// Counts a failed TLS handshake of a client.
    pub fn handshake_failure(&self, reason: &'static str) {
        self.0.handshake_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts an accepted connection as open until the guard is dropped.
    #[must_use]
    pub fn connection(&self, door: &'static str) -> OpenConnection {
        let gauge = self.0.connections.get_or_create_owned(&DoorLabels { door });
        gauge.inc();
        OpenConnection(gauge)
    }

    /// Counts a fill as in progress until the guard is dropped.
    #[must_use]
    pub fn fill(&self) -> RunningFill {
        self.0.fills.inc();
        RunningFill(self.0.fills.clone())
    }

    /// Counts a broken download that was resumed.
    pub fn fill_resumed(&self) {
        self.0.fill_resumes.inc();
    }

    /// Counts content that did not match its digest.
    pub fn digest_mismatch(&self) {
        self.0.digest_mismatches.inc();
    }

    /// Records whether a reload of the configuration succeeded; until the first one it counts as successful.
    pub fn reload(&self, ok: bool) {
        self.0.reload.set(i64::from(ok));
    }

    /// Records when the first certificate of the CA expires.
    pub fn ca(&self, expiry: SystemTime) {
        self.0.observed.ca(expiry);
    }

    /// Sets the function that is called at each scrape; a second call replaces the first. `observer` must not call back
    /// into these metrics and should not block.
    pub fn observe(&self, observer: impl Fn() -> Readings + Send + Sync + 'static) {
        self.0.observed.observe(Box::new(observer));
    }

    /// Encodes everything in the OpenMetrics text format ([`Metrics::CONTENT_TYPE`]). Reads files of `/proc`, so it
    /// blocks.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail, and half a page is no worse than none.
        let _ = text::encode(&mut out, &self.0.registry);
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn new() -> Self {
        let mut inner = Self {
            registry: Registry::default(),
            names: RwLock::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            client_bytes: Family::default(),
            upstream_requests: Family::default(),
            upstream_bytes: Family::default(),
            upstream_up: Family::default(),
            ratelimit_remaining: Family::default(),
            connects: Family::default(),
            handshake_failures: Family::default(),
            connections: Family::default(),
            fills: Gauge::default(),
            fill_resumes: Counter::default(),
            digest_mismatches: Counter::default(),
            reload: Gauge::default(),
            observed: Arc::default(),
        };
        inner.reload.set(1);
        inner.register();
        inner
    }

    /// Names without `_total` and `_info`: the encoder adds them.
    fn register(&mut self) {
        self.registry.register_collector(Box::new(Process::started_now()));
        let ours = self.registry.sub_registry_with_prefix("pullthrough");
        ours.register("build", "Version of the program", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        ours.register("requests", "Answered requests", self.requests.clone());
        ours.register(
            "request_duration_seconds",
            "Time from the request to the last byte of the answer",
            self.durations.clone(),
        );
        ours.register("client_bytes", "Bytes of bodies sent to clients", self.client_bytes.clone());
        ours.register("upstream_requests", "Requests sent upstream", self.upstream_requests.clone());
        ours.register("upstream_bytes", "Bytes of bodies from upstreams", self.upstream_bytes.clone());
        ours.register("upstream_up", "Whether an endpoint is healthy", self.upstream_up.clone());
        let help = "What is left of the rate limit";
        ours.register("upstream_ratelimit_remaining", help, self.ratelimit_remaining.clone());
        ours.register("connects", "CONNECT requests by verdict", self.connects.clone());
        let help = "TLS handshakes that clients broke off";
        ours.register("client_handshake_failures", help, self.handshake_failures.clone());
        ours.register("connections", "Open client connections", self.connections.clone());
        ours.register("fills_in_progress", "Downloads into the cache", self.fills.clone());
        ours.register("fill_resumes", "Broken downloads that were resumed", self.fill_resumes.clone());
        ours.register("digest_mismatches", "Content that did not match its digest", self.digest_mismatches.clone());
        ours.register("config_last_reload_successful", "Whether the last reload succeeded", self.reload.clone());
        ours.register_collector(Box::new(Arc::clone(&self.observed)));
    }

    fn registry_labels(&self, registry: &str) -> RegistryLabels {
        RegistryLabels { registry: self.name(registry) }
    }

    /// Returns the shared string of a configured name, without an allocation after its first use.
    fn name(&self, name: &str) -> NameLabel {
        if let Some(known) = self.names.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return known.clone();
        }
        let shared: Arc<str> = name.into();
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.entry(Arc::clone(&shared)).or_insert(NameLabel(shared)).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::telemetry::Use;

    #[test]
    fn every_metric_comes_out_under_its_public_name() {
        let metrics = Metrics::new();
        metrics.request("quay.io", Kind::Blob, Outcome::Hit, 200, Duration::from_millis(2));
        metrics.client_bytes("quay.io", 7);
        metrics.upstream_request("quay.io", Kind::Manifest, Some(404));
        metrics.upstream_request("quay.io", Kind::Manifest, None);
        metrics.upstream_bytes("quay.io", 5);
        metrics.upstream_up("quay.io", "https://quay.io", true);
        metrics.ratelimit_remaining("docker.io", 20);
        metrics.connect("intercept");
        metrics.handshake_failure("unknown_ca");
        let _open = metrics.connection("proxy");
        let _fill = metrics.fill();
        metrics.fill_resumed();
        metrics.digest_mismatch();
        metrics.reload(false);
        metrics.ca(UNIX_EPOCH + Duration::from_secs(2_000_000_000));
        metrics.observe(|| Readings {
            cache_bytes: 1,
            cache_entries: 2,
            disk_free_bytes: 3,
            disk_trouble: true,
            evictions: 4,
            damaged_chunks: 6,
            leaf_certificates: 6,
            audit_lines_lost: 7,
            tasks: 8,
            uses: vec![Use { what: "files", used: 3, limit: 9 }],
            refused: vec![("streams", 1), ("stalled", 0)],
        });
        let page = metrics.encode();
        let build = format!("pullthrough_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        let expected = [
            build.as_str(),
            r#"pullthrough_requests_total{registry="quay.io",kind="blob",cache="hit",status="200"} 1"#,
            r#"pullthrough_request_duration_seconds_count{kind="blob",cache="hit"} 1"#,
            r#"pullthrough_client_bytes_total{registry="quay.io"} 7"#,
            r#"pullthrough_upstream_requests_total{registry="quay.io",kind="manifest",status="404"} 1"#,
            r#"pullthrough_upstream_requests_total{registry="quay.io",kind="manifest",status="error"} 1"#,
            r#"pullthrough_upstream_bytes_total{registry="quay.io"} 5"#,
            r#"pullthrough_upstream_up{registry="quay.io",endpoint="https://quay.io"} 1"#,
            r#"pullthrough_upstream_ratelimit_remaining{registry="docker.io"} 20"#,
            r#"pullthrough_connects_total{verdict="intercept"} 1"#,
            r#"pullthrough_client_handshake_failures_total{reason="unknown_ca"} 1"#,
            r#"pullthrough_connections{door="proxy"} 1"#,
            "pullthrough_fills_in_progress 1",
            "pullthrough_fill_resumes_total 1",
            "pullthrough_digest_mismatches_total 1",
            "pullthrough_config_last_reload_successful 0",
            "pullthrough_ca_expiry_timestamp_seconds 2000000000",
            "pullthrough_cache_bytes 1",
            "pullthrough_cache_entries 2",
            "pullthrough_disk_free_bytes 3",
            "pullthrough_disk_trouble 1",
            "pullthrough_evictions_total 4",
            "pullthrough_leaf_certificates_total 6",
            "pullthrough_audit_lines_lost_total 7",
            "pullthrough_tasks 8",
            r#"pullthrough_limit{what="files"} 9"#,
            r#"pullthrough_in_use{what="files"} 3"#,
            r#"pullthrough_refused_total{reason="streams"} 1"#,
            r#"pullthrough_refused_total{reason="stalled"} 0"#,
        ];
        for line in expected {
            assert!(page.lines().any(|found| found == line), "{line} is missing in:\n{page}");
        }
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
        ] {
            assert!(page.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} is missing in:\n{page}");
        }
    }

    #[test]
    fn a_dropped_guard_is_no_longer_counted() {
        let metrics = Metrics::new();
        let open = metrics.connection("proxy");
        let fill = metrics.fill();
        drop((open, fill));
        let page = metrics.encode();
        assert!(page.contains("pullthrough_connections{door=\"proxy\"} 0"), "{page}");
        assert!(page.contains("pullthrough_fills_in_progress 0"), "{page}");
    }

    #[test]
    fn a_name_is_kept_once() {
        let metrics = Metrics::new();
        metrics.client_bytes("quay.io", 1);
        let first = metrics.0.name("quay.io");
        assert!(Arc::ptr_eq(&first.0, &metrics.0.name("quay.io").0));
        assert_eq!(metrics.0.names.read().unwrap().len(), 1);
    }
}
