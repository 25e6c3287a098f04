//! A registry that is unreachable is told once with address and reason, with each change of the reason, and when it is back.

use crate::pull::QUAY;
use crate::support::client::Whole;
use crate::support::lab::Certificate;
use crate::support::{Act, Answering, Dns, Log, Plan, Proxy, Registry, Setup, Tokens, eventually, until};

const MANIFEST: &str = "/v2/a/manifests/1";
const AWAY: &str = "the registry is unreachable";
const BACK: &str = "the registry is reachable again";

/// A proxy that asks for a tag each time.
async fn before(registry: &Registry) -> Proxy {
    Plan::new().registry(registry, "tags: {fresh_for: 0s}").start().await
}

/// As a client in mid-pull, which has a token of the registry's and so gets no challenge of ours.
async fn ask(proxy: &Proxy) -> Whole {
    proxy.client().session(QUAY).await.ask("GET", MANIFEST, &[("authorization", "Bearer theirs")]).await
}

/// Asks until the answer comes from the outage: its body and its access line say the reason as the log does.
async fn fails_with(proxy: &Proxy, lines: &Log, words: &str) {
    until("the outage is open", async || proxy.metric("pullthrough_outage{registry=\"quay.io\"}").await == 1.0).await;
    let said = lines.with(&["outcome=", "status=503"]).len();
    let answer = ask(proxy).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let body = String::from_utf8_lossy(answer.bytes()).into_owned();
    assert!(body.contains(words), "{words}: {body}");
    eventually("the access line is written", || lines.with(&["status=503"]).len() > said).await;
    let line = lines.with(&["status=503", MANIFEST.rsplit('/').next().unwrap()]).pop().unwrap();
    assert!(line.contains("detail=") && line.contains(words), "{words}: {line}");
}

#[tokio::test]
async fn an_unreachable_registry_is_told_once_with_its_address_and_reason_and_when_it_is_back() {
    let lines = Log::begin();
    let mut registry = Registry::start("quay.io");
    registry.push_image("a", "1", &[vec![1; 100]]);
    let proxy = before(&registry).await;
    let address = registry.address().to_string();
    registry.stop();
    for _ in 0..3 {
        let answer = ask(&proxy).await;
        assert!(answer.status.is_server_error(), "{answer:?}");
    }
    fails_with(&proxy, &lines, &address).await;
    let told = lines.with(&["WARN", AWAY]);
    assert_eq!(told.len(), 1, "{told:?}");
    let fields = ["registry=\"quay.io\"", "reason=\"refused\"", "refused (os error", &address];
    assert!(fields.iter().all(|field| told[0].contains(field)), "{told:?}");
    registry.start_again();
    eventually("its return is told", || lines.with(&["INFO", BACK, "registry=\"quay.io\""]).len() == 1).await;
    assert_eq!(ask(&proxy).await.status, 200);
    assert_eq!(lines.with(&["WARN", AWAY]).len(), 1);
}

#[tokio::test]
async fn each_kind_of_certificate_that_is_not_accepted_has_a_reason_of_its_own() {
    for (certificate, reason, words) in [
        (Certificate::UnknownCa, "unknown_ca", "signed by an unknown CA"),
        (Certificate::OtherName, "certificate_name", "not valid for it"),
        (Certificate::Expired, "certificate_expired", "expired"),
    ] {
        let lines = Log::begin();
        let registry = Registry::with(Setup { certificate: Some(certificate), ..Setup::named("quay.io") });
        let proxy = before(&registry).await;
        assert!(ask(&proxy).await.status.is_server_error());
        fails_with(&proxy, &lines, words).await;
        let told = lines.with(&["WARN", AWAY, &format!("reason=\"{reason}\""), &registry.address().to_string()]);
        assert_eq!(told.len(), 1, "{reason}: {:?}", lines.with(&["WARN"]));
        assert!(
            proxy
                .metric(&format!("pullthrough_upstream_errors_total{{registry=\"quay.io\",reason=\"{reason}\"}}"))
                .await
                > 0.0
        );
    }
}

#[tokio::test]
async fn another_reason_is_told_and_the_same_one_is_not() {
    let lines = Log::begin();
    let mut registry = Registry::with(Setup { certificate: Some(Certificate::UnknownCa), ..Setup::named("quay.io") });
    let proxy = before(&registry).await;
    assert!(ask(&proxy).await.status.is_server_error());
    eventually("the first reason is told", || lines.with(&[AWAY, "reason=\"unknown_ca\""]).len() == 1).await;
    registry.stop();
    until("the other reason is told", async || {
        let _ = ask(&proxy).await; // whoever asks has it probed
        lines.with(&[AWAY, "reason=\"refused\""]).len() == 1
    })
    .await;
    assert_eq!(lines.with(&[AWAY]).iter().filter(|line| line.contains("WARN")).count(), 2);
    assert!(lines.with(&[BACK]).is_empty());
}

