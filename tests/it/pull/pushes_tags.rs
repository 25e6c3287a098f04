//! A tag that is written is unknown until the registry has told what came of it, and no answer from before that is believed.

use pullthrough::oci::{Algorithm, Digest};

use super::pushes::{manifest_of, pushing, reads, send};
use super::{QUAY, layer};
use crate::support::client::Session;
use crate::support::{Act, Gate, MANIFEST, Proxy, Registry, eventually, until};

const TYPE: [(&str, &str); 1] = [("content-type", MANIFEST)];

fn manifest(number: u8) -> String {
    manifest_of(&Digest::of(Algorithm::Sha256, &[number]))
}

async fn put(session: &mut Session, reference: &str, manifest: &str) -> u16 {
    send(session, "PUT", &format!("/v2/a/manifests/{reference}"), &TYPE, manifest.as_bytes()).await.status.as_u16()
}

/// What the tag `1` is by the proxy.
async fn tag(proxy: &Proxy) -> String {
    let got = proxy.client().get(QUAY, "/v2/a/manifests/1").await;
    assert_eq!(got.status, 200);
    String::from_utf8(got.bytes().to_vec()).unwrap()
}

/// The tag `1` is the first manifest, and a hit.
async fn known() -> (Registry, Proxy) {
    let (registry, proxy) = pushing().await;
    registry.push_manifest("a", Some("1"), MANIFEST, manifest(1));
    for _ in 0..2 {
        assert_eq!(tag(&proxy).await, manifest(1));
    }
    registry.forget();
    (registry, proxy)
}

/// Waits until the registry has begun to answer such a request.
async fn answered(registry: &Registry, method: &str) {
    eventually("it is being answered", || {
        registry.requests().iter().any(|seen| seen.method == method && seen.status == Some(200))
    })
    .await;
}

#[tokio::test]
async fn overlapping_pushes_of_a_tag_leave_it_unknown_and_pushes_one_after_the_other_do_not() {
    let (registry, proxy) = known().await;
    let gate = Gate::new();
    // The registry has taken the second manifest, and answers late; meanwhile it takes a third one.
    registry.script_times(1, "PUT */manifests/1", Act::Wait(gate.clone()));
    registry.script_times(
        1,
        "PUT */manifests/1",
        Act::Answer { status: 201, headers: Vec::new(), body: String::new() },
    );
    let mut first = proxy.client().session(QUAY).await;
    let putting = tokio::spawn(async move { put(&mut first, "1", &manifest(2)).await });
    eventually("the first push is there", || registry.count("PUT */manifests/1") == 1).await;
    let mut second = proxy.client().session(QUAY).await;
    assert_eq!(put(&mut second, "1", &manifest(3)).await, 201);
    gate.open();
    assert_eq!(putting.await.unwrap(), 201);
    for _ in 0..2 {
        assert_eq!(tag(&proxy).await, manifest(3));
    }
    assert_eq!(reads(&registry) + registry.count("HEAD */manifests/1"), 1);
    registry.forget();
    for number in [4, 5] {
        assert_eq!(put(&mut second, "1", &manifest(number)).await, 201);
        assert_eq!(tag(&proxy).await, manifest(number));
    }
    assert_eq!(reads(&registry), 0);
}

#[tokio::test]
async fn a_push_whose_outcome_nobody_knows_makes_its_tag_unknown() {
    for act in [Act::Status(504), Act::Status(500), Act::Status(408), Act::Reset] {
        let (registry, proxy) = known().await;
        registry.script_times(1, "PUT */manifests/1", act.clone());
        let mut session = proxy.client().session(QUAY).await;
        assert!(put(&mut session, "1", &manifest(2)).await >= 400, "{act:?}");
        assert_eq!(tag(&proxy).await, manifest(1), "{act:?}");
        // It takes effect only now.
        registry.push_manifest("a", Some("1"), MANIFEST, manifest(2));
        assert_eq!(tag(&proxy).await, manifest(2), "{act:?}");
    }
    // Its client leaves before the answer.
    let (registry, proxy) = known().await;
    registry.script("PUT */manifests/1", Act::Wait(Gate::new()));
    let mut session = proxy.client().session(QUAY).await;
    let leaving = tokio::spawn(async move { put(&mut session, "1", &manifest(2)).await });
    eventually("the push is there", || registry.count("PUT */manifests/1") == 1).await;
    registry.push_manifest("a", Some("1"), MANIFEST, manifest(2));
    leaving.abort();
    let _ = leaving.await;
    assert_eq!(tag(&proxy).await, manifest(2));
}

