//! Whose a client's password is: the mirror's own, and in nobody else's hands.

use super::{Lab, code};
use crate::pull::layer;
use crate::support::{Tokens, basic_value};

/// `user` with the password `secret`, at bcrypt's least cost.
fn htpasswd() -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let hash = bcrypt::hash("secret", 4).unwrap();
    std::fs::write(file.path(), format!("user:{hash}\n")).unwrap();
    let entry = format!("htpasswd: '{}'", file.path().display());
    (file, entry)
}

#[tokio::test]
async fn the_mirrors_own_password_is_asked_for_as_a_server_asks_and_goes_nowhere() {
    let (_file, entry) = htpasswd();
    let lab = Lab::with(|plan| plan.clients(&entry)).await;
    lab.hub.push_image("library/app", "1", &[layer(10, 1)]);
    for (name, path) in [
        ("hub.example.org", "/v2/app/manifests/1"),
        ("any.example.org", "/v2/app/manifests/1?ns=docker.io"),
        ("all.example.org", "/v2/app/manifests/1"),
        ("any.example.org", "/v2/"),
    ] {
        let mut session = lab.session(name).await;
        let wrong = basic_value("user", "wrong");
        for headers in [&[][..], &[("authorization", wrong.as_str())], &[("authorization", "Bearer x")]] {
            let answer = session.ask("GET", path, headers).await;
            assert_eq!(answer.status, 401, "{name} {path}");
            assert_eq!(answer.header("www-authenticate"), "Basic realm=\"pullthrough\"");
            assert_eq!(code(&answer), "UNAUTHORIZED");
        }
        assert_eq!(session.get("/healthz").await.status, 200);
        let right = basic_value("user", "secret");
        let answer = session.ask("GET", path, &[("authorization", &right)]).await;
        assert_eq!(answer.status, 200, "{name} {path}");
        let mut session = lab.proxy.client().plain_session(name).await;
        assert_eq!(session.get(path).await.status, 401, "the proxy port: {name} {path}");
    }
    assert!(lab.hub.requests().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_private_image_is_not_readable_through_a_name_that_carries_no_credentials() {
    // What is fetched ahead for Alice would be asked for in her name later.
    let lab = Lab::keyed("prefetch: off", |plan| plan).await;
    let tokens = Tokens::new().user("alice", "secret", &["team/*"]);
    lab.quay.require_token(&tokens, "https://quay.io/token");
    lab.quay.serve_tokens(&tokens);
    let image = lab.quay.push_image("team/app", "1", &[layer(1000, 1)]);
    let layer_path = format!("/v2/team/app/blobs/{}", image.layers[0]);
    // Alice pulls it through the proxy, so that all of it is cached.
    let mut session = lab.proxy.client().session("quay.io:443").await;
    let path = "/token?service=lab&scope=repository:team/app:pull";
    let token = session.ask("GET", path, &[("authorization", &basic_value("alice", "secret"))]).await;
    let token: serde_json::Value = serde_json::from_slice(token.bytes()).unwrap();
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    for path in ["/v2/team/app/manifests/1", &layer_path] {
        assert_eq!(session.ask("GET", path, &[("authorization", &bearer)]).await.status, 200);
    }
    lab.proxy.stored(&image.layers[0]).await;
    lab.quay.forget();
    let of_layer = |prefix: &str| layer_path.replace("/v2/", prefix);
    for (name, path) in [
        ("any.example.org", format!("{layer_path}?ns=quay.io")),
        ("any.example.org", "/v2/team/app/manifests/1?ns=quay.io".to_owned()),
        ("any.example.org", format!("/v2/team/app/manifests/{}?ns=quay.io", image.digest)),
        ("any.example.org", of_layer("/v2/quay.io/")),
        ("any.example.org", of_layer("/v2/q/")),
        ("all.example.org", layer_path.clone()),
    ] {
        let basic = basic_value("alice", "secret");
        for headers in [&[][..], &[("authorization", bearer.as_str())], &[("authorization", basic.as_str())]] {
            for (method, more) in [("GET", None), ("HEAD", None), ("GET", Some(("range", "bytes=0-9")))] {
                let headers: Vec<_> = headers.iter().copied().chain(more).collect();
                let answer = lab.session(name).await.ask(method, &path, &headers).await;
                assert!(matches!(answer.status.as_u16(), 401 | 403 | 404), "{method} {name} {path}: {}", answer.status);
            }
        }
    }
    let sent = |seen: &crate::support::Seen| seen.headers.get("authorization").cloned();
    assert!(
        lab.quay
            .requests()
            .iter()
            .filter_map(sent)
            .all(|value| value != *bearer && !value.as_bytes().starts_with(b"Basic"))
    );
    assert_eq!(lab.hub.requests().iter().filter_map(sent).count(), 0);
}

#[tokio::test]
async fn a_name_for_a_part_of_a_registry_takes_that_registrys_own_credentials() {
    let names = "names: {part.example.org: quay.io/team}";
    let quay = crate::support::Registry::start("quay.io");
    let tokens = Tokens::new().user("alice", "secret", &["team/*"]).user("bob", "secret", &[]);
    quay.require_token(&tokens, "https://quay.io/token");
    quay.serve_tokens(&tokens);
    let image = quay.push_image("team/app", "1", &[layer(1000, 1)]);
    quay.push_image("other/app", "1", &[layer(1000, 2)]);
    let proxy = crate::support::Plan::new().registry(&quay, "").mirror(names).start().await;
    let mut session = proxy.mirror_client().session("part.example.org:443").await;
    let challenge = session.get("/v2/").await;
    assert_eq!(challenge.status, 401);
    let realm = "realm=\"https://part.example.org/v2/_pullthrough/token\"";
    assert!(challenge.header("www-authenticate").contains(realm), "{}", challenge.header("www-authenticate"));
    let mut read = async |user: &str, repository: &str| {
        let path = format!("/v2/_pullthrough/token?scope=repository:{repository}:pull");
        let token = session.ask("GET", &path, &[("authorization", &basic_value(user, "secret"))]).await;
        let token: serde_json::Value = serde_json::from_slice(token.bytes()).unwrap();
        let bearer = format!("Bearer {}", token["token"].as_str().unwrap_or_default());
        session.ask("GET", &format!("/v2/{repository}/manifests/1"), &[("authorization", &bearer)]).await
    };
    let answer = read("alice", "app").await;
    assert_eq!((answer.status.as_u16(), answer.bytes()), (200, &image.manifest));
    assert!(matches!(read("bob", "app").await.status.as_u16(), 401 | 403));
    for outside in ["other/app", "team/app"] {
        assert!(matches!(read("alice", outside).await.status.as_u16(), 401 | 403 | 404), "{outside}");
    }
    assert!(
        quay.requests().iter().all(|seen| !seen.path.contains("/other/app/") || seen.path.contains("/team/other/"))
    );
}
