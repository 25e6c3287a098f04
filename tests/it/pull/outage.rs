//! Registries that are away: what is cached pulls for every client, nobody waits, and all is fresh again after.

use super::{QUAY, layer};
use crate::support::client::{Session, Whole};
use crate::support::{Act, Image, MANIFEST, Plan, Proxy, Registry, Seen, basic_value, until};

pub(super) const TAGS: &str = "tags: {fresh_for: 0s, deadline: 2s}";
const LOCAL_REALM: &str = "https://quay.io/v2/_pullthrough/token";

/// How a client finds its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Pings; HEAD of the tag; takes challenges from the ping alone.
    Docker,
    /// No ping; HEAD of the tag; takes a challenge from any answer.
    Containerd,
    /// Pings; GET of the tag; takes challenges from the ping alone.
    Podman,
}

pub(super) const KINDS: [Kind; 3] = [Kind::Docker, Kind::Containerd, Kind::Podman];

/// One client's connection to quay.io, and what it holds.
pub(super) struct Puller {
    pub(super) session: Session,
    kind: Kind,
    pub(super) user: Option<&'static str>,
    pub(super) authorization: Option<String>,
}

impl Puller {
    pub(super) async fn new(proxy: &Proxy, kind: Kind) -> Self {
        Self { session: proxy.client().session(QUAY).await, kind, user: None, authorization: None }
    }

    pub(super) async fn ask(&mut self, method: &str, path: &str) -> Whole {
        let authorization = self.authorization.clone();
        let headers = authorization.as_deref().map(|value| ("authorization", value));
        self.session.ask(method, path, headers.as_slice()).await
    }

    /// Gets a token where a challenge says, which has to be our own realm.
    pub(super) async fn authenticate(&mut self, challenge: &str, repository: &str) {
        assert!(challenge.contains(LOCAL_REALM), "{challenge}");
        let path = format!("/v2/_pullthrough/token?service=quay.io&scope=repository:{repository}:pull");
        let basic = self.user.map(|user| basic_value(user, "secret"));
        let headers = basic.as_deref().map(|value| ("authorization", value));
        let answer = self.session.ask("GET", &path, headers.as_slice()).await;
        assert_eq!(answer.status, 200);
        self.authorization = Some(bearer_of(&answer));
    }

    /// As a client does it; the first answer that is no success ends it.
    pub(super) async fn pull(&mut self, repository: &str, reference: &str, image: &Image) -> Result<(), Whole> {
        if self.kind != Kind::Containerd {
            let ping = self.ask("GET", "/v2/").await;
            match ping.status.as_u16() {
                200 => {}
                401 => self.authenticate(ping.header("www-authenticate"), repository).await,
                _ => return Err(ping),
            }
        }
        let method = if self.kind == Kind::Podman { "GET" } else { "HEAD" };
        let path = format!("/v2/{repository}/manifests/{reference}");
        let mut first = self.ask(method, &path).await;
        if first.status == 401 && self.kind == Kind::Containerd {
            self.authenticate(first.header("www-authenticate"), repository).await;
            first = self.ask(method, &path).await;
        }
        if !first.status.is_success() {
            return Err(first);
        }
        assert_eq!(first.header("docker-content-digest"), image.digest.to_string());
        let manifest = format!("/v2/{repository}/manifests/{}", image.digest);
        let blobs = image.layers.iter().chain([&image.config]).map(|digest| format!("/v2/{repository}/blobs/{digest}"));
        for path in std::iter::once(manifest).chain(blobs) {
            let answer = self.ask("GET", &path).await;
            if !answer.status.is_success() {
                return Err(answer);
            }
            assert!(answer.body.is_ok(), "{path} broke off");
        }
        Ok(())
    }
}

pub(super) fn bearer_of(answer: &Whole) -> String {
    let json: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
    format!("Bearer {}", json["token"].as_str().unwrap())
}

