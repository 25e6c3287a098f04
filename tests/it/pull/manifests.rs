//! Manifests by digest, several registries, and what is never mixed up.

use futures_util::future::join_all;
use pullthrough::wire::Body;

use super::{QUAY, get, layer, quay};
use crate::support::client::whole;
use crate::support::{Act, INDEX, MANIFEST, Plan, Registry};

#[tokio::test]
async fn a_manifest_is_passed_byte_exact_and_fetched_once() {
    let (registry, proxy) = quay().await;
    let odd = br#"{ "schemaVersion":2,   "layers":[], "x":"\u0041" }"#; // not as a serialiser would write it
    let digest = registry.push_manifest("org/app", None, MANIFEST, &odd[..]);
    let path = format!("/v2/org/app/manifests/{digest}");
    let mut session = proxy.client().session(QUAY).await;
    for status in ["pullthrough; fwd=uri-miss; stored", "pullthrough; hit"] {
        let answer = session.get(&path).await;
        assert_eq!(answer.bytes()[..], odd[..]);
        assert_eq!(answer.header("content-type"), MANIFEST);
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        assert_eq!(answer.header("cache-status"), status);
    }
    let head = session.ask("HEAD", &path, &[]).await;
    assert_eq!(
        (head.header("content-length"), head.header("content-type")),
        (odd.len().to_string().as_str(), MANIFEST)
    );
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn many_who_ask_for_one_manifest_make_one_request() {
    let (registry, proxy) = quay().await;
    let digest = registry.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    for path in [format!("/v2/a/manifests/{digest}"), "/v2/a/manifests/1".to_owned()] {
        let answers = join_all((0..32).map(|_| async { proxy.client().get(QUAY, &path).await })).await;
        assert!(
            answers.iter().all(|answer| answer.status == 200 && answer.bytes() == r#"{"schemaVersion":2,"layers":[]}"#)
        );
    }
    assert_eq!((registry.count("GET */manifests/sha*"), registry.count("GET */manifests/1")), (1, 1));
}

#[tokio::test]
async fn a_manifest_that_is_not_what_its_digest_says_is_refused() {
    let (registry, proxy) = quay().await;
    let digest = registry.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    registry.script("GET */manifests/*", Act::WrongByte(3));
    for reference in [digest.to_string(), "1".to_owned()] {
        let answer = proxy.client().get(QUAY, &format!("/v2/a/manifests/{reference}")).await;
        assert_eq!(answer.status, 502, "{reference}");
        assert!(answer.header("proxy-status").starts_with("pullthrough; error="), "{reference}");
    }
    assert_eq!(proxy.files(), (0, 0));
}

#[tokio::test]
async fn one_repository_and_tag_on_two_registries_stay_two_answers() {
    let (quay, example) = (Registry::start("quay.io"), Registry::start("registry.example.com"));
    let proxy = Plan::new().registry(&quay, "").registry(&example, "").start().await;
    quay.push_manifest("org/app", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[],"from":"quay"}"#);
    example.push_manifest("org/app", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[],"from":"example"}"#);
    for _ in 0..2 {
        for (host, name) in [(QUAY, "quay"), ("registry.example.com:443", "example")] {
            let answer = proxy.client().get(host, "/v2/org/app/manifests/1").await;
            assert!(String::from_utf8_lossy(answer.bytes()).contains(name), "{host}");
        }
    }
}

#[tokio::test]
async fn a_digest_known_from_one_registry_is_not_readable_through_another_that_lacks_it() {
    let (quay, example) = (Registry::start("quay.io"), Registry::start("registry.example.com"));
    let proxy = Plan::new().registry(&quay, "").registry(&example, "").start().await;
    let image = quay.push_image("org/app", "1", &[layer(10_000, 1)]);
    example.push_manifest("org/app", Some("other"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let paths = [format!("/v2/org/app/manifests/{}", image.digest), format!("/v2/org/app/blobs/{}", image.layers[0])];
    for path in &paths {
        assert_eq!(proxy.client().get(QUAY, path).await.status, 200);
        for method in ["GET", "HEAD"] {
            let answer = proxy.client().session("registry.example.com:443").await.ask(method, path, &[]).await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
        let other_repository = path.replace("org/app", "org/other");
        assert_eq!(proxy.client().get(QUAY, &other_repository).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_blob_does_not_answer_as_a_manifest_nor_the_reverse() {
    let (registry, proxy) = quay().await;
    let image = registry.push_image("a", "1", &[layer(1000, 2)]);
    let mut session = proxy.client().session(QUAY).await;
    session.get(&format!("/v2/a/blobs/{}", image.layers[0])).await;
    session.get(&format!("/v2/a/manifests/{}", image.digest)).await;
    assert_eq!(session.get(&format!("/v2/a/manifests/{}", image.layers[0])).await.status, 404);
    assert_eq!(session.get(&format!("/v2/a/blobs/{}", image.digest)).await.status, 404);
}

#[tokio::test]
async fn what_two_public_registries_have_is_stored_once_and_proven_by_head() {
    let (quay, example) = (Registry::start("quay.io"), Registry::start("registry.example.com"));
    let proxy = Plan::new().registry(&quay, "").registry(&example, "").start().await;
    let bytes = layer(50_000, 3);
    let digest = quay.push_blob("a", bytes.clone());
    example.push_blob("b", bytes.clone());
    proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
    proxy.stored(&digest).await;
    let answer = proxy.client().get("registry.example.com:443", &format!("/v2/b/blobs/{digest}")).await;
    assert!(*answer.bytes() == bytes);
    assert_eq!((example.count("HEAD *"), example.count("GET *")), (1, 0));
}

#[tokio::test]
async fn signed_schema_1_passes_untouched_and_is_not_kept() {
    let (registry, proxy) = quay().await;
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let body = r#"{"schemaVersion":1,"signatures":[{}]}"#;
    let said = format!("sha256:{}", "1".repeat(64));
    let headers = [("content-type", schema1), ("docker-content-digest", said.as_str())]
        .map(|(n, v)| (n.to_owned(), v.to_owned()));
    registry.script("GET */manifests/*", Act::Answer { status: 200, headers: headers.to_vec(), body: body.to_owned() });
    for reference in ["1", said.as_str()] {
        for _ in 0..2 {
            let answer =
                get(&mut proxy.client().session(QUAY).await, &format!("/v2/a/manifests/{reference}"), &[]).await;
            assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, schema1), "{reference}");
            assert_eq!(answer.bytes(), body);
            assert_eq!(answer.header("cache-status"), "pullthrough; fwd=bypass", "{reference}");
        }
    }
    assert_eq!(proxy.files(), (0, 0));
}

#[tokio::test]
async fn index_and_single_manifest_of_one_tag_stay_two_answers() {
    let (registry, proxy) = quay().await;
    let image = registry.push_image_for("amd64", "a", "single", &[layer(100, 4)]);
    let index = registry.push_index("a", "1", &[&image]);
    let mut session = proxy.client().session(QUAY).await;
    let listed = get(&mut session, "/v2/a/manifests/1", &[("accept", INDEX)]).await;
    assert_eq!(listed.header("docker-content-digest"), index.to_string());
    // A registry that converts for old clients answers them with the platform's own manifest.
    let headers = [("content-type", MANIFEST), ("docker-content-digest", &image.digest.to_string())]
        .map(|(n, v)| (n.to_owned(), v.to_owned()));
    let body = String::from_utf8(image.manifest.to_vec()).unwrap();
    let converted = registry.script("GET */manifests/1", Act::Answer { status: 200, headers: headers.to_vec(), body });
    let single = get(&mut session, "/v2/a/manifests/1", &[("accept", MANIFEST)]).await;
    assert_eq!(single.header("docker-content-digest"), image.digest.to_string());
    registry.unscript(converted);
    let asked = registry.requests().len();
    let listed = get(&mut session, "/v2/a/manifests/1", &[("accept", INDEX)]).await;
    let single = get(&mut session, "/v2/a/manifests/1", &[("accept", MANIFEST)]).await;
    assert_eq!(listed.header("docker-content-digest"), index.to_string());
    assert_eq!(single.header("docker-content-digest"), image.digest.to_string());
    assert_eq!(registry.requests().len(), asked, "both are fresh, each in its class");
}

#[tokio::test]
async fn a_head_is_answered_by_a_head_alone_also_in_http_2_and_where_it_is_refused() {
    let (registry, proxy) = quay().await;
    let digest = registry.push_manifest("a", None, MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    registry.script("*/refused/*", Act::Status(401));
    for client in [proxy.client(), proxy.client().h2()] {
        for (path, status) in [
            (format!("/v2/a/manifests/{digest}"), 200),
            (format!("/v2/refused/manifests/{digest}"), 401),
            ("/v2/a/manifests/none".to_owned(), 404),
            (format!("/v2/none/blobs/{digest}"), 404),
            ("/v2/a/tags/list".to_owned(), 404),
            ("/v2/".to_owned(), 200),
        ] {
            let mut session = client.session(QUAY).await;
            let answer = whole(session.send("HEAD", &path, &[], Body::empty()).await.unwrap()).await;
            assert_eq!(answer.status, status, "{path}");
            assert!(answer.body.as_ref().is_ok_and(|body| body.is_empty()), "{path}: {:?}", answer.body);
            assert_ne!(answer.header("content-length"), "0", "{path}: the GET's");
        }
    }
}
