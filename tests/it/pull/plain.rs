//! Plain HTTP, where the configuration names it: no credential goes there, no challenge is heard from there, nothing
//! is opened elsewhere by its word; content is verified as always.

use pullthrough::wire::Body;

use super::layer;
use crate::support::client::whole;
use crate::support::{Act, Plan, Proxy, Registry, Served, Setup, Tokens, basic_value, eventually, program};

const PLAIN: &str = "plain.test:443";
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "private-token", "x-registry-auth"];

/// The entry of a registry that is asked over plain HTTP.
fn entry(registry: &Registry, more: &str) -> String {
    let endpoint = format!("{{url: '{}', address: '{}', authoritative: true}}", registry.url(), registry.address());
    format!("'{}': {{endpoints: [{endpoint}]{more}}}", registry.name())
}

/// A registry over plain HTTP that wants tokens of a service over TLS.
async fn lab() -> (Registry, Registry, Proxy) {
    let tokens = Tokens::new().public("public/*").user("alice", "secret-a", &["team/*"]);
    let (registry, auth) = (Registry::plain("plain.test"), Registry::start("auth.test"));
    auth.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://auth.test/token");
    let more = ", push: allow, token_hosts: [auth.test], tags: {fresh_for: 0s}";
    let proxy = Plan::new().raw_registry(&entry(&registry, more)).host("auth.test", &auth).start().await;
    (registry, auth, proxy)
}

