//! Whose credentials go where, and who is served what others fetched.

use super::private::{ALICE, BOB, CAROL, EXAMPLE, Lab, bearer};
use super::{QUAY, layer};
use crate::support::client::Client;
use crate::support::{Act, Plan, Proxy, Registry, Setup, Tokens};

async fn ask(
    client: &Client,
    method: &str,
    path: &str,
    authorization: Option<&str>,
    range: Option<&str>,
) -> crate::support::client::Whole {
    let headers: Vec<(&str, &str)> = authorization
        .map(|value| ("authorization", value))
        .into_iter()
        .chain(range.map(|value| ("range", value)))
        .collect();
    client.session(EXAMPLE).await.ask(method, path, &headers).await
}

/// The methods of what was asked with this header, in order.
fn asked_as(registry: &Registry, header: &str) -> Vec<String> {
    let seen = registry.requests().into_iter();
    seen.filter(|seen| seen.headers.get("authorization").is_some_and(|value| value == header))
        .map(|seen| seen.method)
        .collect()
}

#[tokio::test]
async fn the_ping_and_its_challenge_pass_untouched_and_tokens_come_through() {
    let Lab { auth, proxy, .. } = &Lab::new("").await;
    let ping = proxy.client().get(EXAMPLE, "/v2/").await;
    assert_eq!(ping.status, 401);
    assert!(ping.header("www-authenticate").contains("https://auth.example.com/token"));
    assert!(bearer(&proxy.client(), None, "public/app").await.starts_with("Bearer token-"));
    assert_eq!(auth.count("GET /token"), 1);
}

