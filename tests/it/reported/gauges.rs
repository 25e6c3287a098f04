//! Gauges are right without a request, and counters begin at 0.

use crate::pull::QUAY;
use crate::support::{Log, Plan, Registry, Setup, eventually, until};

const UP: &str = "pullthrough_upstream_up{registry=\"quay.io\",endpoint=\"https://quay.io\"}";
const OUT: &str = "pullthrough_outage{registry=\"quay.io\"}";
const TAGS: &str = "tags: {fresh_for: 0s}";

#[tokio::test]
async fn the_gauges_follow_an_outage_and_its_end_without_a_request() {
    let mut registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, TAGS).start().await;
    assert_eq!((proxy.metric(UP).await, proxy.metric(OUT).await), (1.0, 0.0), "before anything was asked");
    registry.stop();
    let _ = proxy.client().get(QUAY, "/v2/a/manifests/1").await;
    until("the outage shows", async || (proxy.metric(UP).await, proxy.metric(OUT).await) == (0.0, 1.0)).await;
    // Another configuration does not know better.
    proxy.reload(Plan::new().registry(&registry, "tags: {fresh_for: 1s}")).await;
    until("it shows after a reload", async || (proxy.metric(UP).await, proxy.metric(OUT).await) == (0.0, 1.0)).await;
    registry.start_again();
    until("its end shows", async || (proxy.metric(UP).await, proxy.metric(OUT).await) == (1.0, 0.0)).await;
    assert_eq!(registry.count("*/manifests/*"), 0, "only probes have asked");
}

#[tokio::test]
async fn a_mirror_that_is_down_shows_and_is_told_while_the_registry_answers_and_again_when_it_is_back() {
    let lines = Log::begin();
    let (registry, mut mirror) = (Registry::start("quay.io"), Registry::with(Setup::named("mirror.test")));
    let endpoint = |name: &str, server: &Registry| {
        let (address, ca_file) = (server.address(), server.ca_file());
        format!("{{url: 'https://{name}', address: '{address}', ca_file: '{}'}}", ca_file.display())
    };
    let (first, second) = (endpoint("mirror.test", &mirror), endpoint("quay.io", &registry));
    let proxy = Plan::new().raw_registry(&format!("quay.io: {{endpoints: [{first}, {second}]}}")).start().await;
    let up = "pullthrough_upstream_up{registry=\"quay.io\",endpoint=\"https://mirror.test\"}";
    assert_eq!(proxy.metric(up).await, 1.0);
    let blob = registry.push_blob("a", vec![7; 1000]);
    mirror.stop();
    assert_eq!(proxy.client().get(QUAY, &format!("/v2/a/blobs/{blob}")).await.status, 200);
    assert_eq!((proxy.metric(up).await, proxy.metric(UP).await, proxy.metric(OUT).await), (0.0, 1.0, 0.0));
    let told = lines.with(&["WARN", "an endpoint is unreachable", "https://mirror.test", "reason=\"refused\""]);
    assert_eq!(told.len(), 1, "{told:?}");
    mirror.start_again();
    until("a probe finds it", async || proxy.metric(up).await == 1.0).await;
    eventually("and tells so", || lines.with(&["INFO", "the endpoint is reachable again"]).len() == 1).await;
}

#[tokio::test]
async fn counters_of_known_labels_begin_at_0() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    let session = crate::support::client::Client::direct(proxy.admin());
    let page = session.plain_session(&proxy.admin().to_string()).await.get("/metrics").await;
    let page = String::from_utf8(page.bytes().to_vec()).unwrap();
    for begin in [
        "pullthrough_client_bytes_total{registry=\"quay.io\",cache=\"hit\"} 0",
        "pullthrough_upstream_bytes_total{registry=\"quay.io\"} 0",
        "pullthrough_upstream_errors_total{registry=\"quay.io\",reason=\"dns\"} 0",
        "pullthrough_client_handshake_failures_total{reason=\"untrusted\"} 0",
        "pullthrough_connects_total{verdict=\"intercept\"} 0",
        "pullthrough_connections{door=\"proxy\"} 0",
        "pullthrough_tunnel_bytes_total 0",
        "pullthrough_evicted_bytes_total 0",
        "pullthrough_digest_mismatches_total 0",
        "pullthrough_refused_total{reason=\"streams\"} 0",
        "pullthrough_cache_limit_bytes ",
        "pullthrough_disk_size_bytes ",
    ] {
        assert!(page.lines().any(|line| line.starts_with(begin)), "{begin} is missing in:\n{page}");
    }
}

#[tokio::test]
async fn answers_and_questions_are_timed_by_registry_and_tunnels_are_counted() {
    let registry = Registry::start("quay.io");
    registry.push_image("a", "1", &[vec![1; 100]]);
    let proxy = Plan::new().registry(&registry, "").tunnel("allow: ['127.0.0.1']").start().await;
    assert_eq!(proxy.client().get(QUAY, "/v2/a/manifests/1").await.status, 200);
    let labels = "registry=\"quay.io\",kind=\"manifest\"";
    let asked = proxy.metric(&format!("pullthrough_upstream_duration_seconds_count{{{labels}}}")).await;
    assert_eq!(asked, registry.count("*/manifests/*") as f64);
    until("the answer is counted", async || {
        proxy.metric(&format!("pullthrough_request_duration_seconds_count{{{labels},cache=\"miss\"}}")).await == 1.0
    })
    .await;
    assert_eq!(proxy.metric("pullthrough_tunnel_bytes_total").await, 0.0);
}
