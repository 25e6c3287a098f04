//! Counts events where they happen, and encodes the counters when Prometheus scrapes them.
//!
//! Registry names are shared strings in a small table, so that counting a request allocates nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Readings;
use super::exposition::{Exposition, plain};
use super::labels::{DoorLabels, NameLabel, ReasonLabels, VerdictLabels};
use super::process::Process;
use super::readings::Observed;
use super::registry::{Families, RegistryMetrics};

/// The metrics of the process. Clones share the counters.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    /// By configured name.
    registries: RwLock<HashMap<Arc<str>, Arc<RegistryMetrics>>>,
    families: Families,
    connects: Family<VerdictLabels, Counter>,
    handshake_failures: Family<ReasonLabels, Counter>,
    connections: Family<DoorLabels, Gauge>,
    tunnel_bytes: Counter,
    fills: Gauge,
    fill_resumes: Counter,
    digest_mismatches: Counter,
    reload: Gauge,
    observed: Arc<Observed>,
}

/// The words that are known to become labels. Their counters start at 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct KnownLabels<'a> {
    /// The configured names of the registries.
    pub registries: &'a [Arc<str>],
    /// Why an upstream gives no answer.
    pub upstream_errors: &'a [&'static str],
    /// The verdicts on a CONNECT.
    pub connects: &'a [&'static str],
    /// Why a handshake with a client fails.
    pub handshake_failures: &'a [&'static str],
    /// The listeners.
    pub doors: &'a [&'static str],
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
    /// Starts all counters at zero, and takes now for the start of the process.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner::new()))
    }

    /// The counters of a registry, by its configured name.
    #[must_use]
    pub fn registry(&self, name: &str) -> Arc<RegistryMetrics> {
        let registries = &self.0.registries;
        if let Some(known) = registries.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        let mut registries = registries.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(RegistryMetrics::new(NameLabel(Arc::clone(&name)), &self.0.families));
        Arc::clone(registries.entry(Arc::clone(&name)).or_insert_with(new))
    }

    /// Starts the counters of these labels at 0: a counter that appears with its first event hides that event from
    /// `increase()`.
    pub fn start(&self, known: &KnownLabels<'_>) {
        for name in known.registries {
            self.registry(name).start_errors(known.upstream_errors);
        }
        for verdict in known.connects {
            drop(self.0.connects.get_or_create_owned(&VerdictLabels { verdict }));
        }
        for reason in known.handshake_failures {
            drop(self.0.handshake_failures.get_or_create_owned(&ReasonLabels { reason }));
        }
        for door in known.doors {
            drop(self.0.connections.get_or_create_owned(&DoorLabels { door }));
        }
    }

    /// Counts bytes that passed through tunnels, in both directions.
    pub fn tunnel_bytes(&self, bytes: u64) {
        self.0.tunnel_bytes.inc_by(bytes);
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

    /// Encodes everything in this text format. Reads files of `/proc`, so it blocks.
    #[must_use]
    pub fn encode(&self, exposition: Exposition) -> String {
        let mut out = String::new();
        // Writing to a string does not fail, and half a page is no worse than none.
        let _ = text::encode(&mut out, &self.0.registry);
        match exposition {
            Exposition::Plain => plain(&out),
            Exposition::OpenMetrics => out,
        }
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
            registries: RwLock::default(),
            families: Families::new(),
            connects: Family::default(),
            handshake_failures: Family::default(),
            connections: Family::default(),
            tunnel_bytes: Counter::default(),
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
        self.families.register(ours);
        ours.register("connects", "CONNECT requests by verdict", self.connects.clone());
        let help = "TLS handshakes that clients broke off";
        ours.register("client_handshake_failures", help, self.handshake_failures.clone());
        ours.register("connections", "Open client connections", self.connections.clone());
        ours.register("tunnel_bytes", "Bytes through tunnels, in both directions", self.tunnel_bytes.clone());
        ours.register("fills_in_progress", "Downloads into the cache", self.fills.clone());
        ours.register("fill_resumes", "Broken downloads that were resumed", self.fill_resumes.clone());
        ours.register("digest_mismatches", "Content that did not match its digest", self.digest_mismatches.clone());
        ours.register("config_last_reload_successful", "Whether the last reload succeeded", self.reload.clone());
        ours.register_collector(Box::new(Arc::clone(&self.observed)));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::telemetry::{EndpointUp, Kind, Outcome, RegistryReading, Use};

    /// promtool reads the older format alone.
    fn accepted_by_promtool(page: &str) {
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut running) = promtool.spawn() else {
            return eprintln!("promtool is not installed: its judgement is left out");
        };
        running.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let judged = running.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[judged.stdout, judged.stderr].concat()).into_owned();
        assert!(judged.status.success() && said.is_empty(), "{said}\n{page}");
    }

    #[test]
    fn every_metric_comes_out_under_its_public_name() {
        let metrics = Metrics::new();
        let quay = metrics.registry("quay.io");
        quay.answered(Kind::Blob, Outcome::Hit, 200, 7, Duration::from_millis(2));
        quay.upstream_answered(Kind::Manifest, 404, Duration::from_millis(20));
        quay.upstream_failed(Kind::Manifest, "dns");
        quay.upstream_bytes(5);
        metrics.tunnel_bytes(9);
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
            cache_limit_bytes: 10,
            disk_size_bytes: 11,
            evicted_bytes: 12,
            endpoints: vec![EndpointUp { registry: "quay.io".into(), endpoint: "https://quay.io".into(), is_up: true }],
            registries: vec![RegistryReading { registry: "docker.io".into(), is_out: true, pulls_left: Some(20) }],
            uses: vec![Use { what: "files", used: 3, limit: 9 }],
            refused: vec![("streams", 1), ("stalled", 0)],
        });
        let page = metrics.encode(Exposition::OpenMetrics);
        accepted_by_promtool(&metrics.encode(Exposition::Plain));
        let build = format!("pullthrough_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        let expected = [
            build.as_str(),
            r#"pullthrough_requests_total{registry="quay.io",kind="blob",cache="hit",status="200"} 1"#,
            r#"pullthrough_request_duration_seconds_count{registry="quay.io",kind="blob",cache="hit"} 1"#,
            r#"pullthrough_client_bytes_total{registry="quay.io",cache="hit"} 7"#,
            r#"pullthrough_upstream_duration_seconds_count{registry="quay.io",kind="manifest"} 1"#,
            r#"pullthrough_upstream_errors_total{registry="quay.io",reason="dns"} 1"#,
            r#"pullthrough_outage{registry="docker.io"} 1"#,
            "pullthrough_tunnel_bytes_total 9",
            "pullthrough_cache_limit_bytes 10",
            "pullthrough_disk_size_bytes 11",
            "pullthrough_evicted_bytes_total 12",
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
        let page = metrics.encode(Exposition::OpenMetrics);
        assert!(page.contains("pullthrough_connections{door=\"proxy\"} 0"), "{page}");
        assert!(page.contains("pullthrough_fills_in_progress 0"), "{page}");
    }

    #[test]
    fn known_labels_start_at_0_and_a_registry_is_kept_once() {
        let metrics = Metrics::new();
        metrics.start(&KnownLabels {
            registries: &["quay.io".into(), "*.pkg.dev".into()],
            upstream_errors: &["dns", "refused"],
            connects: &["tunnel"],
            handshake_failures: &["untrusted"],
            doors: &["proxy", "admin"],
        });
        let page = metrics.encode(Exposition::OpenMetrics);
        let expected = [
            r#"pullthrough_client_bytes_total{registry="*.pkg.dev",cache="stale"} 0"#,
            r#"pullthrough_upstream_bytes_total{registry="quay.io"} 0"#,
            r#"pullthrough_upstream_errors_total{registry="quay.io",reason="refused"} 0"#,
            r#"pullthrough_connects_total{verdict="tunnel"} 0"#,
            r#"pullthrough_client_handshake_failures_total{reason="untrusted"} 0"#,
            r#"pullthrough_connections{door="admin"} 0"#,
            "pullthrough_tunnel_bytes_total 0",
            "pullthrough_fill_resumes_total 0",
            "pullthrough_digest_mismatches_total 0",
        ];
        for line in expected {
            assert!(page.lines().any(|found| found == line), "{line} is missing in:\n{page}");
        }
        assert!(Arc::ptr_eq(&metrics.registry("quay.io"), &metrics.registry("quay.io")));
        assert_eq!(metrics.0.registries.read().unwrap().len(), 2);
    }
}
