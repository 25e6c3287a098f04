//! Passwords for a registry that the proxy answers for in its place: guesses wait, who is known does not.

use std::time::{Duration, Instant};

use super::layer;
use super::private::{AUTH, EXAMPLE, Lab};
use crate::support::client::{Client, Whole};
use crate::support::{Plan, Registry, Tokens, basic_value};

const LOCAL: &str = "/v2/_pullthrough/token?service=x&scope=repository:team/app:pull";

async fn with_password(client: &Client, host: &str, path: &str, user: &str, password: &str) -> Whole {
    let basic = basic_value(user, password);
    client.session(host).await.ask("GET", path, &[("authorization", &basic)]).await
}

/// How long so many take, one after the other.
async fn took(times: usize, mut ask: impl AsyncFnMut(usize)) -> Duration {
    let begun = Instant::now();
    for number in 0..times {
        ask(number).await;
    }
    begun.elapsed()
}

/// Three are free; then 250, 500 and 1000 ms are waited.
const SIX: Duration = Duration::from_millis(1750);
/// Twenty of these would wait for more than a minute.
const QUICK: Duration = Duration::from_secs(20);

#[tokio::test]
async fn guesses_at_the_token_service_that_stands_in_wait_and_who_has_shown_a_right_does_not() {
    for (host, path) in [(EXAMPLE, LOCAL), (AUTH, "/token?service=lab&scope=repository:team/app:pull")] {
        let mut lab = Lab::new("").await;
        let digest = lab.registry.push_blob("team/app", layer(1000, 1));
        let blob = format!("/v2/team/app/blobs/{digest}");
        let alice = lab.bearer(Some(("alice", "secret-a")), "team/app").await;
        assert_eq!(lab.get(&blob, Some(&alice)).await.status, 200);
        lab.proxy.stored(&digest).await;
        lab.registry.stop();
        lab.auth.stop();
        assert!(!lab.get("/v2/other/manifests/1", None).await.status.is_success(), "the outage is known");
        let client = lab.proxy.client();
        let six = took(6, async |number| {
            let answer = with_password(&client, host, path, "alice", &format!("guess{number}")).await;
            assert_eq!(answer.status, 200, "a token opens nothing by itself");
            let bearer = super::outage::bearer_of(&answer);
            assert_eq!(lab.get(&blob, Some(&bearer)).await.status, 503);
        });
        assert!(six.await >= SIX, "{host}");
        let known = took(20, async |_| {
            let answer = with_password(&client, host, path, "alice", "secret-a").await;
            let bearer = super::outage::bearer_of(&answer);
            assert_eq!(lab.get(&blob, Some(&bearer)).await.status, 200);
        });
        assert!(known.await < QUICK, "{host}");
        // One place that anybody may read makes no guess free of which the token opens more.
        let both = format!("{path}&scope=repository:public/app:pull");
        let mixed = took(2, async |_| drop(with_password(&client, host, &both, "alice", "guess").await));
        assert!(mixed.await >= Duration::from_secs(6), "{host}");
    }
}

#[tokio::test]
async fn guesses_by_password_at_what_is_cached_wait_too_while_the_registry_is_away() {
    let mut registry = Registry::start("registry.example.com");
    registry.require_basic("alice", "secret-a");
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 1h}").start().await;
    let digest = registry.push_blob("team/app", layer(1000, 2));
    let blob = format!("/v2/team/app/blobs/{digest}");
    let client = proxy.client();
    assert_eq!(with_password(&client, EXAMPLE, &blob, "alice", "secret-a").await.status, 200);
    proxy.stored(&digest).await;
    registry.stop();
    assert!(!client.get(EXAMPLE, "/v2/other/manifests/1").await.status.is_success(), "the outage is known");
    let six = took(6, async |number| {
        let answer = with_password(&client, EXAMPLE, &blob, "alice", &format!("guess{number}")).await;
        assert_eq!(answer.status, 503);
    });
    assert!(six.await >= SIX);
    let known = took(20, async |_| {
        assert_eq!(with_password(&client, EXAMPLE, &blob, "alice", "secret-a").await.status, 200);
    });
    assert!(known.await < QUICK);
}

#[tokio::test]
async fn guesses_at_the_realm_of_a_registry_with_held_credentials_wait_and_right_ones_do_not() {
    let tokens = Tokens::new().user("robot", "held", &["team/*"]).user("alice", "secret-a", &["team/*"]);
    let registry = Registry::start("registry.example.com");
    registry.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://registry.example.com/token");
    let proxy = Plan::new().registry(&registry, "auth: {username: robot, password: held}").start().await;
    let client = proxy.client();
    let right = took(20, async |_| {
        assert_eq!(with_password(&client, EXAMPLE, LOCAL, "alice", "secret-a").await.status, 200);
    });
    assert!(right.await < QUICK);
    let six = took(6, async |number| {
        let answer = with_password(&client, EXAMPLE, LOCAL, "alice", &format!("guess{number}")).await;
        assert_eq!(answer.status, 401);
    });
    assert!(six.await >= SIX);
}

#[tokio::test]
async fn guesses_at_what_is_cached_wait_too_while_the_registry_throttles() {
    let registry = Registry::start("registry.example.com");
    let basic = registry.require_basic("alice", "secret-a");
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 1h}").start().await;
    let digest = registry.push_blob("team/app", layer(1000, 2));
    let (blob, tags) = (format!("/v2/team/app/blobs/{digest}"), "/v2/team/app/tags/list");
    let client = proxy.client();
    for path in [&blob, tags] {
        assert_eq!(with_password(&client, EXAMPLE, path, "alice", "secret-a").await.status, 200);
    }
    proxy.stored(&digest).await;
    // Never open in between: whether anybody may read is asked behind, at any time.
    registry.script("*", crate::support::Act::Status(429));
    registry.unscript(basic);
    for (path, user) in [(&*blob, "alice"), (tags, "bob")] {
        let six = took(6, async |number| {
            let answer = with_password(&client, EXAMPLE, path, user, &format!("guess{number}")).await;
            assert!(matches!(answer.status.as_u16(), 401 | 429), "{}", answer.status);
        });
        assert!(six.await >= SIX, "{path}");
    }
    for path in [&blob, tags] {
        assert_eq!(with_password(&client, EXAMPLE, path, "alice", "secret-a").await.status, 200);
    }
}
