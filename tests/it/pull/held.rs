//! Credentials that the proxy holds: what they serve, where they go, and what they are never used for.

use std::time::Duration;

use super::layer;
use crate::support::client::Whole;
use crate::support::{Act, Plan, Proxy, Registry, Setup, Tokens, basic_value, eventually, throughout};

const EXAMPLE: &str = "registry.example.com:443";

/// A registry with a token service on its own host, and a proxy that holds the password of `robot`.
async fn held(more: &str) -> (Registry, Proxy) {
    let tokens = Tokens::new().public("public/*").user("robot", "canary-r", &["team/*", "other/*"]).user(
        "alice",
        "secret-a",
        &["alice/*"],
    );
    let registry = Registry::start("registry.example.com");
    registry.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://registry.example.com/token");
    let auth = "auth: {username: robot, password: canary-r, repositories: ['team/*']}, tags: {fresh_for: 1h}";
    let proxy = Plan::new().registry(&registry, &format!("{auth}{more}")).start().await;
    (registry, proxy)
}

async fn ask(proxy: &Proxy, method: &str, path: &str, authorization: Option<&str>) -> Whole {
    let headers: Vec<(&str, &str)> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    proxy.client().session(EXAMPLE).await.ask(method, path, &headers).await
}

/// What a client does that was sent to a token service.
async fn token(proxy: &Proxy, repository: &str, authorization: Option<&str>) -> Result<String, u16> {
    let ping = ask(proxy, "GET", "/v2/", None).await;
    assert_eq!(ping.status, 401, "a client without credentials needs a token all the same");
    let challenge = ping.header("www-authenticate").to_owned();
    let realm = challenge.split("realm=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let path = realm.strip_prefix("https://registry.example.com").unwrap();
    let answer = ask(proxy, "GET", &format!("{path}?scope=repository:{repository}:pull"), authorization).await;
    if answer.status != 200 {
        return Err(answer.status.as_u16());
    }
    let json: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
    Ok(format!("Bearer {}", json["token"].as_str().unwrap()))
}

#[tokio::test]
async fn a_client_without_credentials_pulls_what_is_listed_and_what_is_public_and_nothing_else() {
    let (registry, proxy) = held("").await;
    for repository in ["team/app", "public/app", "other/app"] {
        registry.push_image(repository, "1", &[layer(50_000, 1)]);
    }
    let image = registry.push_image("team/app", "1", &[layer(50_000, 1)]);
    for (repository, expected) in [("team/app", 200), ("public/app", 200), ("other/app", 401)] {
        let local = token(&proxy, repository, None).await.unwrap();
        for caller in [None, Some(local.as_str())] {
            for (method, path) in [
                ("GET", format!("/v2/{repository}/manifests/1")),
                ("HEAD", format!("/v2/{repository}/manifests/{}", image.digest)),
                ("GET", format!("/v2/{repository}/blobs/{}", image.layers[0])),
                ("GET", format!("/v2/{repository}/tags/list")),
            ] {
                assert_eq!(ask(&proxy, method, &path, caller).await.status, expected, "{method} {path} {caller:?}");
            }
        }
    }
    let sent = registry.requests();
    assert!(sent.iter().all(|seen| {
        !seen.headers.get("authorization").is_some_and(|value| value.to_str().unwrap().contains("pullthrough-local"))
    }));
}

#[tokio::test]
async fn one_who_brings_credentials_is_verified_by_the_registry() {
    let (registry, proxy) = held("").await;
    let own = registry.push_blob("alice/app", layer(1000, 2));
    let path = format!("/v2/alice/app/blobs/{own}");
    let right = basic_value("alice", "secret-a");
    let alice = token(&proxy, "alice/app", Some(&right)).await.unwrap();
    assert_eq!(ask(&proxy, "GET", &path, Some(&alice)).await.status, 200);
    assert_eq!(token(&proxy, "alice/app", Some(&basic_value("alice", "wrong"))).await, Err(401));
    let nobody = token(&proxy, "alice/app", None).await.unwrap();
    assert_eq!(ask(&proxy, "GET", &path, Some(&nobody)).await.status, 401);
}

#[tokio::test]
async fn no_token_is_announced_to_live_longer_than_the_services_own() {
    let (registry, proxy) = held("").await;
    let right = basic_value("alice", "secret-a");
    for (said, most) in [(20, 20), (100, 100), (3600, 3600)] {
        let service = registry.script(
            "/token",
            Act::Answer {
                status: 200,
                headers: Vec::new(),
                body: format!("{{\"token\": \"their-{said}\", \"expires_in\": {said}}}"),
            },
        );
        let path = format!("/v2/_pullthrough/token?scope=repository:alice/app-{said}:pull");
        let answer = ask(&proxy, "GET", &path, Some(&right)).await;
        let json: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
        assert_eq!(json["token"], format!("their-{said}"));
        let life = json["expires_in"].as_u64().unwrap();
        assert!((most - 5..=most).contains(&life), "{said}: {life}");
        registry.unscript(service);
    }
}

#[tokio::test]
async fn a_registry_that_takes_passwords_alone_verifies_them_too() {
    let registry = Registry::start("registry.example.com");
    registry.require_basic("robot", "canary-r");
    let auth = "auth: {username: robot, password: canary-r, repositories: ['team/*']}";
    let proxy = Plan::new().registry(&registry, auth).start().await;
    let (listed, other) = (registry.push_blob("team/app", layer(1000, 3)), registry.push_blob("x", layer(1000, 4)));
    let nobody = token(&proxy, "team/app", None).await.unwrap();
    assert_eq!(ask(&proxy, "GET", &format!("/v2/team/app/blobs/{listed}"), Some(&nobody)).await.status, 200);
    assert_eq!(ask(&proxy, "GET", &format!("/v2/x/blobs/{other}"), Some(&nobody)).await.status, 401);
    // One who has the password reads everything with it.
    let own = token(&proxy, "x", Some(&basic_value("robot", "canary-r"))).await.unwrap();
    assert_eq!(ask(&proxy, "GET", &format!("/v2/x/blobs/{other}"), Some(&own)).await.status, 200);
    assert_eq!(token(&proxy, "x", Some(&basic_value("robot", "wrong"))).await, Err(401));
}

#[tokio::test]
async fn a_page_verifies_no_password() {
    let registry = Registry::start("registry.example.com");
    let auth = "auth: {username: robot, password: canary-r, repositories: ['team/*']}";
    let proxy = Plan::new().registry(&registry, auth).start().await;
    let page = |media_type: &str, body: &str| Act::Answer {
        status: 200,
        headers: vec![("content-type".into(), media_type.into())],
        body: body.into(),
    };
    for page in [page("text/html", "<html>log in</html>"), page("application/json", r#"{"status":"maintenance"}"#)] {
        let line = registry.script("*", page.clone());
        assert_eq!(token(&proxy, "x", Some(&basic_value("robot", "wrong"))).await, Err(401), "{page:?}");
        registry.unscript(line);
    }
    registry.require_basic("robot", "right");
    assert_eq!(token(&proxy, "x", Some(&basic_value("robot", "wrong"))).await, Err(401));
    assert!(token(&proxy, "x", Some(&basic_value("robot", "right"))).await.is_ok());
}

#[tokio::test]
async fn held_credentials_push_nothing_and_list_no_catalog() {
    let (registry, proxy) = held(", push: allow").await;
    registry.push_image("team/app", "1", &[layer(1000, 5)]);
    for (method, path) in [
        ("POST", "/v2/team/app/blobs/uploads/"),
        ("PUT", "/v2/team/app/manifests/2"),
        ("DELETE", "/v2/team/app/manifests/1"),
        ("GET", "/v2/_catalog"),
    ] {
        assert_eq!(ask(&proxy, method, path, None).await.status, 401, "{method} {path}");
    }
    assert!(registry.requests().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn held_credentials_go_to_their_registry_and_its_realm_and_nowhere_else() {
    let tokens = Tokens::new().user("robot", "canary-r", &["team/*"]);
    let registry = Registry::start("registry.example.com");
    let (mirror, cdn) = (registry.sibling(Setup::named("mirror.internal")), registry.sibling(Setup::named("cdn.test")));
    let evil = Registry::start("evil.example.com");
    evil.serve_tokens(&tokens);
    let challenge = registry.require_token(&tokens, "https://evil.example.com/token");
    registry.serve_tokens(&tokens);
    registry.redirect_blobs("https://cdn.test");
    mirror.script("*", Act::Status(503));
    let endpoint = |server: &Registry| {
        let (name, address, ca_file) = (server.name(), server.address(), server.ca_file());
        format!("{{url: 'https://{name}', address: '{address}', ca_file: '{}'}}", ca_file.display())
    };
    let both = format!(
        "'registry.example.com': {{endpoints: [{}, {}], auth: {{username: robot, password: canary-r, repositories: ['team/*']}}}}",
        endpoint(&mirror),
        endpoint(&registry)
    );
    let plan = Plan::new().raw_registry(&both).host("evil.example.com", &evil).host("cdn.test", &cdn);
    let proxy = plan.start().await;
    let blob = registry.push_blob("team/app", layer(1000, 6));
    let path = format!("/v2/team/app/blobs/{blob}");
    let refused = ask(&proxy, "GET", &path, None).await;
    assert_eq!(refused.status, 502, "a realm elsewhere that nobody listed");
    assert!(String::from_utf8_lossy(refused.bytes()).contains("list it in realms"));
    assert_eq!(evil.requests().len(), 0);
    registry.require_token(&tokens, "https://registry.example.com/token");
    registry.unscript(challenge);
    assert_eq!(ask(&proxy, "GET", &path, None).await.status, 200);
    assert!(mirror.count("*") + cdn.count("*") > 0);
    for server in [&mirror, &cdn, &evil] {
        assert!(server.requests().iter().all(|seen| !seen.headers.contains_key("authorization")), "{}", server.name());
    }
}

#[tokio::test]
async fn a_mirrors_own_credentials_serve_by_digest_who_the_registry_lets_in() {
    let registry = Registry::start("registry.example.com");
    registry.require_basic("alice", "secret-a");
    let mirror = registry.sibling(Setup::named("mirror.internal"));
    mirror.require_basic("robot", "canary-r");
    let endpoint = |server: &Registry, more: &str| {
        let (name, address, ca_file) = (server.name(), server.address(), server.ca_file());
        format!("{{url: 'https://{name}', address: '{address}', ca_file: '{}'{more}}}", ca_file.display())
    };
    let both = format!(
        "'registry.example.com': {{endpoints: [{}, {}]}}",
        endpoint(&mirror, ", auth: {username: robot, password: canary-r}"),
        endpoint(&registry, "")
    );
    let proxy = Plan::new().raw_registry(&both).start().await;
    let blob = registry.push_blob("team/app", layer(1000, 7));
    let path = format!("/v2/team/app/blobs/{blob}");
    assert_eq!(ask(&proxy, "GET", &path, None).await.status, 401);
    assert_eq!(mirror.requests().len(), 0);
    let alice = basic_value("alice", "secret-a");
    assert_eq!(ask(&proxy, "GET", &path, Some(&alice)).await.status, 200);
    let robot = basic_value("robot", "canary-r");
    let of = |server: &Registry, header: &str| {
        server.requests().iter().filter(|seen| seen.headers.get("authorization").is_some_and(|v| v == header)).count()
    };
    assert_eq!((of(&mirror, &alice), of(&registry, &robot)), (0, 0));
    let is_got = |seen: &crate::support::Seen| seen.method == "GET" && seen.status == Some(200);
    assert!(of(&mirror, &robot) > 0 && !registry.requests().iter().any(is_got), "the bytes came from the mirror");
}

#[tokio::test]
async fn with_nobodys_credentials_only_what_is_public_is_served_and_no_header_goes_upstream() {
    let tokens = Tokens::new().public("public/*").user("alice", "secret-a", &["team/*"]);
    let registry = Registry::start("registry.example.com");
    registry.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://registry.example.com/token");
    let proxy = Plan::new().registry(&registry, "auth: anonymous").start().await;
    for repository in ["public/app", "team/app"] {
        registry.push_image(repository, "1", &[layer(1000, 8)]);
    }
    assert_eq!(ask(&proxy, "GET", "/v2/", None).await.status, 200, "nobody needs credentials");
    let alice = basic_value("alice", "secret-a");
    for caller in [None, Some(alice.as_str())] {
        assert_eq!(ask(&proxy, "GET", "/v2/public/app/manifests/1", caller).await.status, 200);
        assert_eq!(ask(&proxy, "GET", "/v2/public/app/tags/list", caller).await.status, 200);
        assert_eq!(ask(&proxy, "GET", "/v2/team/app/manifests/1", caller).await.status, 401);
        assert_eq!(ask(&proxy, "GET", "/v2/_catalog", caller).await.status, 401);
    }
    let is_alices = |value: &http::HeaderValue| *value == alice;
    assert!(registry.requests().iter().all(|seen| !seen.headers.get("authorization").is_some_and(is_alices)));
}

#[tokio::test]
async fn a_throttled_credential_makes_room_for_the_next_and_a_short_wait_is_waited_out() {
    let registry = Registry::start("registry.example.com");
    let digest = registry.push_blob("team/app", layer(1000, 9));
    let other = registry.push_blob("team/app", layer(1000, 10));
    let challenge = registry.require_basic("one", "canary-1");
    let auth = "auth: [{username: one, password: canary-1, repositories: ['team/*']}, \
                {username: two, password: canary-2, repositories: ['team/*']}]";
    let proxy = Plan::new().registry(&registry, auth).start().await;
    let path = format!("/v2/team/app/blobs/{digest}");
    let head = ask(&proxy, "HEAD", &path, None).await;
    assert_eq!(head.status, 200);
    let nobodys = || registry.requests().iter().any(|seen| seen.method == "GET" && seen.status == Some(401));
    eventually("whether it is public was asked", nobodys).await;
    registry.script_times(1, "GET */blobs/*", Act::Header("retry-after".into(), "60".into()));
    registry.script_times(1, "GET */blobs/*", Act::Status(429));
    registry.unscript(challenge);
    registry.forget();
    assert_eq!(ask(&proxy, "GET", &path, None).await.status, 200);
    let gets = registry.requests().into_iter().filter(|seen| seen.method == "GET");
    let by: Vec<_> = gets.map(|seen| seen.headers["authorization"].clone()).collect();
    assert_eq!(by, [basic_value("one", "canary-1"), basic_value("two", "canary-2")]);
    // The other one is throttled as well, for no time at all.
    registry.script_times(1, "GET */blobs/*", Act::Header("retry-after".into(), "0".into()));
    registry.script_times(1, "GET */blobs/*", Act::Status(429));
    assert_eq!(ask(&proxy, "GET", &format!("/v2/team/app/blobs/{other}"), None).await.status, 200);
}

#[tokio::test]
async fn a_throttle_is_waited_out_where_that_is_short_and_else_passed_on() {
    let registry = Registry::start("registry.example.com");
    registry.push_image("a", "1", &[layer(1000, 11)]);
    let proxy = Plan::new().registry(&registry, "").start().await;
    registry.script_times(1, "*/manifests/*", Act::Header("retry-after".into(), "0".into()));
    registry.script_times(1, "*/manifests/*", Act::Status(429));
    assert_eq!(ask(&proxy, "GET", "/v2/a/manifests/1", None).await.status, 200);
    registry.push_image("b", "1", &[layer(1000, 12)]);
    registry.script("*/manifests/*", Act::Header("retry-after".into(), "16".into()));
    registry.script("*/manifests/*", Act::Status(429));
    let passed = ask(&proxy, "GET", "/v2/b/manifests/1", None).await;
    assert_eq!((passed.status.as_u16(), passed.header("retry-after")), (429, "16"));
}

#[tokio::test]
async fn little_left_of_a_pull_limit_is_exported_and_stops_what_nobody_asked_for() {
    let registry = Registry::start("registry.example.com");
    let layers: Vec<_> = (0..4).map(|seed| layer(10_000, 20 + seed)).collect();
    let image = registry.push_image("a", "1", &layers);
    registry.script("*/manifests/*", Act::Header("ratelimit-limit".into(), "100;w=21600".into()));
    registry.script("*/manifests/*", Act::Header("ratelimit-remaining".into(), "9;w=21600".into()));
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 1s}").start().await;
    assert_eq!(ask(&proxy, "GET", "/v2/a/manifests/1", None).await.status, 200);
    let name = "pullthrough_upstream_ratelimit_remaining{registry=\"registry.example.com\"}";
    assert_eq!(proxy.metric(name).await, 9.0);
    throughout(Duration::from_millis(1500), async || {
        assert_eq!(ask(&proxy, "GET", "/v2/a/manifests/1", None).await.status, 200);
    })
    .await;
    assert_eq!(registry.count("*/manifests/1"), 1, "the tag is believed for longer");
    for (number, digest) in image.layers.iter().enumerate() {
        assert_eq!(ask(&proxy, "GET", &format!("/v2/a/blobs/{digest}"), None).await.status, 200);
        proxy.stored(digest).await;
        assert_eq!(registry.count("*/blobs/*"), number + 1, "one by one, as they are asked for");
    }
}

#[tokio::test]
async fn a_listed_image_is_proven_once_and_served_from_the_cache() {
    let (registry, proxy) = held("").await;
    let image = registry.push_image("team/app", "1", &[layer(50_000, 13)]);
    let paths = [
        "/v2/team/app/manifests/1".to_owned(),
        format!("/v2/team/app/manifests/{}", image.digest),
        format!("/v2/team/app/blobs/{}", image.config),
        format!("/v2/team/app/blobs/{}", image.layers[0]),
    ];
    for path in &paths {
        assert_eq!(ask(&proxy, "GET", path, None).await.status, 200);
    }
    proxy.stored(&image.config).await;
    proxy.stored(&image.layers[0]).await;
    // Whether it is public is asked once, behind: without a token, and with nobody's.
    eventually("it was asked", || registry.count("HEAD *") == 2).await;
    let asked = registry.requests().len();
    for _ in 0..5 {
        for path in &paths {
            assert_eq!(ask(&proxy, "GET", path, None).await.status, 200);
        }
    }
    assert_eq!(registry.requests().len(), asked);
}
