//! Users, rules and the audit log, as a client meets them.

use super::{QUAY, get, layer};
use crate::support::client::Client;
use crate::support::{Act, MANIFEST, Plan, Proxy, Registry, basic_value, eventually};

/// bcrypt of `secret`, at the least cost.
fn htpasswd(folder: &std::path::Path) -> String {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let file = folder.join("htpasswd");
    std::fs::write(&file, format!("ci:{hash}\nguest:{hash}\n")).unwrap();
    file.display().to_string()
}

async fn guarded(rules: &str) -> (Registry, Proxy, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start("quay.io");
    registry.push_image("team/app", "1", &[layer(1000, 1)]);
    registry.push_image("other/app", "1", &[layer(1000, 2)]);
    let (file, audit) = (htpasswd(folder.path()), folder.path().join("audit.log").display().to_string());
    let clients = format!("htpasswd: '{file}', audit: '{audit}', rules: {rules}");
    let proxy = Plan::new().registry(&registry, "").clients(&clients).start().await;
    (registry, proxy, folder)
}

#[tokio::test]
async fn with_an_htpasswd_file_nobody_uses_the_proxy_without_a_password() {
    let (registry, proxy, _folder) = guarded("[]").await;
    let wrong = basic_value("ci", "wrong");
    for client in [proxy.client(), proxy.client().connect_header("Proxy-Authorization", &wrong)] {
        for host in [QUAY, "example.com:443"] {
            let refusal = client.tunnel(host).await.expect_err("no password, no tunnel");
            assert_eq!(refusal.status, 407, "{host}");
            assert!(
                refusal.text.to_ascii_lowercase().contains("proxy-authenticate: basic realm=\"pullthrough\""),
                "{}",
                refusal.text
            );
        }
    }
    // Plain http by absolute form, and the proxy's own TLS, are doors too.
    let mut plain = proxy.client().plain_session("quay.io:80").await;
    let mut tls = Client::direct(proxy.address()).trusting(&proxy.ca_file()).session("localhost:443").await;
    for door in [&mut plain, &mut tls] {
        let refused = get(door, "http://quay.io/v2/team/app/manifests/1", &[]).await;
        assert_eq!(refused.status, 407);
        assert!(refused.header("proxy-authenticate").starts_with("Basic "));
    }
    assert_eq!(registry.requests().len(), 0);
    let right = basic_value("ci", "secret");
    let client = proxy.client().connect_header("Proxy-Authorization", &right);
    assert_eq!(client.get(QUAY, "/v2/team/app/manifests/1").await.status, 200);
    assert!(registry.requests().iter().all(|seen| !seen.headers.contains_key("proxy-authorization")));
    let mut pages = proxy.client().plain_session(&proxy.address().to_string()).await;
    assert_eq!(pages.get("/ca.crt").await.status, 200, "the CA comes before any password");
}

#[tokio::test]
async fn a_rule_refuses_by_user_and_repository_and_is_named() {
    let rules = "[{name: only-team, effect: deny, users: [guest], repositories: ['other/*']}]";
    let (registry, proxy, _folder) = guarded(rules).await;
    let client = |user: &str| proxy.client().connect_header("Proxy-Authorization", &basic_value(user, "secret"));
    let path = "/v2/other/app/manifests/1";
    assert_eq!(client("ci").get(QUAY, path).await.status, 200);
    let asked = registry.requests().len();
    for method in ["GET", "HEAD"] {
        let refused = client("guest").session(QUAY).await.ask(method, path, &[]).await;
        assert_eq!(refused.status, 403);
        if method == "GET" {
            let text = String::from_utf8_lossy(refused.bytes()).into_owned();
            assert!(text.contains("DENIED") && text.contains("only-team"), "{text}");
        }
    }
    assert_eq!(registry.requests().len(), asked, "not even what is cached, and nothing is asked");
    assert_eq!(client("guest").get(QUAY, "/v2/team/app/manifests/1").await.status, 200);
    assert_eq!(client("guest").get(QUAY, "/v2/").await.status, 200);
}

