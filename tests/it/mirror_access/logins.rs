//! `docker login` at a mirror, and what a token service of a mirror's gives to whom.

use super::{ALONE, GROUP, Lab, MIRROR, REGISTRY, bearer_of};
use crate::support::client::whole;
use crate::support::{Registry, basic_value};

/// `docker login`: a ping, a token without a scope, and a ping with that.
async fn login(lab: &Lab, host: &str, user: &str, password: &str) -> u16 {
    let ping = lab.ask(host, "GET", "/v2/", None).await;
    if ping.status == 200 {
        return 200;
    }
    let challenge = ping.header("www-authenticate");
    assert!(challenge.starts_with(&format!("Bearer realm=\"http://{host}/v2/_pullthrough/token\"")), "{challenge}");
    let path = format!("/v2/_pullthrough/token?account={user}&client_id=docker&offline_token=true&service={host}");
    let answer = lab.ask(host, "GET", &path, Some(&basic_value(user, password))).await;
    if answer.status != 200 {
        assert_eq!(answer.header("www-authenticate"), "Basic realm=\"pullthrough\"");
        return answer.status.as_u16();
    }
    lab.ask(host, "GET", "/v2/", Some(&bearer_of(&answer))).await.status.as_u16()
}

#[tokio::test]
async fn a_login_is_verified_by_the_registry_that_the_name_stands_for() {
    let lab = Lab::with_tokens("", "").await;
    assert_eq!(login(&lab, ALONE, "alice", "secret-a").await, 200);
    assert_eq!(login(&lab, ALONE, "alice", "wrong").await, 401);
    assert_eq!(login(&lab, ALONE, "nobody", "secret-a").await, 401);
    let plain = Lab::start(Registry::start(REGISTRY), "", "").await;
    plain.registry.require_basic("alice", "secret-a");
    assert_eq!(login(&plain, ALONE, "alice", "secret-a").await, 200);
    assert_eq!(login(&plain, ALONE, "alice", "wrong").await, 401);
}

#[tokio::test]
async fn where_a_balancer_takes_tls_off_the_client_is_sent_to_no_plain_address() {
    let lab = Lab::with_tokens("", "").await;
    for (said, scheme) in [("https", "https"), ("HTTPS, http", "https"), ("http", "http"), ("http, https", "http")] {
        let ping = lab.session(ALONE).await.ask("GET", "/v2/", &[("x-forwarded-proto", said)]).await;
        let challenge = ping.header("www-authenticate");
        let realm = format!("Bearer realm=\"{scheme}://{ALONE}/v2/_pullthrough/token\"");
        assert!(challenge.starts_with(&realm), "{said}: {challenge}");
    }
    let requests = lab.registry.requests();
    assert!(requests.iter().all(|seen| !seen.headers.contains_key("x-forwarded-proto")), "it is between the two of us");
}

#[tokio::test]
async fn a_form_and_an_identity_token_are_verified_as_well() {
    let lab = Lab::with_tokens("", "").await;
    let own = lab.registry.push_blob("alice/app", vec![1; 1000]);
    let scope = format!("service={ALONE}&scope=repository%3Aalice%2Fapp%3Apull&client_id=containerd-client");
    for (form, expected) in [
        ("grant_type=password&username=alice&password=secret-a", 200),
        ("grant_type=refresh_token&refresh_token=refresh-a", 200),
        ("grant_type=password&username=alice&password=wrong", 401),
        ("grant_type=refresh_token&refresh_token=wrong", 401),
    ] {
        let mut session = lab.session(ALONE).await;
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let body = pullthrough::wire::Body::full(format!("{form}&{scope}"));
        let answer = whole(session.send("POST", "/v2/_pullthrough/token", &headers, body).await.unwrap()).await;
        assert_eq!(answer.status, expected, "{form}");
        if expected == 200 {
            let path = format!("/v2/alice/app/blobs/{own}");
            assert_eq!(lab.ask(ALONE, "GET", &path, Some(&bearer_of(&answer))).await.status, 200, "{form}");
        }
    }
}

#[tokio::test]
async fn what_docker_sends_to_its_mirrors_for_docker_hub_goes_nowhere() {
    let lab = Lab::with_tokens("", "").await;
    let alice = basic_value("alice", "secret-a");
    for host in [MIRROR, GROUP] {
        assert_eq!(lab.ask(host, "GET", "/v2/", Some(&alice)).await.status, 200, "no client needs a token here");
        for scope in ["repository:alice/app:pull", "repository:alice/app:pull,push", "registry:catalog:*"] {
            let token = lab.token(host, scope, Some(&alice)).await.unwrap();
            assert!(token.starts_with("Bearer pullthrough-local-1."), "{token}");
        }
        let form = pullthrough::wire::Body::full("grant_type=password&username=alice&password=secret-a&scope=x");
        let mut session = lab.session(host).await;
        let answer = whole(session.send("POST", "/v2/_pullthrough/token", &[], form).await.unwrap()).await;
        assert!(bearer_of(&answer).starts_with("Bearer pullthrough-local-1."));
    }
    assert_eq!(lab.registry.requests().len() + lab.other.requests().len(), 0);
}

#[tokio::test]
async fn a_token_service_of_the_registrys_own_is_asked_with_the_registrys_names() {
    let tokens = crate::support::Tokens::new().user("alice", "secret-a", &["team/alice/*"]);
    let (registry, service) = (Registry::start(REGISTRY), Registry::start("auth.example.com"));
    service.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://auth.example.com/token");
    let own = registry.push_blob("team/alice/app", vec![1; 1000]);
    let mirror = format!("default: {REGISTRY}, names: {{{ALONE}: {REGISTRY}/team}}");
    let plan = crate::support::Plan::new().registry(&registry, "token_hosts: [auth.example.com]");
    let proxy = plan.host("auth.example.com", &service).mirror(&mirror).start().await;
    let lab = Lab { registry, other: service, proxy };
    let path = format!("/v2/alice/app/blobs/{own}");
    let refused = lab.ask(ALONE, "GET", &path, None).await;
    assert!(
        refused.header("www-authenticate").ends_with("scope=\"repository:alice/app:pull\""),
        "{:?}",
        refused.headers
    );
    let alice = basic_value("alice", "secret-a");
    let bearer = lab.token(ALONE, "repository:alice/app:pull", Some(&alice)).await.unwrap();
    assert_eq!(lab.ask(ALONE, "GET", &path, Some(&bearer)).await.status, 200);
    assert!(lab.other.count("POST /token") + lab.other.count("GET /token") > 0);
}

#[tokio::test]
async fn a_realm_that_nobody_listed_gets_no_password() {
    let tokens = crate::support::Tokens::new().user("alice", "secret-a", &["alice/*"]);
    let (registry, evil) = (Registry::start(REGISTRY), Registry::start("evil.example.com"));
    evil.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://evil.example.com/token");
    let plan = crate::support::Plan::new().registry(&registry, "").host("evil.example.com", &evil);
    let proxy = plan.mirror(&format!("default: {REGISTRY}, names: {{{ALONE}: {REGISTRY}}}")).start().await;
    let lab = Lab { registry, other: evil, proxy };
    let alice = basic_value("alice", "secret-a");
    let path = format!("/v2/_pullthrough/token?service={ALONE}&scope=repository:alice/app:pull");
    let refused = lab.ask(ALONE, "GET", &path, Some(&alice)).await;
    let text = String::from_utf8_lossy(refused.bytes()).into_owned();
    assert!(refused.status == 403 && text.contains("list it in realms"), "{} {text}", refused.status);
    assert!(!lab.was_told(alice.trim_start_matches("Basic ")));
}