#[tokio::test]
async fn a_private_image_is_not_served_to_another_caller() {
    let Lab { registry, proxy, .. } = &Lab::new("").await;
    let image = registry.push_image("team/app", "1", &[layer(50_000, 1)]);
    let alice = bearer(&proxy.client(), ALICE, "team/app").await;
    let bob = bearer(&proxy.client(), BOB, "team/app").await;
    let paths = [
        "/v2/team/app/manifests/1".to_owned(),
        format!("/v2/team/app/manifests/{}", image.digest),
        format!("/v2/team/app/blobs/{}", image.config),
        format!("/v2/team/app/blobs/{}", image.layers[0]),
    ];
    for client in [proxy.client(), proxy.client().h2()] {
        for path in &paths {
            assert_eq!(ask(&client, "GET", path, Some(&alice), None).await.status, 200, "{path}");
            for caller in [None, Some(bob.as_str()), Some("Bearer invented")] {
                for method in ["GET", "HEAD"] {
                    for range in [None, Some("bytes=0-10")] {
                        let refused = ask(&client, method, path, caller, range).await;
                        assert_eq!(refused.status, 401, "{method} {path} {caller:?} {range:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_guessed_digest_is_not_readable_through_a_public_repository() {
    let Lab { registry, proxy, .. } = &Lab::new("").await;
    let image = registry.push_image("team/app", "1", &[layer(50_000, 2)]);
    registry.push_image("public/app", "1", &[layer(1000, 3)]);
    let alice = bearer(&proxy.client(), ALICE, "team/app").await;
    let anyone = bearer(&proxy.client(), None, "public/app").await;
    for (noun, digest) in [("manifests", image.digest), ("blobs", image.layers[0])] {
        assert_eq!(
            ask(&proxy.client(), "GET", &format!("/v2/team/app/{noun}/{digest}"), Some(&alice), None).await.status,
            200
        );
        let path = format!("/v2/public/app/{noun}/{digest}");
        for (caller, expected) in [(None, 401), (Some(anyone.as_str()), 404)] {
            assert_eq!(ask(&proxy.client(), "GET", &path, caller, None).await.status, expected, "{noun} {caller:?}");
            assert_eq!(ask(&proxy.client(), "HEAD", &path, caller, None).await.status, expected, "{noun} {caller:?}");
        }
    }
}

#[tokio::test]
async fn who_proves_by_head_is_served_what_another_fetched() {
    let Lab { registry, proxy, .. } = &Lab::new("").await;
    let image = registry.push_image("team/app", "1", &[layer(50_000, 4)]);
    let path = format!("/v2/team/app/blobs/{}", image.layers[0]);
    let first = bearer(&proxy.client(), ALICE, "team/app").await;
    ask(&proxy.client(), "GET", &path, Some(&first), None).await;
    proxy.stored(&image.layers[0]).await;
    registry.forget();
    let second = bearer(&proxy.client(), CAROL, "team/app").await;
    for _ in 0..3 {
        assert_eq!(ask(&proxy.client(), "GET", &path, Some(&second), None).await.bytes().len(), 50_000);
    }
    assert_eq!(asked_as(registry, &second), ["HEAD"], "one proof, then believed");
}

#[tokio::test]
async fn a_second_client_of_a_token_registry_makes_no_blob_request() {
    let Lab { registry, proxy, .. } = &Lab::new("").await;
    let image = registry.push_image("public/app", "1", &[layer(50_000, 5)]);
    let mut blobs = Vec::new();
    for _ in 0..2 {
        let token = bearer(&proxy.client(), None, "public/app").await;
        let tag = ask(&proxy.client(), "GET", "/v2/public/app/manifests/1", Some(&token), None).await;
        assert_eq!(tag.header("docker-content-digest"), image.digest.to_string());
        for digest in [image.config, image.layers[0]] {
            let blob = ask(&proxy.client(), "GET", &format!("/v2/public/app/blobs/{digest}"), Some(&token), None).await;
            assert_eq!(blob.status, 200);
            proxy.stored(&digest).await;
        }
        blobs.push(registry.count("*/blobs/*"));
    }
    assert_eq!(blobs, [2, 2], "its right was proven by the HEAD of the tag");
}

#[tokio::test]
async fn a_revoked_right_ends_what_a_grant_gave() {
    let Lab { registry, proxy, tokens, .. } = &Lab::new("").await;
    let image = registry.push_image("team/app", "1", &[layer(1000, 6)]);
    let alice = bearer(&proxy.client(), ALICE, "team/app").await;
    let path = format!("/v2/team/app/blobs/{}", image.layers[0]);
    assert_eq!(ask(&proxy.client(), "GET", &path, Some(&alice), None).await.status, 200);
    tokens.revoke_all();
    // The registry's own no, learned on any request in the place, ends the grant for all that is in it.
    assert_eq!(ask(&proxy.client(), "GET", "/v2/team/app/manifests/2", Some(&alice), None).await.status, 401);
    assert_eq!(ask(&proxy.client(), "GET", &path, Some(&alice), None).await.status, 401);
}

#[tokio::test]
async fn credentials_go_to_the_registry_itself_and_to_no_mirror() {
    let registry = Registry::start("registry.example.com");
    let mirror = registry.sibling(Setup::named("mirror.internal"));
    let digest = registry.push_blob("a", layer(1000, 7));
    let endpoint = |server: &Registry| {
        format!(
            "{{url: 'https://{}', address: '{}', ca_file: '{}'}}",
            server.name(),
            server.address(),
            server.ca_file().display()
        )
    };
    let both = format!("'registry.example.com': {{endpoints: [{}, {}]}}", endpoint(&mirror), endpoint(&registry));
    let proxy = Plan::new().raw_registry(&both).start().await;
    let secret = Some("Basic c2VjcmV0");
    assert_eq!(ask(&proxy.client(), "GET", &format!("/v2/a/blobs/{digest}"), secret, None).await.status, 200);
    registry.push_manifest("a", Some("1"), crate::support::MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    assert_eq!(ask(&proxy.client(), "GET", "/v2/a/manifests/1", secret, None).await.status, 200);
    assert!(mirror.requests().iter().all(|seen| !seen.headers.contains_key("authorization")));
    assert_eq!(mirror.count("*/manifests/1"), 0, "what a tag means, only the registry says");
}

#[tokio::test]
async fn a_liar_that_says_200_to_every_head_gets_no_private_byte_of_another_registry() {
    let tokens = Tokens::new().user("alice", "secret-a", &["team/*"]);
    let (registry, auth) = (Registry::start("registry.example.com"), Registry::start("auth.example.com"));
    auth.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://auth.example.com/token");
    let liar = Registry::start("quay.io");
    liar.script("*", Act::EveryHead);
    let plan = Plan::new().registry(&registry, "token_hosts: [auth.example.com]").registry(&liar, "");
    let proxy = plan.host("auth.example.com", &auth).start().await;
    let image = registry.push_image("team/app", "1", &[layer(50_000, 8)]);
    let alice = bearer(&proxy.client(), ALICE, "team/app").await;
    for (noun, digest) in [("manifests", image.digest), ("blobs", image.layers[0])] {
        assert_eq!(
            ask(&proxy.client(), "GET", &format!("/v2/team/app/{noun}/{digest}"), Some(&alice), None).await.status,
            200
        );
        let stolen = proxy.client().get(QUAY, &format!("/v2/any/{noun}/{digest}")).await;
        assert_eq!(stolen.status, 404, "{noun}");
    }
}

/// A proxy before a private registry and a liar that is open to everybody.
async fn beside_a_liar() -> (Registry, Registry, Registry, Proxy) {
    let tokens = Tokens::new().user("alice", "secret-a", &["team/*"]);
    let (registry, auth) = (Registry::start("registry.example.com"), Registry::start("auth.example.com"));
    auth.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://auth.example.com/token");
    let liar = Registry::start("quay.io");
    let plan = Plan::new().registry(&registry, "token_hosts: [auth.example.com]").registry(&liar, "");
    let proxy = plan.host("auth.example.com", &auth).start().await;
    (registry, auth, liar, proxy)
}

#[tokio::test]
async fn neither_head_nor_rubbish_earns_a_liar_what_another_registry_gave_to_credentials() {
    let (registry, _auth, liar, proxy) = beside_a_liar().await;
    let secret = layer(50_000, 9);
    let image = registry.push_image("team/app", "1", std::slice::from_ref(&secret));
    let alice = bearer(&proxy.client(), ALICE, "team/app").await;
    for (noun, digest) in [("manifests", image.digest), ("blobs", image.layers[0])] {
        let path = format!("/v2/team/app/{noun}/{digest}");
        assert_eq!(ask(&proxy.client(), "GET", &path, Some(&alice), None).await.status, 200);
        proxy.stored(&digest).await;
    }
    liar.script("*", Act::EveryHead);
    // The same length as the real ones, under the digests of the real ones.
    liar.push_blob_as("any", &image.layers[0], layer(50_000, 10));
    let headers = [("content-type", crate::support::MANIFEST), ("docker-content-digest", &image.digest.to_string())];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let rubbish = "x".repeat(image.manifest.len());
    liar.script("GET */manifests/*", Act::Answer { status: 200, headers, body: rubbish });
    let mut session = proxy.client().session(QUAY).await;
    session.ask("HEAD", "/v2/any/manifests/tag", &[]).await;
    for _ in 0..3 {
        for (noun, digest) in [("manifests", image.digest), ("blobs", image.layers[0])] {
            let path = format!("/v2/any/{noun}/{digest}");
            proxy.client().session(QUAY).await.ask("HEAD", &path, &[]).await;
            let got = proxy.client().get(QUAY, &path).await;
            let bytes = got.body.clone().unwrap_or_else(|part| part);
            let real = if noun == "blobs" { &secret[..] } else { &image.manifest[..] };
            assert!(bytes.len() < 100 || !real.starts_with(&bytes[..100]), "{noun}: not one private byte");
            assert!(!got.status.is_success() || got.body.is_err(), "{noun}: and no clean end of the rubbish");
        }
    }
}

#[tokio::test]
async fn a_mirrors_yes_is_no_permission() {
    let tokens = Tokens::new().user("alice", "secret-a", &["team/*"]);
    let registry = Registry::start("registry.example.com");
    registry.require_token(&tokens, "https://registry.example.com/token");
    let mirror = registry.sibling(Setup::named("mirror.internal"));
    let image = registry.push_image("team/app", "1", &[layer(1000, 11)]);
    let endpoint = |server: &Registry| {
        let (name, address, ca_file) = (server.name(), server.address(), server.ca_file());
        format!("{{url: 'https://{name}', address: '{address}', ca_file: '{}'}}", ca_file.display())
    };
    let both = format!("'registry.example.com': {{endpoints: [{}, {}]}}", endpoint(&mirror), endpoint(&registry));
    let proxy = Plan::new().raw_registry(&both).start().await;
    for (noun, digest) in [("manifests", image.digest), ("blobs", image.layers[0])] {
        for caller in [None, Some("Bearer invented")] {
            let answer = ask(&proxy.client(), "GET", &format!("/v2/team/app/{noun}/{digest}"), caller, None).await;
            assert_eq!(answer.status, 401, "{noun} {caller:?}");
        }
    }
    assert_eq!(mirror.requests().len(), 0);
}

#[tokio::test]
async fn a_login_page_that_answers_every_head_with_200_proves_nothing() {
    let Lab { registry, proxy, .. } = &Lab::new("").await;
    let image = registry.push_image("team/app", "1", &[layer(50_000, 12)]);
    let alice = bearer(&proxy.client(), ALICE, "team/app").await;
    let page =
        Act::Answer { status: 200, headers: vec![("content-type".into(), "text/html".into())], body: "<login>".into() };
    for (noun, digest) in [("manifests", image.digest), ("blobs", image.layers[0])] {
        let path = format!("/v2/team/app/{noun}/{digest}");
        assert_eq!(ask(&proxy.client(), "GET", &path, Some(&alice), None).await.status, 200);
        proxy.stored(&digest).await;
        let line = registry.script("*", page.clone());
        for _ in 0..2 {
            let answer = ask(&proxy.client(), "GET", &path, None, None).await;
            assert!(!answer.status.is_success() || answer.body.is_err(), "{noun}");
        }
        registry.unscript(line);
    }
}

#[tokio::test]
async fn a_foreign_hosts_challenge_does_not_reach_the_client() {
    let registry = Registry::start("quay.io");
    let cdn = registry.sibling(Setup::named("cdn.quay.io"));
    registry.redirect_blobs("https://cdn.quay.io");
    cdn.script("*", Act::Status(401));
    cdn.script("*", Act::Header("www-authenticate".into(), "Bearer realm=\"https://evil.example/\"".into()));
    let proxy = Plan::new().registry(&registry, "").host("cdn.quay.io", &cdn).start().await;
    let digest = registry.push_blob("a", layer(1000, 13));
    let answer = proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (502, ""));
}

#[tokio::test]
async fn a_repository_that_turned_private_is_not_served_to_nobody_any_more() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 1h}").start().await;
    let image = registry.push_image("a", "1", &[layer(1000, 14)]);
    let paths = [
        "/v2/a/manifests/1".to_owned(),
        format!("/v2/a/manifests/{}", image.digest),
        format!("/v2/a/blobs/{}", image.layers[0]),
    ];
    for path in &paths {
        assert_eq!(proxy.client().get(QUAY, path).await.status, 200);
    }
    registry.script("*", Act::Status(401));
    // Any request of the place that reaches the registry tells.
    assert_eq!(proxy.client().get(QUAY, "/v2/a/manifests/2").await.status, 401);
    for path in &paths {
        assert_eq!(proxy.client().get(QUAY, path).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn another_callers_404_does_not_take_the_owners_last_known_answer() {
    let registry = Registry::start("registry.example.com");
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 0s}").start().await;
    registry.push_image("team/app", "1", &[layer(1000, 15)]);
    // So it is told to nobody, which the proxy asks for as whether it is public.
    let private = registry.script("*", Act::Unless("Basic b3duZXI=".into(), Box::new(Act::Status(404))));
    let (owner, stranger, tag) = (Some("Basic b3duZXI="), Some("Basic c3RyYW5nZXI="), "/v2/team/app/manifests/1");
    assert_eq!(ask(&proxy.client(), "GET", tag, owner, None).await.status, 200);
    crate::support::eventually("whether it is public was asked", || registry.count("GET *") == 2).await;
    // Many registries say 404 to whoever may not know that a repository is there.
    let hidden = registry.script("*/manifests/1", Act::Status(404));
    registry.unscript(private);
    assert_eq!(ask(&proxy.client(), "GET", tag, stranger, None).await.status, 404);
    assert_eq!(ask(&proxy.client(), "GET", tag, None, None).await.status, 404);
    registry.script("*", Act::Status(503));
    registry.unscript(hidden);
    assert_eq!(ask(&proxy.client(), "GET", tag, owner, None).await.status, 200);
    assert_eq!(ask(&proxy.client(), "GET", tag, stranger, None).await.status, 503);
}

#[tokio::test]
async fn a_new_token_that_anybody_is_given_has_nothing_to_prove() {
    let Lab { registry, proxy, .. } = &Lab::new("").await;
    registry.push_image("public/app", "1", &[layer(1000, 16)]);
    for _ in 0..3 {
        let token = bearer(&proxy.client(), None, "public/app").await;
        let answer = ask(&proxy.client(), "GET", "/v2/public/app/manifests/1", Some(&token), None).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!((registry.count("GET */manifests/*"), registry.count("HEAD */manifests/*")), (1, 0));
}

#[tokio::test]
async fn where_head_is_refused_the_callers_own_get_tells() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    let bytes = layer(10_000, 17);
    let digest = registry.push_blob("a", bytes.clone());
    registry.push_blob("b", bytes.clone());
    proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
    proxy.stored(&digest).await;
    registry.script("HEAD *", Act::Status(403));
    let answer = proxy.client().get(QUAY, &format!("/v2/b/blobs/{digest}")).await;
    assert!(answer.status == 200 && *answer.bytes() == bytes);
}
