//! Who has to prove what, how often, and for how long it is believed.

use std::time::Duration;

use futures_util::future::join_all;

use super::layer;
use super::private::{ALICE, AUTH, BOB, CAROL, Lab, ask, token};
use crate::support::{Act, Gate, Plan, Registry, basic_value, eventually, throughout, until};

#[tokio::test]
async fn two_hundred_clients_with_one_pull_secret_cost_one_proof() {
    let lab = Lab::new("").await;
    let image = lab.registry.push_image("team/app", "1", &[layer(50_000, 1)]);
    let path = format!("/v2/team/app/blobs/{}", image.layers[0]);
    let carol = lab.bearer(CAROL, "team/app").await;
    assert_eq!(lab.get(&path, Some(&carol)).await.status, 200);
    lab.proxy.stored(&image.layers[0]).await;
    eventually("whether it is public was asked", || lab.auth.count("GET /token") >= 2).await;
    let bearers = join_all((0..200).map(|_| lab.bearer(ALICE, "team/app"))).await;
    lab.registry.forget();
    let answers = join_all(bearers.iter().map(|alice| lab.get(&path, Some(alice)))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.bytes().len() == 50_000));
    let proofs = |lab: &Lab| {
        let seen = lab.registry.requests().into_iter();
        seen.filter(|seen| bearers.iter().any(|alice| seen.headers.get("authorization").is_some_and(|v| v == alice)))
            .count()
    };
    assert_eq!(proofs(&lab), 1, "one HEAD for all");
    let answers = join_all(bearers.iter().map(|alice| lab.get(&path, Some(alice)))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(proofs(&lab), 1, "and none for whoever comes later");
}

#[tokio::test]
async fn a_form_and_a_header_with_the_same_password_are_one_principal() {
    let lab = Lab::new("").await;
    let image = lab.registry.push_image("team/app", "1", &[layer(1000, 2)]);
    let path = format!("/v2/team/app/blobs/{}", image.layers[0]);
    let by_header = lab.bearer(ALICE, "team/app").await;
    assert_eq!(lab.get(&path, Some(&by_header)).await.status, 200);
    lab.proxy.stored(&image.layers[0]).await;
    let form = "grant_type=password&username=alice&password=secret-a&service=lab&client_id=c&scope=repository%3Ateam%2Fapp%3Apull";
    let mut session = lab.proxy.client().session(AUTH).await;
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = session.send("POST", "/token", &headers, pullthrough::wire::Body::full(form)).await.unwrap();
    let by_form = token(&crate::support::client::whole(answer).await);
    assert_ne!(by_form, by_header);
    lab.registry.forget();
    assert_eq!(lab.get(&path, Some(&by_form)).await.status, 200);
    let asked = lab.registry.requests();
    assert!(asked.iter().all(|seen| seen.headers.get("authorization").is_none_or(|value| value != &by_form)));
}

#[tokio::test]
async fn an_identity_token_is_one_principal_by_however_many_bearers() {
    let lab = Lab::new("").await;
    let image = lab.registry.push_image("team/app", "1", &[layer(1000, 2)]);
    let path = format!("/v2/team/app/blobs/{}", image.layers[0]);
    let form =
        "grant_type=refresh_token&refresh_token=refresh-a&service=lab&client_id=c&scope=repository%3Ateam%2Fapp%3Apull";
    let bearer = async || {
        let mut session = lab.proxy.client().session(AUTH).await;
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = session.send("POST", "/token", &headers, pullthrough::wire::Body::full(form)).await.unwrap();
        token(&crate::support::client::whole(answer).await)
    };
    let (first, second) = (bearer().await, bearer().await);
    assert_ne!(first, second);
    assert_eq!(lab.get(&path, Some(&first)).await.status, 200);
    lab.proxy.stored(&image.layers[0]).await;
    assert_eq!(lab.get(&path, Some(&second)).await.status, 200);
    let asked = lab.registry.requests();
    assert!(asked.iter().all(|seen| seen.headers.get("authorization").is_none_or(|value| value != &second)));
    let stranger = lab.bearer(BOB, "team/app").await;
    assert_eq!(lab.get(&path, Some(&stranger)).await.status, 401);
}

#[tokio::test]
async fn a_token_stands_for_its_credential_only_where_it_was_asked_for() {
    let lab = Lab::new("").await;
    let app = lab.registry.push_blob("team/app", layer(1000, 3));
    let path = format!("/v2/team/app/blobs/{app}");
    let alice = lab.bearer(ALICE, "team/app").await;
    assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
    lab.proxy.stored(&app).await;
    let narrow = lab.bearer(ALICE, "team/other").await;
    assert_eq!(lab.get(&path, Some(&narrow)).await.status, 401, "the registry itself says so");
    assert_eq!(lab.get(&path, Some(&alice)).await.status, 200, "and takes nothing from the credential");
}

