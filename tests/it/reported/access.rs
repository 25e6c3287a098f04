//! Access lines: who asked by what program, how the upstream answered, and why each error is one.

use crate::pull::QUAY;
use crate::support::client::Whole;
use crate::support::{Act, Log, Plan, Registry, Tokens, eventually};

async fn line(lines: &Log, words: &[&str]) -> String {
    let words: Vec<&str> = words.iter().copied().chain(["access"]).collect();
    eventually("the access line is written", || !lines.with(&words).is_empty()).await;
    lines.with(&words).pop().unwrap()
}

#[tokio::test]
async fn a_line_says_by_what_program_through_which_door_and_how_the_upstream_answered() {
    let lines = Log::begin();
    let registry = Registry::start("quay.io");
    let blob = registry.push_blob("a", vec![7; 1000]);
    let proxy = Plan::new().registry(&registry, "").start().await;
    let path = format!("/v2/a/blobs/{blob}");
    let agent = [("user-agent", "docker/27.5.1 go/go1.22 (linux)")];
    let mut session = proxy.client().session(QUAY).await;
    let answer: Whole = session.ask("GET", &path, &agent).await;
    assert_eq!(answer.status, 200);
    let miss = line(&lines, &["kind=\"blob\"", "outcome=\"miss\""]).await;
    for field in [
        "agent=\"docker/27.5.1\"",
        "door=\"proxy\"",
        "upstream_host=\"quay.io\"",
        "upstream_status=200",
        "upstream_ms=",
    ] {
        assert!(miss.contains(field), "{field}: {miss}");
    }
    proxy.stored(&blob).await;
    assert_eq!(session.ask("GET", &path, &agent).await.status, 200);
    let hit = line(&lines, &["kind=\"blob\"", "outcome=\"hit\""]).await;
    assert!(!hit.contains("upstream_") && hit.contains("request_id="), "{hit}");
}

#[tokio::test]
async fn each_error_has_a_reason_and_a_registrys_own_has_the_registrys_status() {
    let lines = Log::begin();
    let registry = Registry::start("quay.io");
    let blob = registry.push_blob("a", vec![7; 1000]);
    registry.script("*/forbidden/*", Act::Status(403));
    registry.script("*/broken/*", Act::Reset);
    let proxy = Plan::new().registry(&registry, "").start().await;
    let mut session = proxy.client().session(QUAY).await;
    assert_eq!(session.get(&format!("/v2/a/blobs/{blob}")).await.status, 200);
    proxy.stored(&blob).await;
    let beyond = session.ask("GET", &format!("/v2/a/blobs/{blob}"), &[("range", "bytes=5000-")]).await;
    assert_eq!(beyond.status, 416);
    let table = [
        ("GET", "/v2/a/manifests/none", 404, "upstream_status=404"),
        ("GET", "/v2/forbidden/manifests/1", 403, "upstream_status=403"),
        ("GET", "/v2/broken/manifests/1", 502, "upstream_host=\"quay.io\""),
        ("DELETE", "/v2/a/manifests/1", 405, "detail="),
        ("GET", "/v2/a//manifests/1", 400, "detail="),
    ];
    for (method, path, status, field) in table {
        let answer = session.ask(method, path, &[]).await;
        assert_eq!(answer.status, status, "{path}");
        let line =
            line(&lines, &[&format!("status={status}"), "registry=\"quay.io\"", &format!("method=\"{method}\"")]).await;
        assert!(line.contains("detail=") && line.contains(field), "{path}: {line}");
        let is_refused = matches!(status, 400 | 405); // by the proxy, before the cache or the registry was asked
        assert_eq!(line.contains("outcome=\"refuse\""), is_refused, "{path}: {line}");
    }
    let line416 = line(&lines, &["status=416"]).await;
    assert!(line416.contains("detail=\"the range is outside the content\""), "{line416}");
    // The proxy's own pages, a host that is not allowed, and another host than CONNECT named.
    let own = proxy.client().plain_session(&proxy.address().to_string()).await.get("/nothing").await;
    assert_eq!(own.status, 404);
    assert!(line(&lines, &["kind=\"own\"", "status=404"]).await.contains("detail="));
    let refused = proxy.client().tunnel("169.254.169.254:443").await.unwrap_err();
    assert_eq!(refused.status, 403);
    assert!(line(&lines, &["kind=\"connect\"", "status=403"]).await.contains("detail="));
    let other = proxy.client().session(QUAY).await.naming("other.test").get("/v2/").await;
    assert_eq!(other.status, 421);
    assert!(line(&lines, &["status=421"]).await.contains("detail="));
    let without: Vec<String> =
        lines.with(&["access"]).into_iter().filter(|line| is_error(line) && !line.contains("detail=")).collect();
    assert!(without.is_empty(), "{without:?}");
}

fn is_error(line: &str) -> bool {
    let status = line.split_once(" status=").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u16>().ok());
    status.is_some_and(|status| status >= 400)
}

#[tokio::test]
async fn a_token_that_could_not_be_had_is_put_down_to_the_host_that_was_asked() {
    let lines = Log::begin();
    let (registry, auth) = (Registry::start("quay.io"), Registry::start("auth.example.com"));
    registry.require_token(&Tokens::new(), "https://auth.example.com/token");
    registry.push_blob("a", vec![7; 1000]);
    let held = "auth: {username: u, password: wrong, repositories: [a]}, realms: [https://auth.example.com/token]";
    let proxy = Plan::new().registry(&registry, held).host("auth.example.com", &auth).start().await;
    let mut session = proxy.client().session(QUAY).await;
    for (act, field) in [(Act::Status(503), "upstream_status=503"), (Act::Status(401), "upstream_status=401")] {
        let script = auth.script("*", act);
        let before = lines.with(&["access", "kind=\"manifest\""]).len();
        let token = session.get("/v2/a/manifests/1").await;
        assert!(token.status.is_client_error() || token.status.is_server_error(), "{}", token.status);
        eventually("the line", || lines.with(&["access", "kind=\"manifest\""]).len() > before).await;
        let line = lines.with(&["access", "kind=\"manifest\""]).pop().unwrap();
        assert!(line.contains("upstream_host=\"auth.example.com\"") && line.contains(field), "{line}");
        auth.unscript(script);
    }
    let count = |status: &str| {
        format!("pullthrough_upstream_requests_total{{registry=\"quay.io\",kind=\"token\",status=\"{status}\"}}")
    };
    assert!(proxy.metric(&count("401")).await >= 1.0);
}