pub(super) async fn all_pull(proxy: &Proxy, image: &Image, how: &str) {
    for kind in KINDS {
        for reference in ["1".to_owned(), image.digest.to_string()] {
            let pulled = Puller::new(proxy, kind).await.pull("a", &reference, image).await;
            assert!(pulled.is_ok(), "{how}, {kind:?}, {reference}: {pulled:?}");
        }
    }
}

/// quay.io with an image that was pulled once by nobody in particular.
async fn pulled_once() -> (Registry, Proxy, Image) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, TAGS).start().await;
    let image = registry.push_image("a", "1", &[layer(200_000, 1), layer(1000, 2)]);
    learn(&proxy, &image).await;
    (registry, proxy, image)
}

pub(super) async fn learn(proxy: &Proxy, image: &Image) {
    Puller::new(proxy, Kind::Containerd).await.pull("a", "1", image).await.unwrap();
    all_stored(proxy, image).await;
}

pub(super) async fn all_stored(proxy: &Proxy, image: &Image) {
    for digest in image.layers.iter().chain([&image.config, &image.digest]) {
        proxy.stored(digest).await;
    }
}

/// Asks until the answer is what the registry says now: the proxy notices by itself that it is back.
pub(super) async fn back(proxy: &Proxy, path: &str, is_theirs: impl Fn(&Whole) -> bool) -> Whole {
    let mut answer = proxy.client().get(QUAY, path).await;
    until("the registry is taken for back", async || {
        answer = proxy.client().get(QUAY, path).await;
        is_theirs(&answer)
    })
    .await;
    answer
}

pub(super) fn is_fresh(answer: &Whole) -> bool {
    answer.status.is_success() && answer.header("warning").is_empty()
}

fn is_probe(seen: &Seen) -> bool {
    let agent = seen.headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    agent.starts_with("pullthrough/") && seen.path == "/v2/" && !seen.headers.contains_key("via")
}

async fn pulls_while(how: &str, away: impl FnOnce(&mut Registry), again: impl FnOnce(&mut Registry)) {
    let (mut registry, proxy, image) = pulled_once().await;
    away(&mut registry);
    all_pull(&proxy, &image, how).await;
    let stale = proxy.client().get(QUAY, "/v2/a/manifests/1").await;
    assert_eq!(stale.header("cache-status"), "pullthrough; hit; detail=stale-if-error", "{how}");
    assert!(stale.header("warning").starts_with("299 ") && !stale.header("age").is_empty(), "{how}");
    again(&mut registry);
    let moved = registry.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let fresh = back(&proxy, "/v2/a/manifests/1", is_fresh).await;
    assert_eq!(fresh.header("docker-content-digest"), moved.to_string(), "{how}");
}

async fn pulls_under(act: Act) {
    let line = std::cell::Cell::new(None);
    let how = format!("{act:?}");
    let away = |registry: &mut Registry| line.set(Some(registry.script("*", act)));
    pulls_while(&how, away, |registry| registry.unscript(line.take().unwrap())).await;
}

#[tokio::test]
async fn what_is_cached_pulls_while_the_registry_refuses_connections() {
    pulls_while("refusing", Registry::stop, Registry::start_again).await;
}

#[tokio::test]
async fn what_is_cached_pulls_while_the_registry_accepts_and_says_nothing() {
    let again = |hanging: bool| {
        move |registry: &mut Registry| {
            registry.stop(); // connections that are open already would go on
            registry.hang(hanging);
            registry.start_again();
        }
    };
    pulls_while("hanging", again(true), again(false)).await;
    pulls_under(Act::Silence).await;
}

#[tokio::test]
async fn what_is_cached_pulls_while_the_registry_breaks_off_fails_or_throttles() {
    for act in [Act::Reset, Act::Status(500), Act::Status(503), Act::Status(429)] {
        pulls_under(act).await;
    }
}