#[tokio::test]
async fn an_ipv4_address_within_ipv6_is_the_same_client_to_every_list() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.log");
    let registry = Registry::start("quay.io");
    registry.push_image("team/app", "1", &[layer(1000, 1)]);
    let rule = "{name: local-only, effect: allow, networks: [127.0.0.0/8], repositories: ['team/*']}";
    let clients = format!("allow: [127.0.0.0/8], audit: '{}', rules: [{rule}]", audit.display());
    let plan = Plan::new().registry(&registry, "").clients(&clients).listening("[::ffff:127.0.0.1]:0");
    let proxy = plan.start().await;
    assert!(proxy.address().is_ipv6(), "its clients are ::ffff:127.0.0.1");
    assert_eq!(proxy.client().get(QUAY, "/v2/team/app/manifests/1").await.status, 200);
    let read = || std::fs::read_to_string(&audit).unwrap_or_default();
    eventually("a line is written", || read().lines().count() == 1).await;
    let line: serde_json::Value = serde_json::from_str(&read()).unwrap();
    assert_eq!((&line["client"], &line["rule"]), (&"127.0.0.1".into(), &"local-only".into()));
}

#[tokio::test]
async fn a_deny_wins_over_every_allow_and_refuses_pushes_where_pulls_are_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start("quay.io");
    registry.push_image("team/app", "1", &[layer(1000, 1)]);
    registry.push_image("team/secret", "1", &[layer(1000, 2)]);
    let file = htpasswd(folder.path());
    let rules = "[{name: all, effect: allow, users: ['*']}, {name: no-secret, effect: deny, repositories: ['*secret*']}, \
                 {name: no-push, effect: deny, users: [guest], actions: [push]}]";
    let clients = format!("htpasswd: '{file}', rules: {rules}");
    let proxy = Plan::new().registry(&registry, "push: allow").clients(&clients).start().await;
    for (user, method, path, refused_by) in [
        ("ci", "GET", "/v2/team/app/manifests/1", None),
        ("ci", "GET", "/v2/team/secret/manifests/1", Some("no-secret")),
        ("ci", "POST", "/v2/team/app/blobs/uploads/", None),
        ("ci", "POST", "/v2/team/app/blobs/uploads/?from=team/secret&mount=sha256:0", Some("no-secret")),
        ("guest", "GET", "/v2/team/app/manifests/1", None),
        ("guest", "POST", "/v2/team/app/blobs/uploads/", Some("no-push")),
        ("guest", "DELETE", "/v2/team/app/manifests/1", Some("no-push")),
    ] {
        let asked = registry.requests().len();
        let client = proxy.client().connect_header("Proxy-Authorization", &basic_value(user, "secret"));
        let answer = client.session(QUAY).await.ask(method, path, &[]).await;
        let Some(rule) = refused_by else {
            assert!(answer.status.is_success(), "{user} {method} {path}: {answer:?}");
            continue;
        };
        let json: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
        assert_eq!((answer.status.as_u16(), &json["errors"][0]["code"]), (403, &"DENIED".into()));
        assert!(json["errors"][0]["message"].as_str().unwrap().contains(rule), "{user} {method} {path}: {json}");
        assert_eq!(registry.requests().len(), asked, "nothing is asked");
    }
}

#[tokio::test]
async fn each_manifest_pulled_or_refused_is_one_line_of_the_audit_log() {
    let rules = "[{name: no-other, effect: deny, repositories: ['other/*']}]";
    let (registry, proxy, folder) = guarded(rules).await;
    let client = proxy.client().connect_header("Proxy-Authorization", &basic_value("ci", "secret"));
    let mut session = client.session(QUAY).await;
    registry.push_image("private/app", "1", &[layer(1000, 3)]);
    registry.script("/v2/private/*", Act::Status(401));
    for path in [
        "/v2/team/app/manifests/1",
        "/v2/other/app/manifests/1",
        "/v2/team/app/manifests/none",
        "/v2/private/app/manifests/1",
        "/v2/team/app/tags/list",
    ] {
        get(&mut session, path, &[("accept", MANIFEST)]).await;
    }
    let read = || std::fs::read_to_string(folder.path().join("audit.log")).unwrap_or_default();
    eventually("four lines are written", || read().lines().count() == 4).await;
    let lines: Vec<serde_json::Value> = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<&str> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["pulled", "refused", "missing", "denied"]);
    assert!(
        lines.iter().all(|line| line["user"] == "ci" && line["registry"] == "quay.io" && line["client"] == "127.0.0.1")
    );
    assert!(lines[0]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!((&lines[1]["rule"], &lines[1]["repository"]), (&"no-other".into(), &"other/app".into()));
    assert!(!read().contains("secret"));
    for line in &lines {
        assert_eq!(line["reference"], if line["outcome"] == "missing" { "none" } else { "1" });
        let time = line["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && humantime::parse_rfc3339(time).is_ok(), "{time}");
    }
}
