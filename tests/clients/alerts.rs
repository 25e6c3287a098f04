//! The alerts that are shipped, by promtool: each fires in the fault that it is for, and none in a healthy run.
//!
//! The series are those of real scrapes: a proxy before a scripted registry is scraped when it has started, after healthy
//! pulls, and in the fault. promtool replays them: an hour without fault, then the fault, in which counters go on growing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

#[allow(dead_code, unused_imports, reason = "the tools of the integration tests, of which few are needed here")]
#[path = "../it/support/mod.rs"]
mod support;

use support::client::Client;
use support::{Act, Plan, Proxy, Registry, until};

const QUAY: &str = "quay.io:443";
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/prometheus/alerts.yaml");
/// The minutes without a fault.
const HEALTHY: usize = 60;
const EXPIRY: &str = "pullthrough_ca_expiry_timestamp_seconds";

/// One fault, as it was scraped.
struct Fault {
    name: &'static str,
    /// The alerts that it is for.
    fires: &'static [&'static str],
    /// Those that it may fire besides.
    may: &'static [&'static str],
    started: Scrape,
    healthy: Scrape,
    faulty: Scrape,
    /// How many minutes it lasts.
    minutes: usize,
}

/// The samples of one scrape, by series.
type Scrape = BTreeMap<String, f64>;

struct Lab {
    registry: Registry,
    proxy: Proxy,
    started: Scrape,
    healthy: Scrape,
    mounted: Mounted,
}

impl Lab {
    /// Its cache has a file system of its own: how full this machine's is decides nothing.
    async fn start(plan: impl FnOnce(Plan) -> Plan) -> Self {
        let registry = Registry::start("quay.io");
        let plan = plan(Plan::new().registry(&registry, "tags: {fresh_for: 0s}, prefetch: off"));
        let mut mounted = None;
        let proxy = Proxy::of_yaml(|folder| {
            mounted = Some(Mounted::at(&folder.join("cache")));
            plan.yaml(folder)
        })
        .await;
        let started = scrape(&proxy).await;
        let image = registry.push_image("a", "1", &[vec![7; 100_000]]);
        let mut session = proxy.client().session(QUAY).await;
        for _ in 0..2 {
            assert_eq!(session.get("/v2/a/manifests/1").await.status, 200);
            for layer in &image.layers {
                assert_eq!(session.get(&format!("/v2/a/blobs/{layer}")).await.status, 200);
            }
        }
        proxy.stored(&image.layers[0]).await;
        let healthy = scrape(&proxy).await;
        Self { registry, proxy, started, healthy, mounted: mounted.unwrap() }
    }

    async fn metric(&self, name: &str) -> f64 {
        self.proxy.metric(name).await
    }