#[tokio::test]
async fn what_is_cached_pulls_while_the_name_has_no_address() {
    let (registry, proxy, image) = pulled_once().await;
    let nameless =
        "'quay.io': {endpoints: [{url: 'https://registry.invalid', authoritative: true}], tags: {fresh_for: 0s}}";
    proxy.reload(Plan::new().raw_registry(nameless)).await;
    all_pull(&proxy, &image, "no name").await;
    proxy.reload(Plan::new().registry(&registry, TAGS)).await;
    let moved = registry.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let fresh = proxy.client().get(QUAY, "/v2/a/manifests/1").await;
    assert_eq!(fresh.header("docker-content-digest"), moved.to_string(), "a new configuration is tried at once");
}

#[tokio::test]
async fn a_registry_that_never_answers_costs_one_missed_deadline_in_all() {
    for first in KINDS {
        let (registry, proxy, image) = pulled_once().await;
        registry.script("*", Act::Silence);
        registry.forget();
        Puller::new(&proxy, first).await.pull("a", "1", &image).await.unwrap();
        all_pull(&proxy, &image, "silent").await;
        let missing = proxy.client().get(QUAY, "/v2/a/manifests/unknown").await;
        assert!(matches!(missing.status.as_u16(), 401 | 503), "{missing:?}");
        let asked: Vec<_> = registry.requests().into_iter().filter(|seen| !is_probe(seen)).collect();
        // By HEAD, and then by GET: some servers never answer HEAD. Each once more over a new connection, since the one that was
        // there may lead nowhere.
        let paths: std::collections::HashSet<_> = asked.iter().map(|seen| &seen.path).collect();
        assert!(paths.len() == 1 && asked.len() <= 4, "{first:?}: {asked:?}");
    }
}

#[tokio::test]
async fn who_waits_when_the_deadline_is_missed_asks_nothing_more() {
    let (registry, proxy, image) = pulled_once().await;
    registry.script("*", Act::Silence);
    registry.forget();
    let pulls = (0..20).map(|_| async {
        Puller::new(&proxy, Kind::Docker).await.pull("a", "1", &image).await.unwrap();
    });
    futures_util::future::join_all(pulls).await;
    let others = registry.requests().into_iter().filter(|seen| seen.path != "/v2/").count();
    assert_eq!(others, 0, "after the pings that nobody answered, nobody asked anything else");
}

#[tokio::test]
async fn after_a_restart_in_the_outage_every_client_pulls_by_tag_and_by_digest() {
    for remembered in [false, true] {
        let (mut registry, mut proxy, image) = pulled_once().await;
        if remembered {
            // On a busy machine a slow registry may be taken for one that is away, which is answered 401 until it is back.
            back(&proxy, "/v2/", |answer| answer.status == 200).await;
        }
        registry.stop();
        proxy.restart().await;
        let ping = proxy.client().get(QUAY, "/v2/").await;
        assert_eq!(ping.status, if remembered { 200 } else { 401 });
        if !remembered {
            let expected = format!("Bearer realm=\"{LOCAL_REALM}\",service=\"quay.io\"");
            assert_eq!(ping.header("www-authenticate"), expected);
        }
        all_pull(&proxy, &image, "after a restart").await;
    }
}

#[tokio::test]
async fn a_token_of_ours_outlives_a_restart_and_its_key_is_secret() {
    use std::os::unix::fs::PermissionsExt;
    let (mut registry, mut proxy, image) = pulled_once().await;
    registry.stop();
    let mut puller = Puller::new(&proxy, Kind::Podman).await;
    puller.pull("a", "1", &image).await.unwrap();
    let key = proxy.blob_file(&image.digest).ancestors().nth(3).unwrap().join("tokens.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    proxy.restart().await;
    puller.session = proxy.client().session(QUAY).await;
    assert_eq!(puller.ask("GET", "/v2/").await.status, 200);
    assert_eq!(puller.ask("GET", "/v2/a/manifests/1").await.status, 200);
    puller.authorization = puller.authorization.map(|value| format!("{value}x"));
    assert_eq!(puller.ask("GET", "/v2/").await.status, 401);
}