#[tokio::test]
async fn a_configuration_that_mends_it_is_followed_by_the_word_that_it_is_back() {
    let lines = Log::begin();
    let (mut dead, registry) = (Registry::start("quay.io"), Registry::start("quay.io"));
    let proxy = before(&dead).await;
    dead.stop();
    let _ = ask(&proxy).await;
    eventually("it is told", || lines.with(&["WARN", AWAY]).len() == 1).await;
    proxy.reload(Plan::new().registry(&registry, "")).await;
    eventually("its return is told", || lines.with(&["INFO", BACK]).len() == 1).await;
    assert_eq!(lines.with(&["WARN", AWAY]).len(), 1);
    assert_eq!(registry.count("*/manifests/*"), 0, "nobody has pulled");
}

#[tokio::test]
async fn a_silent_registry_and_a_name_that_does_not_resolve_are_told_as_such() {
    let lines = Log::begin();
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 0s, deadline: 1s}").start().await;
    registry.hang(true);
    let _ = ask(&proxy).await;
    eventually("silence is told", || lines.with(&["WARN", AWAY]).len() == 1).await;
    let told = lines.with(&["WARN", AWAY]).pop().unwrap();
    assert!(told.contains("reason=\"silent\"") || told.contains("reason=\"timeout\""), "{told}");
    registry.hang(false);

    let dns = Dns::start(Answering::Truly).await;
    let proxy = Plan::new()
        .raw_registry("quay.io: {tags: {fresh_for: 0s}}")
        .upstream(&format!("resolvers: ['{}']", dns.address()))
        .start()
        .await;
    let _ = ask(&proxy).await;
    eventually("the name is told", || lines.with(&["WARN", AWAY, "reason=\"dns\"", "quay.io:443"]).len() == 1).await;
}

#[tokio::test]
async fn the_challenge_of_an_outage_names_its_reason() {
    let lines = Log::begin();
    let mut registry = Registry::start("quay.io");
    let tokens = Tokens::new().user("alice", "secret", &["a"]);
    registry.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://quay.io/token");
    let proxy = before(&registry).await;
    let address = registry.address().to_string();
    registry.stop();
    let _ = ask(&proxy).await;
    eventually("it is told", || lines.with(&["WARN", AWAY]).len() == 1).await;
    let answer = proxy.client().session(QUAY).await.get(MANIFEST).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    let words = String::from_utf8_lossy(answer.bytes()).into_owned();
    assert!(words.contains("this proxy issues the token") && words.contains(&address), "{words}");
    eventually("the access line", || lines.with(&["access", "status=401", "detail=", &address]).len() == 1).await;
}

#[tokio::test]
async fn a_throttle_is_told_once_with_what_is_left_whose_account_it_is_and_for_how_long() {
    let lines = Log::begin();
    let registry = Registry::start("quay.io");
    let headers = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600"), ("retry-after", "3600")];
    let headers = headers.iter().chain(&[("docker-ratelimit-source", "192.0.2.7")]);
    let headers = headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    registry.script("*/manifests/*", Act::Answer { status: 429, headers, body: String::new() });
    let proxy = before(&registry).await;
    for tag in ["1", "2", "3"] {
        let answer = proxy.client().session(QUAY).await.get(&format!("/v2/a/manifests/{tag}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "3600"));
    }
    let told = lines.with(&["WARN", "throttles"]);
    assert_eq!(told.len(), 1, "{told:?}");
    for field in [
        "account=\"nobody (this proxy's address)\"",
        "counted_for=\"192.0.2.7\"",
        "pulls_left=0",
        "pulls_limit=100",
        "retry_after_seconds=3600",
    ] {
        assert!(told[0].contains(field), "{field}: {told:?}");
    }
}

#[tokio::test]
async fn a_throttle_by_a_host_that_the_registry_redirects_to_reaches_the_client_as_one() {
    let registry = Registry::start("quay.io");
    let cdn = registry.sibling(Setup::named("cdn.test"));
    let blob = registry.push_blob("a", vec![7; 1000]);
    registry.redirect_blobs("https://cdn.test");
    registry.script("*/manifests/*", Act::Redirect { status: 307, location: "https://cdn.test{path}".to_owned() });
    let headers = vec![("retry-after".to_owned(), "3600".to_owned())];
    cdn.script("*", Act::Answer { status: 429, headers, body: String::new() });
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 0s}").host("cdn.test", &cdn).start().await;
    for path in [MANIFEST.to_owned(), format!("/v2/a/blobs/{blob}")] {
        let answer = proxy.client().session(QUAY).await.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "3600"), "{path}");
    }
}