#[tokio::test]
async fn no_credential_goes_over_plain_http_and_no_challenge_comes_from_there() {
    let (registry, auth, proxy) = lab().await;
    let image = registry.push_image("team/app", "1", &[layer(1000, 1)]);
    let basic = basic_value("alice", "secret-a");
    let secrets =
        [("authorization", basic.as_str()), ("cookie", "a=b"), ("private-token", "t"), ("x-registry-auth", "t")];
    let blob = format!("/v2/team/app/blobs/{}", image.layers[0]);
    let digest = format!("/v2/team/app/manifests/{}", image.digest);
    let questions = [
        ("GET", "/v2/", 401),
        ("GET", "/v2/team/app/manifests/1", 401),
        ("HEAD", "/v2/team/app/manifests/1", 401),
        ("GET", digest.as_str(), 401),
        ("GET", blob.as_str(), 401),
        ("HEAD", blob.as_str(), 401),
        ("GET", "/v2/team/app/tags/list", 401),
        ("POST", "/v2/team/app/blobs/uploads/", 401),
        ("DELETE", digest.as_str(), 401),
        ("GET", "/v2/token?service=x&scope=repository:team/app:pull", 403),
        ("POST", "/v2/auth", 403),
    ];
    for h2 in [false, true] {
        let client = if h2 { proxy.client().h2() } else { proxy.client() };
        for (method, path, expected) in questions {
            let body = if path == "/v2/auth" {
                Body::full("grant_type=password&username=a&password=b")
            } else {
                Body::empty()
            };
            let answer = client.session(PLAIN).await.send(method, path, &secrets, body).await.unwrap();
            let answer = whole(answer).await;
            assert_eq!(answer.status.as_u16(), expected, "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), "", "{method} {path}: anybody on the way may have said that");
        }
    }
    assert!(registry.count("*") >= 9);
    for seen in registry.requests() {
        for name in SECRET_HEADERS {
            assert!(!seen.headers.contains_key(name), "{name} at {} {}", seen.method, seen.path);
        }
        assert!(!["/v2/token", "/v2/auth"].contains(&seen.path.as_str()), "no request for a token goes there");
    }
    assert_eq!(auth.count("*"), 0, "and none to where it says");
}

#[tokio::test]
async fn nobodys_tokens_are_withheld_too_and_what_wants_none_is_pulled_and_verified() {
    for auth in ["", ", auth: anonymous"] {
        let registry = Registry::plain("plain.test");
        let proxy = Plan::new().raw_registry(&entry(&registry, auth)).start().await;
        let image = registry.push_image("public/app", "1", &[layer(200_000, 2)]);
        let path = format!("/v2/public/app/blobs/{}", image.layers[0]);
        assert_eq!(proxy.client().get(PLAIN, "/v2/public/app/manifests/1").await.bytes(), &image.manifest);
        let wrong = registry.script_times(1, "GET */blobs/*", Act::WrongByte(100));
        assert!(proxy.client().get(PLAIN, &path).await.body.is_err(), "a changed byte is found");
        registry.unscript(wrong);
        assert_eq!(proxy.client().get(PLAIN, &path).await.bytes().len(), 200_000);
        assert!(registry.requests().iter().all(|seen| !seen.headers.contains_key("authorization")));
    }
}

#[tokio::test]
async fn held_credentials_for_plain_http_are_a_mistake_of_the_configuration() {
    let registry = Registry::plain("plain.test");
    let plan = Plan::new().raw_registry(&entry(&registry, ", auth: {username: u, password: p}"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pullthrough.yaml"), plan.yaml(folder.path())).unwrap();
    let checked = program(folder.path()).args(["check", "--config", "pullthrough.yaml"]).output().unwrap();
    assert!(!checked.status.success());
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(told.contains("registries.plain.test.auth") && told.contains("in clear text"), "{told}");
}

#[tokio::test]
async fn what_came_over_plain_http_is_not_shared_with_other_registries() {
    for is_plain in [true, false] {
        let inside = Registry::with(Setup {
            certificate: (!is_plain).then_some(crate::support::lab::Certificate::Good),
            ..Setup::named("inside.test")
        });
        let other = inside.sibling(Setup::named("other.test"));
        let plan =
            if is_plain { Plan::new().raw_registry(&entry(&inside, "")) } else { Plan::new().registry(&inside, "") };
        let proxy = plan.registry(&other, "").start().await;
        let digest = inside.push_blob("a", layer(100_000, 3));
        let path = format!("/v2/a/blobs/{digest}");
        assert_eq!(proxy.client().get("inside.test:443", &path).await.status, 200);
        proxy.stored(&digest).await;
        eventually("no fill is left", || proxy.files() == (1, 0)).await;
        assert_eq!(proxy.client().get("other.test:443", &path).await.bytes().len(), 100_000);
        assert_eq!(other.count("GET */blobs/*"), usize::from(is_plain), "plain: {is_plain}");
        assert_eq!(proxy.client().get("inside.test:443", &path).await.header("cache-status"), "pullthrough; hit");
    }
}

#[tokio::test]
async fn plain_http_leads_to_no_other_plain_http_that_the_configuration_does_not_name() {
    for is_named in [false, true] {
        let registry = Registry::plain("plain.test");
        let store = registry.sibling(Setup { certificate: None, ..Setup::named("store.test") });
        registry.redirect_blobs(&store.url());
        let mut plan = Plan::new().raw_registry(&entry(&registry, ""));
        if is_named {
            plan = plan.raw_registry(&entry(&store, ""));
        }
        let reach = format!("hosts: {{'store.test:{}': {{address: '{}'}}}}", store.address().port(), store.address());
        let proxy = plan.upstream(&reach).start().await;
        let digest = registry.push_blob("a", layer(1000, 4));
        let answer = proxy.client().get(PLAIN, &format!("/v2/a/blobs/{digest}")).await;
        assert_eq!(answer.status.as_u16(), if is_named { 200 } else { 502 });
        assert_eq!(store.count("*"), usize::from(is_named));
    }
}

#[tokio::test]
async fn plain_http_is_told_by_check_and_in_the_log() {
    let registry = Registry::plain("plain.test");
    let parents = "proxy: [{url: 'http://parent.test:3128', auth: {username: u, password: canary}}, direct]";
    let plan = Plan::new().raw_registry(&entry(&registry, "")).upstream(parents);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pullthrough.yaml"), plan.yaml(folder.path())).unwrap();
    let checked = program(folder.path()).args(["check", "--config", "pullthrough.yaml"]).output().unwrap();
    assert!(checked.status.success());
    let told = String::from_utf8(checked.stdout).unwrap();
    let notes = [
        ("pullthrough.yaml:1: registries.plain.test.endpoints[0].url: ", "plain HTTP: "),
        ("upstream.proxy[0]: ", "in clear text"),
    ];
    for (place, words) in notes {
        let line = told.lines().find(|line| line.starts_with("note: ") && line.contains(place));
        assert!(line.is_some_and(|line| line.contains(words)), "{place}: {told}");
    }
    assert!(!told.contains("canary"));
    drop(Served::start(folder.path(), "info"));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains("plain HTTP")), "{log}");
}