    async fn fault(self, name: &'static str, fires: &'static [&'static str], may: &'static [&'static str]) -> Fault {
        let faulty = scrape(&self.proxy).await;
        Fault { name, fires, may, started: self.started, healthy: self.healthy, faulty, minutes: 30 }
    }
}

/// All samples but the buckets of histograms, with the labels that Prometheus adds. The clock of promtool begins at 0, so
/// what is a time is a time from now on.
async fn scrape(proxy: &Proxy) -> Scrape {
    let client = Client::through(proxy.admin(), &proxy.ca_file());
    let page = client.plain_session(&proxy.admin().to_string()).await.get("/metrics").await;
    let text = String::from_utf8(page.bytes().to_vec()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let mut scrape = Scrape::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let comma = if labels == "}" { "" } else { "," };
        let value: f64 = value.parse().unwrap();
        let value = if name == EXPIRY { value - now } else { value };
        scrape.insert(format!("{name}{{instance=\"lab\",job=\"pullthrough\"{comma}{labels}"), value);
    }
    scrape.insert("up{instance=\"lab\",job=\"pullthrough\"}".to_owned(), 1.0);
    assert!(scrape.len() > 50, "{text}");
    scrape
}

async fn outage() -> Fault {
    let mut lab = Lab::start(|plan| plan).await;
    lab.registry.stop();
    let _ = lab.proxy.client().get(QUAY, "/v2/a/manifests/2").await;
    until("the outage is open", async || lab.metric("pullthrough_outage{registry=\"quay.io\"}").await == 1.0).await;
    lab.fault("outage", &["PullthroughOutage", "PullthroughUpstreamDown"], &["PullthroughFailing"]).await
}

async fn wrong_content() -> Fault {
    let lab = Lab::start(|plan| plan).await;
    let blob = lab.registry.push_blob("a", vec![9; 1000]);
    lab.registry.script("*/blobs/*", Act::WrongByte(10));
    let _ = lab.proxy.client().get(QUAY, &format!("/v2/a/blobs/{blob}")).await;
    until("it is counted", async || lab.metric("pullthrough_digest_mismatches_total").await > 0.0).await;
    lab.fault("wrong content", &["PullthroughWrongContent"], &["PullthroughFailing"]).await
}

async fn damaged() -> Fault {
    let lab = Lab::start(|plan| plan).await;
    let bytes = vec![3; 50_000];
    let blob = lab.registry.push_blob("a", bytes.clone());
    assert_eq!(lab.proxy.client().get(QUAY, &format!("/v2/a/blobs/{blob}")).await.bytes(), &bytes);
    lab.proxy.stored(&blob).await;
    let mut wrong = bytes.clone();
    wrong[100] ^= 1;
    fs::write(lab.proxy.blob_file(&blob), wrong).unwrap();
    assert_eq!(lab.proxy.client().get(QUAY, &format!("/v2/a/blobs/{blob}")).await.bytes(), &bytes);
    assert!(lab.metric("pullthrough_damaged_chunks_total").await > 0.0);
    lab.fault("damaged disk", &["PullthroughDiskDamaged"], &[]).await
}

/// A file system of its own, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs"];
        assert!(Command::new("mount").args(mount).arg(folder).status().unwrap().success(), "root can mount");
        Self(folder.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

async fn full_disk() -> Fault {
    let lab = Lab::start(|plan| plan).await;
    let mut ballast = File::create(lab.mounted.0.join("ballast")).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        while ballast.write_all(&vec![1; size]).is_ok() {}
    }
    let blob = lab.registry.push_blob("a", vec![5; 2_000_000]);
    let asked = async || lab.proxy.client().get(QUAY, &format!("/v2/a/blobs/{blob}")).await;
    until("the fault and the free space show", async || {
        let _ = asked().await;
        let (free, size) =
            (lab.metric("pullthrough_disk_free_bytes").await, lab.metric("pullthrough_disk_size_bytes").await);
        lab.metric("pullthrough_disk_trouble").await == 1.0 && free < 0.05 * size
    })
    .await;
    lab.fault("full disk", &["PullthroughDiskLow", "PullthroughDiskTrouble"], &["PullthroughEvictsTooMuch"]).await
}

async fn few_pulls_left() -> Fault {
    let lab = Lab::start(|plan| plan).await;
    for (name, value) in [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "5;w=21600")] {
        lab.registry.script("*/manifests/*", Act::Header(name.into(), value.into()));
    }
    assert_eq!(lab.proxy.client().get(QUAY, "/v2/a/manifests/1").await.status, 200);
    assert_eq!(lab.metric("pullthrough_upstream_ratelimit_remaining").await, 5.0);
    lab.fault("few pulls left", &["PullthroughRateLimitNear"], &[]).await
}

async fn untrusted() -> Fault {
    let lab = Lab::start(|plan| plan).await;
    let stranger = Client::through(lab.proxy.address(), &lab.registry.ca_file());
    for _ in 0..40 {
        assert!(stranger.tls(QUAY).await.is_err());
    }
    lab.fault("untrusted CA", &["PullthroughUntrusted"], &[]).await
}

async fn refused_configuration() -> Fault {
    let lab = Lab::start(|plan| plan).await;
    lab.proxy.reload(Plan::new().registry(&lab.registry, "").cache("max_size: much")).await;
    lab.fault("refused configuration", &["PullthroughConfigurationRefused"], &[]).await
}

async fn failing() -> Fault {
    let lab = Lab::start(|plan| plan).await;
    lab.registry.script("*/failing/*", Act::Status(500));
    for _ in 0..5 {
        assert_eq!(lab.proxy.client().get(QUAY, "/v2/failing/manifests/1").await.status, 500);
    }
    until("it is counted", async || {
        lab.metric("pullthrough_upstream_requests_total{registry=\"quay.io\",kind=\"manifest\",status=\"500\"}").await
            >= 5.0
    })
    .await;
    lab.fault("failing requests", &["PullthroughFailing"], &[]).await
}

async fn too_small() -> Fault {
    let lab = Lab::start(|plan| plan.cache("max_size: 2MiB")).await;
    for seed in 0..12 {
        let blob = lab.registry.push_blob("a", vec![seed; 500_000]);
        assert_eq!(lab.proxy.client().get(QUAY, &format!("/v2/a/blobs/{blob}")).await.status, 200);
    }
    let (evicted, limit) = ("pullthrough_evicted_bytes_total", "pullthrough_cache_limit_bytes");
    until("it evicts", async || lab.metric(evicted).await > 0.8 * lab.metric(limit).await).await;
    let fault = lab.fault("a cache that is too small", &["PullthroughEvictsTooMuch"], &[]).await;
    Fault { minutes: 300, ..fault }
}

/// What no lab has to wait for: the proxy is gone, or ten years have passed.
async fn by_hand() -> [Fault; 2] {
    let (down, old) = (Lab::start(|plan| plan).await, Lab::start(|plan| plan).await);
    let mut down = down.fault("down", &["PullthroughDown"], &[]).await;
    down.faulty.retain(|series, _| series.starts_with("up{"));
    down.faulty.values_mut().for_each(|value| *value = 0.0);
    let mut old = old.fault("an old CA", &["PullthroughCaExpires"], &[]).await;
    for (_, left) in old.faulty.iter_mut().filter(|(series, _)| series.starts_with(EXPIRY)) {
        assert!(*left > 4.0 * 365.0 * 86400.0, "it was made just now");
        *left = 29.0 * 86400.0;
    }
    [down, old]
}

/// One value a minute: counters grow in a straight line to the next scrape, and gauges have it at once.
fn values(series: &str, fault: &Fault) -> String {
    let name = series.split('{').next().unwrap();
    let grows = ["_total", "_count", "_sum"].iter().any(|end| name.ends_with(end));
    let phases = [(&fault.started, &fault.healthy, HEALTHY), (&fault.healthy, &fault.faulty, fault.minutes)];
    let mut text = String::new();
    for (before, after, minutes) in phases {
        let _ = match (before.get(series), after.get(series)) {
            // A counter whose labels nobody could know begins with its first event.
            (None, Some(to)) if grows => write!(text, "0+{}x{} ", to / (minutes - 1) as f64, minutes - 1),
            (Some(from), Some(to)) if grows => {
                write!(text, "{from}+{}x{} ", (to - from) / (minutes - 1) as f64, minutes - 1)
            }
            (_, Some(to)) => write!(text, "{to}+0x{} ", minutes - 1),
            (_, None) => write!(text, "_x{minutes} "),
        };
    }
    text.replace("+-", "-")
}

/// The test that promtool runs.
fn unit_test(fault: &Fault) -> serde_json::Value {
    let all: BTreeSet<&String> = fault.started.keys().chain(fault.healthy.keys()).chain(fault.faulty.keys()).collect();
    let series: Vec<_> =
        all.iter().map(|series| serde_json::json!({"series": series, "values": values(series, fault)})).collect();
    let end = HEALTHY + fault.minutes - 1;
    let expected = [fault.fires, fault.may].concat().join("|");
    let fires = fault.fires.iter().map(|alert| {
        let labels = format!("{{alertname=\"{alert}\"}}");
        serde_json::json!({
            "expr": format!("max by (alertname) (ALERTS{{alertstate=\"firing\",alertname=\"{alert}\"}})"),
            "eval_time": format!("{end}m"),
            "exp_samples": [{"labels": labels, "value": 1}],
        })
    });
    let quiet = [
        ("ALERTS{alertstate=\"firing\"}".to_owned(), HEALTHY - 1),
        (format!("ALERTS{{alertstate=\"firing\",alertname!~\"{expected}\"}}"), end),
    ];
    let quiet = quiet.map(|(expr, minute)| {
        serde_json::json!({"expr": format!("max by (alertname) ({expr})"), "eval_time": format!("{minute}m"), "exp_samples": []})
    });
    serde_json::json!({
        "name": fault.name,
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": fires.chain(quiet).collect::<Vec<_>>(),
    })
}

#[tokio::test]
async fn each_alert_fires_in_its_fault_and_none_in_a_healthy_run() {
    let mut faults = vec![
        full_disk().await,
        outage().await,
        wrong_content().await,
        damaged().await,
        few_pulls_left().await,
        untrusted().await,
        refused_configuration().await,
        failing().await,
        too_small().await,
    ];
    faults.extend(by_hand().await);

    let rules = fs::read_to_string(RULES).unwrap();
    let shipped: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let tested: BTreeSet<&str> = faults.iter().flat_map(|fault| fault.fires.iter().copied()).collect();
    assert_eq!(shipped, tested, "each alert has a fault");

    let folder = tempfile::tempdir().unwrap();
    let tests: Vec<_> = faults.iter().map(unit_test).collect();
    let file = serde_json::json!({"rule_files": [RULES], "evaluation_interval": "1m", "tests": tests});
    let path = folder.path().join("test.yaml");
    fs::write(&path, format!("{file:#}")).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(&path).output();
    let output = output.unwrap_or_else(|error| panic!("promtool is in Debian's package prometheus: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