#[tokio::test]
async fn a_token_of_another_service_or_of_a_request_with_more_in_it_stands_for_itself() {
    let lab = Lab::new("").await;
    let blob = lab.registry.push_blob("team/app", layer(1000, 4));
    let path = format!("/v2/team/app/blobs/{blob}");
    let alice = lab.bearer(ALICE, "team/app").await;
    assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
    lab.proxy.stored(&blob).await;
    // Asked for with a password and something else: who knows what earned it.
    let scope = "/token?service=lab&scope=repository:team/app:pull";
    let headers = [("authorization", basic_value("alice", "secret-a")), ("x-key", "k".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = lab.proxy.client().session(AUTH).await.ask("GET", scope, &headers).await;
    let other = token(&answer);
    assert_eq!(lab.get(&path, Some(&other)).await.status, 200);
    let seen = lab.registry.requests();
    let own = seen.iter().filter(|seen| seen.headers.get("authorization").is_some_and(|value| value == &other));
    assert_eq!(own.count(), 1, "it proves for itself");
}

#[tokio::test]
async fn what_a_login_pulled_is_served_to_everybody_where_it_is_public() {
    let lab = Lab::new("").await;
    let image = lab.registry.push_image("public/app", "1", &[layer(50_000, 5)]);
    let path = format!("/v2/public/app/blobs/{}", image.layers[0]);
    let tag = "/v2/public/app/manifests/1";
    let alice = lab.bearer(ALICE, "public/app").await;
    assert_eq!(lab.get(tag, Some(&alice)).await.status, 200);
    assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
    lab.proxy.stored(&image.layers[0]).await;
    lab.proxy.stored(&image.config).await; // fetched ahead, in her name
    let tokens = || lab.auth.count("GET /token");
    eventually("nobody's token was asked for", || tokens() == 2).await;
    eventually("nobody's question was asked", || lab.registry.count("HEAD *") == 2).await;
    lab.is_public(&path).await;
    lab.proxy.stored(&image.config).await; // fetched ahead
    lab.registry.forget();
    for _ in 0..20 {
        for path in [tag, &path] {
            for caller in [None, Some("Bearer whatever"), Some("Basic Ym9iOnNlY3JldC1i")] {
                assert_eq!(lab.get(path, caller).await.status, 200, "{path} {caller:?}");
            }
        }
    }
    let asked = lab.registry.requests();
    assert!(asked.is_empty() && tokens() == 2, "without another question: {asked:?}");
    // What is missing there is asked for with nobody's token, and an expired one is no obstacle.
    let other = lab.registry.push_blob("public/app", layer(1000, 6));
    assert_eq!(lab.get(&format!("/v2/public/app/blobs/{other}"), None).await.status, 200);
    let another = lab.registry.push_blob("public/app", layer(1000, 7));
    assert_eq!(lab.get(&format!("/v2/public/app/blobs/{another}"), Some("Bearer expired")).await.status, 200);
    assert_eq!(tokens(), 2, "the kept one");
}

#[tokio::test]
async fn whether_a_place_is_public_is_asked_once_for_all_who_pull_there() {
    let lab = Lab::new("").await;
    let blobs: Vec<_> = (0..20).map(|seed| lab.registry.push_blob("team/app", layer(1000, 100 + seed))).collect();
    let alice = lab.bearer(ALICE, "team/app").await;
    let paths: Vec<String> = blobs.iter().map(|blob| format!("/v2/team/app/blobs/{blob}")).collect();
    let answers = join_all(paths.iter().map(|path| lab.get(path, Some(&alice)))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    eventually("it was asked", || lab.registry.count("HEAD *") == 2).await;
    for path in &paths {
        assert_eq!(lab.get(path, Some(&alice)).await.status, 200);
    }
    assert_eq!(lab.registry.count("HEAD *"), 2, "without a token, and with nobody's");
    assert_eq!(lab.get(&paths[0], None).await.status, 401);
}

#[tokio::test]
async fn a_public_image_outlives_a_restart_while_everything_is_down() {
    let mut lab = Lab::new("").await;
    let image = lab.registry.push_image("public/app", "1", &[layer(50_000, 8)]);
    let private = lab.registry.push_blob("team/app", layer(1000, 9));
    let (blob, tag) = (format!("/v2/public/app/blobs/{}", image.layers[0]), "/v2/public/app/manifests/1");
    let secret = format!("/v2/team/app/blobs/{private}");
    let anybody = lab.bearer(None, "public/app").await;
    for path in [tag, &blob] {
        assert_eq!(lab.get(path, Some(&anybody)).await.status, 200);
    }
    let alice = lab.bearer(ALICE, "team/app").await;
    assert_eq!(lab.get(&secret, Some(&alice)).await.status, 200);
    lab.proxy.stored(&image.layers[0]).await;
    lab.proxy.stored(&private).await;
    lab.registry.stop();
    lab.auth.stop();
    lab.proxy.restart().await;
    for path in [tag, &blob] {
        assert_eq!(lab.get(path, None).await.status, 200, "{path}");
    }
    assert_ne!(lab.get(&secret, None).await.status, 200);
    assert_ne!(lab.get(&secret, Some(&alice)).await.status, 200, "what was proven is never written down");
}

#[tokio::test]
async fn a_withdrawn_right_ends_with_the_grants_life() {
    let lab = Lab::new(", grants: {life: 1s}").await;
    let blob = lab.registry.push_blob("team/app", layer(1000, 10));
    let path = format!("/v2/team/app/blobs/{blob}");
    let alice = lab.bearer(ALICE, "team/app").await;
    assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
    lab.proxy.stored(&blob).await;
    lab.tokens.revoke_all();
    until("it ends within its life", async || lab.get(&path, Some(&alice)).await.status != 200).await;
    assert_eq!(lab.get(&path, Some(&alice)).await.status, 401);
}

#[tokio::test]
async fn what_is_public_no_more_is_nobodys_within_the_grants_life() {
    let mut lab = Lab::new(", grants: {life: 1s}").await;
    let blob = lab.registry.push_blob("public/app", layer(1000, 11));
    let path = format!("/v2/public/app/blobs/{blob}");
    let anybody = lab.bearer(None, "public/app").await;
    assert_eq!(lab.get(&path, Some(&anybody)).await.status, 200);
    lab.proxy.stored(&blob).await;
    assert_eq!(lab.get(&path, None).await.status, 200);
    lab.registry.script("*/blobs/*", Act::Status(403));
    until("it ends within its life", async || lab.get(&path, None).await.status != 200).await;
    lab.registry.stop();
    assert_ne!(lab.get(&path, None).await.status, 200, "and comes back with no outage");
}

#[tokio::test]
async fn a_right_outlives_its_life_while_the_registry_cannot_be_asked() {
    let mut lab = Lab::new(", grants: {life: 1s}").await;
    let blob = lab.registry.push_blob("team/app", layer(1000, 12));
    let path = format!("/v2/team/app/blobs/{blob}");
    let alice = lab.bearer(ALICE, "team/app").await;
    assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
    lab.proxy.stored(&blob).await;
    let asked = lab.registry.count("HEAD */blobs/*");
    until("the proof is asked for again and again", async || {
        assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
        lab.registry.count("HEAD */blobs/*") >= asked + 2
    })
    .await;
    lab.registry.stop();
    lab.auth.stop();
    throughout(Duration::from_millis(1500), async || {
        assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
    })
    .await;
    assert_ne!(lab.get(&path, Some("Bearer invented")).await.status, 200);
}

#[tokio::test]
async fn a_client_with_a_good_token_is_not_refused_for_anothers_expired_one() {
    let lab = Lab::new("").await;
    let blob = lab.registry.push_blob("team/app", layer(1000, 13));
    let path = format!("/v2/team/app/blobs/{blob}");
    let carol = lab.bearer(CAROL, "team/app").await;
    assert_eq!(lab.get(&path, Some(&carol)).await.status, 200);
    lab.proxy.stored(&blob).await;
    let expired = lab.bearer(ALICE, "team/app").await;
    lab.tokens.revoke_all();
    let good = lab.bearer(ALICE, "team/app").await;
    eventually("whether it is public was asked", || lab.registry.count("HEAD *") >= 2).await;
    let gate = Gate::new();
    let held = lab.registry.script("HEAD *", Act::Wait(gate.clone()));
    lab.registry.forget();
    let (first, second) = (lab.get(&path, Some(&expired)), async {
        eventually("the expired one is asked with", || lab.registry.count("HEAD *") == 1).await;
        let waiting = lab.get(&path, Some(&good));
        gate.open();
        waiting.await
    });
    let (first, second) = tokio::join!(first, second);
    lab.registry.unscript(held);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (401, 200));
}

#[tokio::test]
async fn no_other_registry_sees_a_callers_credentials_nor_does_a_cdn() {
    let registry = Registry::start("registry.example.com");
    let (other, cdn) =
        (Registry::start("other.example.com"), registry.sibling(crate::support::Setup::named("cdn.test")));
    registry.require_basic("alice", "secret-a");
    registry.redirect_blobs("https://cdn.test");
    let blob = registry.push_blob("team/app", layer(1000, 14));
    other.push_blob("team/app", layer(1000, 14));
    let plan = Plan::new().registry(&registry, "").registry(&other, "").host("cdn.test", &cdn);
    let proxy = plan.start().await;
    let (path, basic) = (format!("/v2/team/app/blobs/{blob}"), basic_value("alice", "secret-a"));
    assert_eq!(ask(&proxy.client(), "GET", &path, Some(&basic)).await.status, 200);
    proxy.stored(&blob).await;
    assert_eq!(proxy.client().session("other.example.com:443").await.get(&path).await.status, 200);
    assert!(cdn.count("*") > 0 && other.count("*") > 0);
    for server in [&cdn, &other] {
        assert!(server.requests().iter().all(|seen| !seen.headers.contains_key("authorization")), "{}", server.name());
    }
}