#[tokio::test]
async fn a_deletion_whose_outcome_nobody_knows_makes_unknown_what_it_names() {
    let digest = Digest::of(Algorithm::Sha256, manifest(1).as_bytes());
    for path in ["/v2/a/manifests/1".to_owned(), format!("/v2/a/manifests/{digest}")] {
        let (registry, proxy) = known().await;
        registry.script_times(1, "DELETE *", Act::Status(504));
        assert_eq!(proxy.client().session(QUAY).await.ask("DELETE", &path, &[]).await.status, 504);
        registry.remove("a", "1");
        registry.remove("a", &digest.to_string());
        assert_eq!(proxy.client().get(QUAY, "/v2/a/manifests/1").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_push_that_was_refused_or_never_sent_leaves_its_tag_known() {
    let (mut registry, proxy) = known().await;
    let mut session = proxy.client().session(QUAY).await;
    for status in [401, 403, 404, 429] {
        registry.script_times(1, "PUT */manifests/1", Act::Status(status));
        assert_eq!(put(&mut session, "1", &manifest(2)).await, status);
        assert_eq!(tag(&proxy).await, manifest(1));
    }
    registry.stop();
    let mut session = proxy.client().session(QUAY).await;
    until("no connection of before is left", async || put(&mut session, "2", &manifest(2)).await >= 500).await;
    for _ in 0..2 {
        assert!(put(&mut session, "1", &manifest(2)).await >= 500);
        assert_eq!(tag(&proxy).await, manifest(1));
    }
    assert_eq!(reads(&registry), 0);
}

#[tokio::test]
async fn tags_that_a_push_by_digest_lists_are_forgotten() {
    let (registry, proxy) = known().await;
    let digest = Digest::of(Algorithm::Sha256, manifest(2).as_bytes());
    let mut session = proxy.client().session(QUAY).await;
    assert_eq!(put(&mut session, &format!("{digest}?tag=2&tag=1"), &manifest(2)).await, 201);
    registry.push_manifest("a", Some("1"), MANIFEST, manifest(2));
    assert_eq!(tag(&proxy).await, manifest(2));
    registry.script_times(1, "PUT */manifests/*", Act::Header("oci-tag".to_owned(), "1".to_owned()));
    let digest = Digest::of(Algorithm::Sha256, manifest(3).as_bytes());
    assert_eq!(put(&mut session, &digest.to_string(), &manifest(3)).await, 201);
    registry.push_manifest("a", Some("1"), MANIFEST, manifest(3));
    assert_eq!(tag(&proxy).await, manifest(3));
}

#[tokio::test]
async fn an_answer_from_before_a_deletion_is_not_believed_after_it() {
    let bytes = layer(100_000, 1);
    let (blob, digest) = (Digest::of(Algorithm::Sha256, &bytes), Digest::of(Algorithm::Sha256, manifest(1).as_bytes()));
    let of_blob = format!("/v2/a/blobs/{blob}");
    let of_digest = format!("/v2/a/manifests/{digest}");
    let of_tag = "/v2/a/manifests/1".to_owned();
    for (read, deleted) in [(&of_tag, &of_tag), (&of_tag, &of_digest), (&of_digest, &of_digest), (&of_blob, &of_blob)] {
        let (registry, proxy) = pushing().await;
        registry.push_manifest("a", Some("1"), MANIFEST, manifest(1));
        registry.push_blob("a", bytes.clone());
        let gate = Gate::new();
        let line = registry.script(&format!("GET {read}"), Act::Hold(10, gate.clone()));
        let (client, path) = (proxy.client(), read.clone());
        let reading = tokio::spawn(async move { client.get(QUAY, &path).await.status.as_u16() });
        answered(&registry, "GET").await;
        registry.unscript(line);
        assert_eq!(proxy.client().session(QUAY).await.ask("DELETE", deleted, &[]).await.status, 202);
        if *deleted == of_digest {
            registry.remove("a", "1");
        }
        gate.open();
        // Either is true of a question that a deletion came across.
        let status = reading.await.unwrap();
        assert!(matches!(status, 200 | 404), "{status} {read} {deleted}");
        for method in ["HEAD", "GET"] {
            let status = proxy.client().session(QUAY).await.ask(method, read, &[]).await.status;
            assert_eq!(status, 404, "{method} {read} {deleted}");
        }
    }
}

#[tokio::test]
async fn an_answer_from_before_a_push_is_not_believed_after_it() {
    let (registry, proxy) = pushing().await;
    registry.push_manifest("a", Some("1"), MANIFEST, manifest(1));
    let gate = Gate::new();
    let line = registry.script("GET */manifests/1", Act::Hold(10, gate.clone()));
    let client = proxy.client();
    let reading = tokio::spawn(async move { client.get(QUAY, "/v2/a/manifests/1").await.bytes().clone() });
    answered(&registry, "GET").await;
    registry.unscript(line);
    let mut session = proxy.client().session(QUAY).await;
    assert_eq!(put(&mut session, "1", &manifest(2)).await, 201);
    // Who asks after the push is not told what is answered to who asked before.
    assert_eq!(tag(&proxy).await, manifest(2));
    gate.open();
    assert_eq!(reading.await.unwrap(), manifest(1).as_bytes());
    assert_eq!(tag(&proxy).await, manifest(2));
    assert_eq!(registry.count("GET */manifests/1"), 1);
}
